//! More than can be answered. Requests are sent when they are due, whatever is outstanding, as a crowd does that knows
//! nothing of each other; an answer counts if it comes within a second.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::MissedTickBehavior;

use crate::cases::{Bench, CONNECTIONS, SLICE, median, one, round, round2, tell};
use crate::whole::cpu;
use crate::wire::{Lines, Target, head};

/// Connections. One asks again before it was answered when its turn comes.
const CROWD: usize = 2_048;
/// How long more than can be answered is asked for.
const SENDING: Duration = Duration::from_secs(2);
/// Whoever waits longer is gone.
const DEADLINE: Duration = Duration::from_secs(1);
/// So long the sender sleeps when nothing is due: it never spins.
const TICK: Duration = Duration::from_millis(1);
/// So many are sent before answers are read.
const AT_ONCE: usize = 16;
/// One answer of so many is looked into.
const LOOK: usize = 16;
/// Less than this share of what was meant to be asked is no overload: the asking side could not.
const ENOUGH: f64 = 0.95;

/// What came back while it was asked.
#[derive(Default)]
struct Counts {
    in_time: AtomicUsize,
    late: AtomicUsize,
    refused: AtomicUsize,
}

impl Counts {
    fn add(counter: &AtomicUsize) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn a_second(counter: &AtomicUsize) -> f64 {
        counter.load(Ordering::Relaxed) as f64 / SENDING.as_secs_f64()
    }
}

/// Medians are made of these, one a turn.
#[derive(Default)]
struct Figures {
    peak: Vec<f64>,
    sent: Vec<f64>,
    in_time: Vec<f64>,
    late: Vec<f64>,
    refused: Vec<f64>,
    server_busy: Vec<f64>,
    asking_busy: Vec<f64>,
}

impl Bench<'_> {
    /// Answers in time at twice the peak, beside the peak.
    pub(crate) async fn overload(&self) -> Result<()> {
        let target = self.verify(one);
        let mut few = Lines::open(&target, CONNECTIONS).await?;
        let mut figures = Figures::default();
        for turn in 0..=self.rounds {
            let peak = few.closed(SLICE * 4).await?;
            let mut of_this_turn = Figures::default();
            of_this_turn.peak.push(peak);
            self.crowd(&target, 2.0 * peak, &mut of_this_turn).await?;
            if turn > 0 {
                figures.add(of_this_turn);
            }
            quiet(self.process).await?;
        }
        let (value, baseline) = (median(&mut figures.in_time), median(&mut figures.peak));
        let sent = median(&mut figures.sent);
        let mut line = json!({
            "case": "goodput_overload", "value": round(value), "unit": "/s", "baseline": round(baseline),
            "baseline_is": "32 connections, each asking when it was answered", "ratio": round2(value / baseline),
            "offered_a_second": round(sent), "offered_to_peak": round2(sent / baseline),
            "late_a_second": round(median(&mut figures.late)),
            "refused_a_second": round(median(&mut figures.refused)),
            "server_busy": round2(median(&mut figures.server_busy)),
            "asking_busy": round2(median(&mut figures.asking_busy)),
            "note": "2 s of it over 2,048 connections; what is answered within 1 s counts",
        });
        if sent < 2.0 * baseline * ENOUGH {
            line["void"] = json!("the asking side could not ask for twice the peak");
        }
        tell(line);
        Ok(())
    }

    async fn crowd(&self, target: &Target, rate: f64, figures: &mut Figures) -> Result<()> {
        let counts = Arc::new(Counts::default());
        let (mut lines, mut readers) = (Vec::new(), tokio::task::JoinSet::new());
        for _ in 0..CROWD {
            let stream = TcpStream::connect(&target.address).await?;
            stream.set_nodelay(true)?;
            let (read, write) = stream.into_split();
            let waiting = Arc::new(Mutex::new(VecDeque::new()));
            let (target, counts) = (target.clone(), Arc::clone(&counts));
            readers.spawn(answers(read, Arc::clone(&waiting), target, counts));
            lines.push(Line {
                write,
                waiting,
                unsent: Vec::new(),
            });
        }
        let own = std::process::id();
        let (server, asking) = (cpu(self.process)?, cpu(own)?);
        let sent = send(&mut lines, target, rate).await?;
        let seconds = SENDING.as_secs_f64();
        figures
            .server_busy
            .push((cpu(self.process)? - server) / seconds);
        figures.asking_busy.push((cpu(own)? - asking) / seconds);
        figures.sent.push(sent as f64 / seconds);
        figures.in_time.push(Counts::a_second(&counts.in_time));
        figures.late.push(Counts::a_second(&counts.late));
        figures.refused.push(Counts::a_second(&counts.refused));
        // A reader ends for a wrong answer only; the others are stopped here.
        while let Some(done) = readers.try_join_next() {
            done??;
        }
        Ok(())
    }
}

impl Figures {
    fn add(&mut self, turn: Self) {
        self.peak.extend(turn.peak);
        self.sent.extend(turn.sent);
        self.in_time.extend(turn.in_time);
        self.late.extend(turn.late);
        self.refused.extend(turn.refused);
        self.server_busy.extend(turn.server_busy);
        self.asking_busy.extend(turn.asking_busy);
    }
}

/// When each of the requests that are not answered yet was due, the oldest first.
type Waiting = Arc<Mutex<VecDeque<Instant>>>;

/// The sending half of a connection.
struct Line {
    write: OwnedWriteHalf,
    waiting: Waiting,
    /// What the system did not take: it goes before the next one.
    unsent: Vec<u8>,
}

impl Line {
    fn send(&mut self, request: &[u8], due: Instant) -> Result<()> {
        self.waiting.lock().unwrap().push_back(due);
        if self.unsent.is_empty() {
            let taken = self.take(request)?;
            self.unsent.extend_from_slice(&request[taken..]);
        } else {
            self.unsent.extend_from_slice(request);
            let taken = self.take(&self.unsent)?;
            self.unsent.drain(..taken);
        }
        Ok(())
    }

    /// How much of it the system takes now.
    fn take(&self, bytes: &[u8]) -> Result<usize> {
        match self.write.try_write(bytes) {
            Ok(taken) => Ok(taken),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error).context("a connection of the crowd"),
        }
    }
}

/// Sends what is due, over each connection in turn. Returns how many.
async fn send(lines: &mut [Line], target: &Target, rate: f64) -> Result<usize> {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (began, mut sent) = (Instant::now(), 0);
    while began.elapsed() < SENDING {
        let due = (began.elapsed().as_secs_f64() * rate) as usize;
        while sent < due && began.elapsed() < SENDING {
            for _ in 0..AT_ONCE.min(due - sent) {
                let at = sent % lines.len();
                let request = (target.next)(at, sent / lines.len(), b"");
                let when = began + Duration::from_secs_f64(sent as f64 / rate);
                lines[at].send(&request, when)?;
                sent += 1;
            }
            tokio::task::yield_now().await;
        }
        tick.tick().await;
    }
    Ok(sent)
}

/// Reads answers, of which several may come together, until it is stopped.
async fn answers(
    mut read: OwnedReadHalf,
    waiting: Waiting,
    target: Target,
    counts: Arc<Counts>,
) -> Result<()> {
    let (mut text, mut turn) = (Vec::with_capacity(4 * 1024), 0_usize);
    loop {
        if read.read_buf(&mut text).await? == 0 {
            bail!("the server closed a connection of the crowd");
        }
        let mut begin = 0;
        while let Some((status, length, body)) = head(&text[begin..])? {
            let end = begin + body + length.context("an answer without a length")?;
            if text.len() < end {
                break;
            }
            let due = waiting.lock().unwrap().pop_front();
            let due = due.context("an answer that nobody asked for")?;
            if status != target.status {
                Counts::add(&counts.refused);
            } else if due.elapsed() > DEADLINE {
                Counts::add(&counts.late);
            } else {
                target.accepts(status, &text[begin + body..end], turn.is_multiple_of(LOOK))?;
                Counts::add(&counts.in_time);
            }
            (begin, turn) = (end, turn + 1);
        }
        text.drain(..begin);
    }
}

/// Waits until the server has done with what it had read already: less than a twentieth of its core.
async fn quiet(process: u32) -> Result<()> {
    const LOOK_AGAIN: Duration = Duration::from_millis(400);
    for _ in 0..50 {
        let before = cpu(process)?;
        tokio::time::sleep(LOOK_AGAIN).await;
        if cpu(process)? - before <= LOOK_AGAIN.as_secs_f64() / 20.0 {
            return Ok(());
        }
    }
    bail!("the server is still at work long after the crowd is gone")
}
