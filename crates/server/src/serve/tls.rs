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
}

/// Whether certificate and key can be read and fit.
///
/// # Errors
/// [`TlsError`].
pub fn check_certificate(cert: &Path, key: &Path) -> Result<(), TlsError> {
    read(cert, key).map(|_| ())
}

/// Certificate and key, replaced whole.
pub(super) struct Tls {
    cert: PathBuf,
    key: PathBuf,
    config: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads them.
    pub(super) fn load(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        Ok(Self {
            config: RwLock::new(read(cert, key)?),
            cert: cert.to_owned(),
            key: key.to_owned(),
        })
    }

    /// Reads them again. What was in force stays if they are no good.
    pub(super) fn reload(&self) -> Result<(), TlsError> {
        let config = read(&self.cert, &self.key)?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// A handshake. Somebody who speaks plain HTTP is told so.
    pub(super) async fn accept(&self, mut stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        let config = Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner));
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

fn read(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let fault = |setting, path: &Path, why: &dyn ToString| TlsError::File {
        setting,
        path: path.to_owned(),
        why: why.to_string(),
    };
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| fault("tls.cert", cert, &error))?;
    if chain.is_empty() {
        return Err(fault("tls.cert", cert, &"it holds no certificate"));
    }
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|error| fault("tls.key", key, &error))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
