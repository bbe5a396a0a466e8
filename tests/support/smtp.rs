//! A mail server for tests: it speaks SMTP (RFC 5321) on a loopback socket, refuses what it is told to, and keeps
//! what came.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// One mail that came.
#[derive(Clone, Debug)]
pub(crate) struct Mail {
    /// Whom it is for.
    pub(crate) to: String,
    /// Headers and body, as they came.
    pub(crate) data: String,
}

impl Mail {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut lines = self.data.lines();
        let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        found.unwrap_or_default().trim()
    }
}

/// The server.
#[derive(Clone, Default)]
pub(crate) struct Smtp {
    got: Arc<Mutex<Vec<Mail>>>,
    /// So many recipients are refused, for now.
    refusals: Arc<AtomicUsize>,
}

impl Smtp {
    /// Listens, and refuses so many recipients at first. Returns its port too.
    pub(crate) async fn listen(refusals: usize) -> Result<(Self, u16)> {
        let server = Self::default();
        server.refusals.store(refusals, Ordering::SeqCst);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let shared = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = shared.clone();
                tokio::spawn(async move { server.talk(stream).await });
            }
        });
        Ok((server, port))
    }

    /// What came so far.
    pub(crate) fn got(&self) -> Vec<Mail> {
        let got = self.got.lock().unwrap_or_else(PoisonError::into_inner);
        got.clone()
    }

    /// How many recipients are still to be refused.
    pub(crate) fn refusals_left(&self) -> usize {
        self.refusals.load(Ordering::SeqCst)
    }

    async fn talk(&self, stream: TcpStream) -> Result<()> {
        let mut stream = BufReader::new(stream);
        stream.write_all(b"220 sink\r\n").await?;
        let mut to = String::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let line = line.trim_end();
            let verb = line.split(' ').next().unwrap_or("").to_ascii_uppercase();
            let refuse = || {
                let next = |left: usize| left.checked_sub(1);
                self.refusals
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, next)
                    .is_ok()
            };
            let answer = match verb.as_str() {
                "RCPT" if refuse() => "451 later",
                "RCPT" => {
                    line.clone_into(&mut to);
                    "250 ok"
                }
                "DATA" => {
                    stream.write_all(b"354 go on\r\n").await?;
                    let mut data = String::new();
                    loop {
                        let mut line = String::new();
                        if stream.read_line(&mut line).await? == 0 {
                            return Ok(());
                        }
                        if line.trim_end() == "." {
                            break;
                        }
                        data.push_str(&line);
                    }
                    let mut got = self.got.lock().unwrap_or_else(PoisonError::into_inner);
                    got.push(Mail {
                        to: to.clone(),
                        data,
                    });
                    "250 kept"
                }
                "QUIT" => {
                    stream.write_all(b"221 bye\r\n").await?;
                    return Ok(());
                }
                _ => "250 ok",
            };
            stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
        }
    }
}
