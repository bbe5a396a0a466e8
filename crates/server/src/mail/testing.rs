//! A mail server for tests: it speaks SMTP on a real socket, encrypted from the first byte or by STARTTLS, and with
//! AUTH, where it is told to, and keeps what came.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::settings::mail::{MailSettings, SmtpServer, SmtpTls};

/// Mail by such a server.
pub(crate) fn settings(port: u16) -> MailSettings {
    MailSettings {
        server: SmtpServer {
            host: "127.0.0.1".into(),
            port,
            tls: SmtpTls::IfOffered,
        },
        from: "Keywright <keys@example.org>".into(),
        login: None,
        ca: None,
    }
}

/// A certificate of its own; writes it down for whoever is to trust it.
fn acceptor(certificate: &Path) -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(certificate, made.cert.pem()).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Asks for one word.
async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut BufReader<S>,
    question: &str,
) -> String {
    stream.write_all(question.as_bytes()).await.unwrap();
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    String::from_utf8(STANDARD.decode(line.trim_end()).unwrap()).unwrap()
}

/// One mail that came.
#[derive(Clone, Debug)]
pub(crate) struct Mail {
    pub(crate) from: String,
    pub(crate) to: String,
    /// Headers and body, as they came.
    pub(crate) data: String,
    pub(crate) encrypted: bool,
    /// User and password, where they were sent.
    pub(crate) login: Option<String>,
}

/// The server.
#[derive(Clone, Default)]
pub(crate) struct Sink {
    got: Arc<Mutex<Vec<Mail>>>,
    /// Answers to the next `RCPT TO`s, in place of 250.
    refusals: Arc<Mutex<VecDeque<&'static str>>>,
    tls: Option<TlsAcceptor>,
    /// Encrypted from the first byte (RFC 8314).
    at_once: bool,
    ask_login: bool,
    /// User and password one after the other (AUTH LOGIN), in place of both at once (AUTH PLAIN, RFC 4616).
    one_by_one: bool,
    /// What it is silent after, for good: `""` is being connected to, `STARTTLS` its own agreement.
    silent_after: Option<&'static str>,
    /// How long it takes before it says that it has the mail.
    takes: Duration,
    came: Arc<AtomicUsize>,
}

impl Sink {
    /// Without encryption, unless it hangs in it; it goes on holding the connection and says nothing after this.
    pub(crate) async fn silent(after: &'static str, certificate: &Path) -> (Self, u16) {
        let sink = Self {
            silent_after: Some(after),
            tls: (after == "STARTTLS").then(|| acceptor(certificate)),
            ..Self::default()
        };
        sink.listen().await
    }

    /// Without encryption; it takes so long with a mail, and says no goodbye.
    pub(crate) async fn slow_and_silent(takes: Duration) -> (Self, u16) {
        let sink = Self {
            silent_after: Some("QUIT"),
            takes,
            ..Self::default()
        };
        sink.listen().await
    }

    /// How many connections came.
    pub(crate) fn connections(&self) -> usize {
        self.came.load(Ordering::Relaxed)
    }

    /// Without encryption. Returns its port too.
    pub(crate) async fn plain() -> (Self, u16) {
        Self::default().listen().await
    }

    /// Without encryption, and it asks for a password all the same.
    pub(crate) async fn greedy() -> (Self, u16) {
        let sink = Self {
            ask_login: true,
            ..Self::default()
        };
        sink.listen().await
    }

    /// With STARTTLS, and AUTH after it. Writes the certificate that it is known by.
    pub(crate) async fn with_tls(certificate: &Path) -> (Self, u16) {
        let sink = Self {
            tls: Some(acceptor(certificate)),
            ask_login: true,
            ..Self::default()
        };
        sink.listen().await
    }

    /// Encrypted from the first byte, and it knows AUTH LOGIN alone. Writes the certificate that it is known by.
    pub(crate) async fn with_tls_at_once(certificate: &Path) -> (Self, u16) {
        let sink = Self {
            tls: Some(acceptor(certificate)),
            at_once: true,
            ask_login: true,
            one_by_one: true,
            ..Self::default()
        };
        sink.listen().await
    }

    async fn listen(self) -> (Self, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let sink = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sink = sink.clone();
                sink.came.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    if sink.silent_after == Some("") {
                        let _held = stream;
                        return std::future::pending().await;
                    }
                    if let (true, Some(tls)) = (sink.at_once, &sink.tls) {
                        // Whoever speaks in clear text is answered nothing.
                        if let Ok(stream) = tls.accept(stream).await {
                            let mut stream = BufReader::new(stream);
                            stream.write_all(b"220 sink\r\n").await.unwrap();
                            sink.talk(&mut stream, true).await;
                        }
                        return;
                    }
                    let mut stream = BufReader::new(stream);
                    stream.write_all(b"220 sink\r\n").await.unwrap();
                    if sink.talk(&mut stream, false).await
                        && let Some(tls) = &sink.tls
                        && let Ok(stream) = tls.accept(stream.into_inner()).await
                    {
                        sink.talk(&mut BufReader::new(stream), true).await;
                    }
                });
            }
        });
        (self, port)
    }

    pub(crate) fn refuse(&self, answers: &[&'static str]) {
        self.refusals.lock().unwrap().extend(answers);
    }

    /// What came since the last time.
    pub(crate) fn take(&self) -> Vec<Mail> {
        std::mem::take(&mut self.got.lock().unwrap())
    }

    /// Returns whether encryption is to begin.
    async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut BufReader<S>,
        encrypted: bool,
    ) -> bool {
        let (mut from, mut to, mut login) = (String::new(), String::new(), None);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return false;
            }
            let line = line.trim_end();
            let verb = line.split(' ').next().unwrap_or("").to_ascii_uppercase();
            if self.silent_after == Some(verb.as_str()) && verb != "STARTTLS" {
                std::future::pending::<()>().await;
            }
            let answer = match verb.as_str() {
                "EHLO" if self.tls.is_some() && !encrypted => "250-sink\r\n250 STARTTLS",
                "EHLO" if self.one_by_one => "250-sink\r\n250 AUTH LOGIN",
                "EHLO" if self.ask_login => "250-sink\r\n250 AUTH PLAIN",
                "EHLO" => "250 sink",
                "STARTTLS" => {
                    stream.write_all(b"220 go on\r\n").await.unwrap();
                    if self.silent_after == Some("STARTTLS") {
                        std::future::pending::<()>().await;
                    }
                    return true;
                }
                "AUTH" if self.one_by_one => {
                    if line == "AUTH LOGIN" {
                        // "Username:" and "Password:", as servers ask.
                        let user = ask(stream, "334 VXNlcm5hbWU6\r\n").await;
                        let password = ask(stream, "334 UGFzc3dvcmQ6\r\n").await;
                        login = Some(format!("|{user}|{password}"));
                        "235 welcome"
                    } else {
                        "504 not this way"
                    }
                }
                "AUTH" => {
                    let text = line.rsplit(' ').next().unwrap();
                    let plain = STANDARD.decode(text).unwrap();
                    login = Some(String::from_utf8(plain).unwrap().replace('\0', "|"));
                    "235 welcome"
                }
                "MAIL" if self.ask_login && login.is_none() => "530 who are you",
                "MAIL" => {
                    line.clone_into(&mut from);
                    "250 ok"
                }
                "RCPT" => match self.refusals.lock().unwrap().pop_front() {
                    Some(refusal) => refusal,
                    None => {
                        line.clone_into(&mut to);
                        "250 ok"
                    }
                },
                "DATA" => {
                    stream.write_all(b"354 go on\r\n").await.unwrap();
                    let mut data = String::new();
                    loop {
                        let mut line = String::new();
                        stream.read_line(&mut line).await.unwrap();
                        if line.trim_end() == "." {
                            break;
                        }
                        data.push_str(&line);
                    }
                    self.got.lock().unwrap().push(Mail {
                        from: from.clone(),
                        to: to.clone(),
                        data,
                        encrypted,
                        login: login.clone(),
                    });
                    tokio::time::sleep(self.takes).await;
                    "250 kept"
                }
                "QUIT" => {
                    let _ = stream.write_all(b"221 bye\r\n").await;
                    return false;
                }
                _ => "250 ok",
            };
            if stream
                .write_all(format!("{answer}\r\n").as_bytes())
                .await
                .is_err()
            {
                return false;
            }
        }
    }
}
