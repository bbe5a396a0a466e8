//! HTTP/1.1 over connections that stay open, as cheap as it can be: the asking side must not be what is
//! measured.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// One connection, with the answer it read last.
pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
    body: std::ops::Range<usize>,
}

impl Connection {
    pub(crate) async fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            read: Vec::with_capacity(16 * 1024),
            body: 0..0,
        })
    }

    /// Asks, and reads the whole answer. Returns its status.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<u16> {
        self.stream.write_all(request).await?;
        self.read.clear();
        let (status, length, head) = loop {
            if let Some(head) = head(&self.read)? {
                break head;
            }
            self.more().await?;
        };
        let is_chunked = || {
            let text = String::from_utf8_lossy(&self.read[..head]);
            text.to_ascii_lowercase().contains("chunked")
        };
        let end = match (length, status) {
            (Some(length), _) => head + length,
            (None, 204) => head,
            (None, _) if is_chunked() => {
                while !self.read.ends_with(b"0\r\n\r\n") {
                    self.more().await?;
                }
                self.read.len()
            }
            (None, _) => bail!("an answer without an end"),
        };
        while self.read.len() < end {
            self.more().await?;
        }
        self.body = head..end;
        Ok(status)
    }

    async fn more(&mut self) -> Result<()> {
        match self.stream.read_buf(&mut self.read).await? {
            0 => bail!("the connection was closed"),
            _ => Ok(()),
        }
    }

    /// A header of the last answer.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let head = std::str::from_utf8(&self.read[..self.body.start]).ok()?;
        head.lines().find_map(|line| {
            let (own, value) = line.split_once(": ")?;
            own.eq_ignore_ascii_case(name).then(|| value.to_owned())
        })
    }

    /// The body of the last answer.
    pub(crate) fn body(&self) -> &[u8] {
        &self.read[self.body.clone()]
    }
}

/// Status, length if it is told, and where the body begins; nothing while the head is not whole.
pub(crate) fn head(answer: &[u8]) -> Result<Option<(u16, Option<usize>, usize)>> {
    let Some(end) = find(answer, b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&answer[..end + 4])?;
    let status = text.get(9..12).context("no status")?.parse()?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    Ok(Some((status, length, end + 4)))
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

/// A request's bytes.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// What a connection asks next, from its number, its turn and what it was answered last.
pub(crate) type Next = std::sync::Arc<dyn Fn(usize, usize, &[u8]) -> Vec<u8> + Send + Sync>;

/// What the body of a right answer contains, and how often at least. A refused key is told with status 200 as an
/// accepted one is, and is told faster: a status alone would let a run of refusals pass for a good one.
#[derive(Clone, Copy)]
pub(crate) struct Says {
    pub(crate) text: &'static str,
    pub(crate) times: usize,
}

impl Says {
    /// Where the status says everything.
    pub(crate) const ANYTHING: Self = Self { text: "", times: 0 };
    /// One key is accepted.
    pub(crate) const VALID: Self = Self::once("\"code\":\"valid\"");

    pub(crate) const fn once(text: &'static str) -> Self {
        Self { text, times: 1 }
    }

    pub(crate) fn is_in(self, body: &[u8]) -> bool {
        let mut places = body.windows(self.text.len().max(1));
        let found = |_| places.any(|place| place == self.text.as_bytes());
        (0..self.times).all(found)
    }
}

/// Somebody who is asked: an address, what is asked, and the answer that counts as right.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: String,
    pub(crate) next: Next,
    pub(crate) status: u16,
    pub(crate) says: Says,
}

impl Target {
    /// The same request each time.
    pub(crate) fn same(address: &str, request: Vec<u8>, status: u16) -> Self {
        Self {
            address: address.to_owned(),
            next: std::sync::Arc::new(move |_, _, _| request.clone()),
            status,
            says: Says::ANYTHING,
        }
    }

    /// The same, whose answers say this.
    pub(crate) fn saying(self, says: Says) -> Self {
        Self { says, ..self }
    }

    /// Fails for an answer that is not the right one. The status is looked at for each answer; the body, since that
    /// costs the asking side time, for the first and the last answer of a connection in a slice.
    pub(crate) fn accepts(&self, status: u16, body: &[u8], look: bool) -> Result<()> {
        if status != self.status || (look && !self.says.is_in(body)) {
            let Says { text, times } = self.says;
            bail!(
                "answered {status}, expected {} and {text:?} {times} times: {}",
                self.status,
                String::from_utf8_lossy(body)
            );
        }
        Ok(())
    }
}

/// Connections to one target, kept between slices.
pub(crate) struct Lines {
    target: Target,
    lines: Vec<(Connection, usize)>,
}

impl Lines {
    pub(crate) async fn open(target: &Target, count: usize) -> Result<Self> {
        let mut lines = Vec::with_capacity(count);
        for _ in 0..count {
            lines.push((Connection::open(&target.address).await?, 0));
        }
        Ok(Self {
            target: target.clone(),
            lines,
        })
    }

    /// As many as the target can, for a while. Returns answers a second.
    pub(crate) async fn closed(&mut self, slice: Duration) -> Result<f64> {
        let began = Instant::now();
        let end = began + slice;
        // The asking side never sleeps. Otherwise a server that is slower than it has to wake it for
        // every answer, which in a virtual machine costs the server more than the answer; one that is
        // faster finds it awake, and the ratio of the two would be mostly that.
        tokio::spawn(async move {
            while Instant::now() < end {
                tokio::task::yield_now().await;
            }
        });
        let mut tasks = tokio::task::JoinSet::new();
        for (at, (mut line, mut turn)) in self.lines.drain(..).enumerate() {
            let target = self.target.clone();
            tasks.spawn(async move {
                let mut answers = 0_usize;
                while Instant::now() < end {
                    let request = (target.next)(at, turn, line.body());
                    let status = line.ask(&request).await?;
                    target.accepts(status, line.body(), answers == 0)?;
                    turn += 1;
                    answers += 1;
                }
                if answers > 0 {
                    target.accepts(target.status, line.body(), true)?;
                }
                anyhow::Ok((at, line, turn, answers))
            });
        }
        let mut total = 0;
        let mut back = Vec::new();
        while let Some(done) = tasks.join_next().await {
            let (at, line, turn, answers) = done??;
            back.push((at, line, turn));
            total += answers;
        }
        back.sort_by_key(|(at, _, _)| *at);
        self.lines = back
            .into_iter()
            .map(|(_, line, turn)| (line, turn))
            .collect();
        Ok(total as f64 / began.elapsed().as_secs_f64())
    }

    /// So many a second, whether or not answers come. Latencies in µs, counted from when a request was
    /// due, so that waiting behind a slow one is not left out.
    pub(crate) async fn open_loop(&mut self, rate: f64, slice: Duration) -> Result<Vec<f64>> {
        let began = Instant::now();
        let count = self.lines.len();
        let mut tasks = tokio::task::JoinSet::new();
        for (at, (mut line, mut turn)) in self.lines.drain(..).enumerate() {
            let target = self.target.clone();
            tasks.spawn(async move {
                let mut took = Vec::new();
                for slot in 0.. {
                    let due = (slot * count + at) as f64 / rate;
                    if due > slice.as_secs_f64() {
                        break;
                    }
                    let due = began + Duration::from_secs_f64(due);
                    // The timer's grain is a millisecond: too coarse here.
                    while Instant::now() < due {
                        tokio::task::yield_now().await;
                    }
                    let request = (target.next)(at, turn, line.body());
                    let status = line.ask(&request).await?;
                    let since = due.elapsed();
                    target.accepts(status, line.body(), took.is_empty())?;
                    turn += 1;
                    took.push(since.as_secs_f64() * 1e6);
                }
                if !took.is_empty() {
                    target.accepts(target.status, line.body(), true)?;
                }
                anyhow::Ok((at, line, turn, took))
            });
        }
        let (mut all, mut back) = (Vec::new(), Vec::new());
        while let Some(done) = tasks.join_next().await {
            let (at, line, turn, took) = done??;
            back.push((at, line, turn));
            all.extend(took);
        }
        back.sort_by_key(|(at, _, _)| *at);
        self.lines = back
            .into_iter()
            .map(|(_, line, turn)| (line, turn))
            .collect();
        Ok(all)
    }
}
