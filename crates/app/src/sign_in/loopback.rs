//! The loopback listener (RFC 8252 §7.3): one port, bound once, open while a sign-in is pending.
//! It looks at `GET /callback` with the right `Host` and nothing else, within tight limits.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::answers::{Answering, respond};
use super::callback::Inbox;
use super::error::SignInError;
use super::pages::Ending;

/// A browser needs two or three.
const MOST_CONNECTIONS: usize = 16;
/// Request line and headers.
const HEADER_BYTES: usize = 16 * 1024;
const HEADER_TIME: Duration = Duration::from_secs(5);
/// How long the result page waits to be fetched once the sign-in has ended.
const LINGER: Duration = Duration::from_secs(3);
const FLUSH: Duration = Duration::from_millis(50);

/// A port of this machine that is listened on, not answering yet.
#[derive(Debug)]
pub(crate) struct BoundPort {
    socket: TcpListener,
    address: SocketAddr,
}

impl BoundPort {
    /// Binds 127.0.0.1, or `[::1]` where that is impossible. Never `localhost`, which may be
    /// resolved elsewhere, and never all interfaces.
    pub(crate) async fn bind(fixed: Option<u16>) -> Result<Self, SignInError> {
        let port = fixed.unwrap_or(0);
        let socket = match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                TcpListener::bind((Ipv6Addr::LOCALHOST, port)).await
            }
            bound => bound,
        };
        let socket = socket.map_err(|error| match fixed {
            Some(port) => SignInError::PortUnavailable(port),
            None => SignInError::ListenerFailed(error.kind().to_string()),
        })?;
        let address = socket
            .local_addr()
            .map_err(|error| SignInError::ListenerFailed(error.kind().to_string()))?;
        Ok(Self { socket, address })
    }

    /// The redirect address with its real port.
    pub(crate) fn redirect_uri(&self) -> String {
        format!("http://{}/callback", self.address)
    }

    /// Starts answering.
    pub(crate) fn serve(self, inbox: Arc<Inbox>) -> Listener {
        let (ending, watched) = watch::channel(None);
        let stop = CancellationToken::new();
        let shared = Arc::new(Answering::new(self.address.to_string(), inbox, watched));
        let task = tokio::spawn(accept(self.socket, Arc::clone(&shared), stop.clone()));
        Listener {
            shared,
            ending,
            stop,
            task,
        }
    }
}

/// The listener at work. Dropped, it stops; [`Listener::close`] waits until the port is free.
pub(crate) struct Listener {
    shared: Arc<Answering>,
    ending: watch::Sender<Option<Ending>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Listener {
    /// Stops at once; afterwards the port refuses connections.
    pub(crate) async fn close(mut self) {
        self.stop.cancel();
        let _stopped = (&mut self.task).await;
    }

    /// Tells the browser's page how it ended, and stops when the page has been delivered.
    pub(crate) async fn finish(self, ending: Ending, hurry: CancellationToken) {
        self.ending.send_replace(Some(ending));
        tokio::select! {
            // A moment more for the last bytes to leave.
            () = self.shared.delivered() => tokio::time::sleep(FLUSH).await,
            () = tokio::time::sleep(LINGER) => {}
            () = hurry.cancelled() => {}
        }
        hurry.cancel();
        self.close().await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(socket: TcpListener, shared: Arc<Answering>, stop: CancellationToken) {
    // Dropped together with this task: no connection outlives the listener.
    let mut connections = JoinSet::new();
    let mut open: VecDeque<(AbortHandle, Arc<AtomicBool>)> = VecDeque::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_ended) = connections.join_next() => open.retain(|(task, _)| !task.is_finished()),
            accepted = socket.accept() => match accepted {
                Ok((stream, _peer)) => {
                    make_room(&mut open);
                    let awaited = Arc::new(AtomicBool::new(false));
                    let task = connections.spawn(serve_one(stream, Arc::clone(&shared), Arc::clone(&awaited)));
                    open.push_back((task, awaited));
                }
                Err(error) => {
                    tracing::warn!(kind = %error.kind(), "loopback accept failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
    drop(socket);
    connections.shutdown().await;
}

/// Many idle connections must not keep the browser out: the oldest idle one makes room.
fn make_room(open: &mut VecDeque<(AbortHandle, Arc<AtomicBool>)>) {
    if open.len() < MOST_CONNECTIONS {
        return;
    }
    let idle = open
        .iter()
        .position(|(_, awaited)| !awaited.load(Ordering::Relaxed))
        .unwrap_or(0);
    if let Some((task, _)) = open.remove(idle) {
        task.abort();
    }
}

async fn serve_one(stream: TcpStream, shared: Arc<Answering>, awaited: Arc<AtomicBool>) {
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        let awaited = Arc::clone(&awaited);
        async move { respond(&shared, &request, &awaited) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(HEADER_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // Whatever a stranger did wrong is of no interest.
    let _ended = connection.await;
}
