//! Taking connections: https, limits on headers and their time, and draining at the end.

mod dates;
mod door;
mod tls;

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::BoxError;
use axum::body::HttpBody;
use axum::extract::ConnectInfo;
use axum::http::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use crate::Server;
use crate::operations::{self, front::Front};
use crate::server::App;
pub use dates::{CertificateDates, CertificateState};
use tls::Tls;
pub use tls::{TlsError, check_certificate};

/// A client that sends its headers slower than this is not served.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// So long after the last connection was taken nothing is closed that may be asked on.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// What is wrong with the certificate's dates is said so often.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const LARGEST_HEAD: usize = 64 * 1024;
/// So many connections at once; more wait.
const CONNECTIONS: usize = 10_000;
/// Probes and collectors are few.
const MACHINE_CONNECTIONS: usize = 64;

/// Why serving ended early.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The socket failed.
    #[error("connections cannot be taken: {0}")]
    Socket(#[from] std::io::Error),
    /// The certificate is no good.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Serves until `stop`, then lets requests in progress end. With a certificate in the settings it
/// serves https. On SIGHUP it reads the certificate, the signing keys and the peppers again.
///
/// # Errors
/// [`ServeError`].
pub async fn serve(
    server: &Server,
    listener: TcpListener,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let settings = server.settings();
    let tls = match &settings.tls {
        Some((cert, key)) => Some(Arc::new(Tls::load(cert, key)?)),
        None => None,
    };
    reload_on_hangup(Arc::clone(server.parts()), tls.clone(), stop.clone())?;
    let refuse = CancellationToken::new();
    let begin = {
        let (stop, refuse) = (stop.clone(), refuse.clone());
        let (app, notice) = (Arc::clone(server.parts()), settings.drain_notice);
        tokio::spawn(async move {
            stop.cancelled().await;
            // Whoever spreads requests sees it, and sends them elsewhere, before any is refused.
            app.operations.drain();
            tokio::time::sleep(notice).await;
            refuse.cancel();
        })
    };
    let front = Arc::new(Front::new(server.parts(), server.router()));
    let answer = move |address, request| {
        let front = Arc::clone(&front);
        async move { Ok(front.answer(Some(address), request).await) }
    };
    let places = Places {
        most: CONNECTIONS,
        open: server.parts().operations.metrics.connections(),
    };
    take(answer, listener, tls, refuse, places, settings.drain).await;
    begin.abort();
    operations::telemetry::flush(server.parts()).await;
    Ok(())
}

/// Serves `/metrics`, `/healthz` and `/readyz` alone, by plain HTTP, until `stop`.
pub async fn serve_machines(server: &Server, listener: TcpListener, stop: CancellationToken) {
    let router = operations::machine_routes(server.parts());
    let answer = move |address, mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(address));
        let mut router = router.clone();
        router.call(request)
    };
    let drain = Duration::from_secs(1);
    let places = Places {
        most: MACHINE_CONNECTIONS,
        open: Gauge::default(),
    };
    take(answer, listener, None, stop, places, drain).await;
}

/// How many connections there may be at once, and the figure that says how many there are.
struct Places {
    most: usize,
    open: Gauge,
}

/// One that is open, counted until it ends, however it does.
struct Open(Gauge);

impl Open {
    fn count(open: &Gauge) -> Self {
        open.inc();
        Self(open.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

async fn take<Answer, Reply, B>(
    answer: Answer,
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    refuse: CancellationToken,
    Places { most, open }: Places,
    drain: Duration,
) where
    Answer: Fn(SocketAddr, Request<Incoming>) -> Reply + Clone + Send + 'static,
    Reply: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
    B: HttpBody<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(most));
    let serve = |stream: TcpStream, address, place: Option<OwnedSemaphorePermit>| {
        let _ = stream.set_nodelay(true);
        let (answer, watcher, tls) = (answer.clone(), graceful.watcher(), tls.clone());
        let counted = Open::count(&open);
        tokio::spawn(async move {
            match tls {
                None => connection(stream, address, answer, watcher).await,
                Some(tls) => {
                    if let Some(stream) = tls.accept(stream).await {
                        connection(stream, address, answer, watcher).await;
                    }
                }
            }
            drop((place, counted));
        });
    };
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = refuse.cancelled() => break,
        };
        let Ok(place) = place else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = refuse.cancelled() => break,
        };
        match accepted {
            Ok((stream, address)) => serve(stream, address, Some(place)),
            Err(error) => {
                // Out of descriptors, most likely: others end, and then there is room again.
                tracing::warn!(%error, "a connection was not taken");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    for (stream, address) in door::close(listener).await {
        serve(stream, address, None);
    }
    // What is closed while a request is on its way to it fails that request. Whoever asks on a connection
    // that is open is answered, and told that it ends; a new one is refused, and goes elsewhere.
    tokio::time::sleep(LAST_WORDS.min(drain)).await;
    let drained = tokio::time::timeout(drain, graceful.shutdown()).await;
    if drained.is_err() {
        tracing::warn!("some requests were still in progress at the end");
    }
}

async fn connection<Answer, Reply, B>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    address: SocketAddr,
    answer: Answer,
    watcher: Watcher,
) where
    Answer: Fn(SocketAddr, Request<Incoming>) -> Reply,
    Reply: Future<Output = Result<Response<B>, Infallible>>,
    B: HttpBody<Error: Into<BoxError>> + 'static,
{
    let service = service_fn(move |request| answer(address, request));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_buf_size(LARGEST_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "a connection ended early");
    }
}

fn show_dates(app: &App, tls: &Tls) {
    let ends_at = tls.dates().map_or(0, |dates| dates.ends_at);
    app.operations.metrics.set_certificate(ends_at);
}

fn reload_on_hangup(
    app: App,
    tls: Option<Arc<Tls>>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    // At once, and then each day.
    let mut day = tokio::time::interval(DAY);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = hangup.recv() => {}
                _ = day.tick() => {
                    if let Some(tls) = &tls {
                        show_dates(&app, tls);
                        tls.say_dates();
                    }
                    continue;
                }
                () = stop.cancelled() => return,
            }
            match tls.as_deref().map(Tls::reload) {
                Some(Ok(())) => tracing::info!("the certificate was read again"),
                Some(Err(error)) => tracing::error!(%error, "the certificate stays as it was"),
                None => {}
            }
            if let Some(tls) = &tls {
                show_dates(&app, tls);
            }
            match crate::server::settle_keys(&app).await {
                Ok(()) => tracing::info!("the signing keys were read again"),
                Err(error) => tracing::error!(%error, "the signing keys stay as they were"),
            }
            match crate::server::settle_peppers(&app).await {
                Ok(()) => tracing::info!("the peppers were read again"),
                Err(error) => tracing::error!(%error, "the peppers stay as they were"),
            }
        }
    });
    Ok(())
}
