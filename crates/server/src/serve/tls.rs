//! https: the certificate, read again on demand, and the handshake with its limits.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_rustls::server::TlsStream;

use super::dates::{CertificateDates, CertificateState};

const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// What a handshake begins with (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;
const PLAIN_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 52\r\nConnection: close\r\n\r\nthis address takes https: write https:// before it\r\n";

/// Why https cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds no PEM.
    #[error("{setting}: {path}: {why}")]
    File {
        /// The setting that names it.
        setting: &'static str,
        /// Which.
        path: PathBuf,
        /// What is wrong; never what it holds.
        why: String,
    },
    /// Certificate and key do not fit.
    #[error("tls.cert, tls.key: {0}")]
    Pair(#[from] rustls::Error),
    /// The one that would be taken is not good now, and the one in force is.
    #[error("tls.cert: the certificate is over, or not good yet")]
    Dates,
}

/// Whether certificate and key can be read and fit. Returns from when and until when the certificate is good.
///
/// # Errors
/// [`TlsError`].
pub fn check_certificate(cert: &Path, key: &Path) -> Result<CertificateDates, TlsError> {
    let no_dates = || TlsError::File {
        setting: "tls.cert",
        path: cert.to_owned(),
        why: "its dates cannot be read".to_owned(),
    };
    read(cert, key)?.dates.ok_or_else(no_dates)
}

/// What is in force.
struct Pair {
    config: Arc<ServerConfig>,
    /// None for a certificate whose dates cannot be read.
    dates: Option<CertificateDates>,
}

impl Pair {
    fn is_good(&self) -> bool {
        self.dates.is_none_or(|dates| dates.now().is_good())
    }
}

/// Certificate and key, replaced whole.
pub(super) struct Tls {
    cert: PathBuf,
    key: PathBuf,
    pair: RwLock<Pair>,
}

impl Tls {
    /// Reads them.
    pub(super) fn load(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        Ok(Self {
            pair: RwLock::new(read(cert, key)?),
            cert: cert.to_owned(),
            key: key.to_owned(),
        })
    }

    /// Reads them again. What was in force stays if they are no good.
    pub(super) fn reload(&self) -> Result<(), TlsError> {
        let read = read(&self.cert, &self.key)?;
        let mut pair = self.pair.write().unwrap_or_else(PoisonError::into_inner);
        if pair.is_good() && !read.is_good() {
            return Err(TlsError::Dates);
        }
        *pair = read;
        Ok(())
    }

    /// When the certificate in force is good; none if that cannot be read.
    pub(super) fn dates(&self) -> Option<CertificateDates> {
        let pair = self.pair.read().unwrap_or_else(PoisonError::into_inner);
        pair.dates
    }

    /// Says what is wrong with the dates, or will be soon. To be said once a day.
    pub(super) fn say_dates(&self) {
        let Some(dates) = self.dates() else {
            tracing::warn!("when the certificate ends cannot be read");
            return;
        };
        match dates.now() {
            CertificateState::Good(_) => {}
            CertificateState::EndsSoon(days) => {
                tracing::warn!(days, "the certificate ends soon: renew it");
            }
            CertificateState::Over(days) => {
                tracing::error!(days, "the certificate is over: clients refuse it");
            }
            CertificateState::NotYet => {
                tracing::error!(
                    "the certificate is not good yet, or this machine's clock is behind"
                );
            }
        }
    }

    /// A handshake. Somebody who speaks plain HTTP is told so.
    pub(super) async fn accept(&self, mut stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        let config = {
            let pair = self.pair.read().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(&pair.config)
        };
        let handshake = async {
            let mut first = [0];
            if stream.peek(&mut first).await.ok()? != 1 {
                return None;
            }
            if first[0] != HANDSHAKE {
                if first[0].is_ascii_uppercase() {
                    let _ = stream.write_all(PLAIN_HTTP).await;
                    let _ = stream.shutdown().await;
                }
                return None;
            }
            match TlsAcceptor::from(config).accept(stream).await {
                Ok(stream) => Some(stream),
                Err(error) => {
                    tracing::debug!(%error, "a handshake failed");
                    None
                }
            }
        };
        tokio::time::timeout(HANDSHAKE_WITHIN, handshake)
            .await
            .ok()
            .flatten()
    }
}

fn read(cert: &Path, key: &Path) -> Result<Pair, TlsError> {
    let fault = |setting, path: &Path, why: &dyn ToString| TlsError::File {
        setting,
        path: path.to_owned(),
        why: why.to_string(),
    };
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| fault("tls.cert", cert, &error))?;
    let Some(first) = chain.first() else {
        return Err(fault("tls.cert", cert, &"it holds no certificate"));
    };
    let dates = CertificateDates::of(first);
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|error| fault("tls.key", key, &error))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Pair {
        config: Arc::new(config),
        dates,
    })
}
