//! AC-156: a server is trusted by its certificate or not at all, with an authority of the test's own.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Result;
use keywright_app::AppError;
use keywright_app::remote::{Credentials, RemoteRegistry};
use keywright_domain::SecretText;
use keywright_registry::{Clock, LocalRegistry};
use keywright_server::settings::Settings;
use keywright_server::{Server, ServerSecrets};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::support::certificates::certificates;

/// Notes whether anybody asked for the token.
#[derive(Clone, Default)]
struct Noted(Arc<std::sync::atomic::AtomicUsize>);

impl Credentials for Noted {
    async fn token(&self, _spent: Option<&SecretText>) -> Result<SecretText, AppError> {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Ok(SecretText::new("nothing a server takes".to_owned()))
    }
}

async fn code(issuer: &str, extra_ca: Option<&std::path::Path>) -> Result<&'static str> {
    let remote = RemoteRegistry::new(issuer, extra_ca, Noted::default())?;
    let asked = remote.list_scopes().await;
    match asked {
        Ok(_) => anyhow::bail!("a token that nobody gave is taken"),
        Err(error) => Ok(error.code()),
    }
}

#[tokio::test]
async fn ac_156_a_certificate_that_nobody_vouches_for_is_insecure() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let made = certificates(folder.path(), "localhost")?;
    let elsewhere = tempfile::tempdir()?;
    let other = certificates(elsewhere.path(), "localhost")?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = listener.local_addr()?.port();
    let issuer = format!("https://localhost:{port}");
    let data = folder.path().join("data");
    let secrets = ServerSecrets::create(&data.join("secrets"))?;
    let file = data.join("db").join("registry.db");
    let registry = LocalRegistry::open(&file, Clock::system()).await?;
    keywright_server::prepare(&registry, &secrets).await?;
    let mut settings = Settings::new(&issuer, data)?;
    settings.tls = Some((made.certificate.clone(), made.key.clone()));
    let server = Server::build(settings, registry, secrets, Clock::system()).await?;
    let stop = CancellationToken::new();
    let until = stop.clone();
    let serving =
        tokio::spawn(async move { keywright_server::serve(&server, listener, until).await });

    // Trusted: the server is heard, and does not know the token.
    assert_eq!(
        code(&issuer, Some(&made.authority)).await?,
        "reauth_required"
    );
    assert_eq!(code(&issuer, None).await?, "insecure_endpoint");
    assert_eq!(
        code(&issuer, Some(&other.authority)).await?,
        "insecure_endpoint",
        "another authority"
    );
    let by_address = format!("https://127.0.0.1:{port}");
    assert_eq!(
        code(&by_address, Some(&made.authority)).await?,
        "insecure_endpoint",
        "the certificate names another host"
    );
    stop.cancel();
    serving.await??;
    Ok(())
}
