//! The serving half: our server, and bare axum routes beside it in the same process.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use axum::routing::{get, post};
use axum::{Json, Router};
use keywright_domain::SecretText;
use keywright_domain::api_keys::{
    DAY_MS, KeySettings, NetworkList, NewApiKey, Pepper, RateLimit, RateLimits,
};
use keywright_domain::audit::Actor;
use keywright_domain::people::{
    AuthMethod, ClientType, NewClient, OAuthScopes, PeopleError, TokenDigest,
};
use keywright_registry::{ApiKeyQuery, Clock, LocalRegistry, PepperKey, Peppers, RegistryError};
use keywright_server::settings::Settings;
use keywright_server::{
    FirstOwner, PasswordHasher, Server, ServerSecrets, is_empty, serve as take, set_up,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub(crate) const SECRET: &str = "a-secret-of-this-bench-only";
pub(crate) const EMAIL: &str = "owner@example.org";
pub(crate) const PASSWORD: &str = "correct horse battery";
pub(crate) const CALLBACK: &str = "http://127.0.0.1:1/callback";
pub(crate) const ALGS: [&str; 3] = ["RS256", "ES256", "EdDSA"];
/// Of a registry of its own, and at least so many of a file.
const KNOWN: usize = 1_000;
/// At most so many of a file, where a tenth of its keys is known: their records, and not a thousand that stay in the
/// processor's cache.
const KNOWN_MOST: usize = 100_000;
/// More than are asked for between two times that memory is emptied: each is asked for once.
const KNOWN_COLD: usize = 20_000;
/// So long nothing is read into memory.
const DAY: Duration = Duration::from_secs(86_400);
/// Of a registry of its own that is not small.
pub(crate) const KEYS: usize = 100_000;

/// What the asking half has to know.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Facts {
    /// `127.0.0.1:port` of our server.
    pub(crate) address: String,
    /// Of the bare routes.
    pub(crate) bare: String,
    pub(crate) root_key: String,
    pub(crate) keys: Vec<String>,
    /// How many keys there are.
    pub(crate) size: usize,
    /// How long it took until all were in memory, in milliseconds.
    pub(crate) loaded_ms: f64,
    /// Whether memory holds no key but those that were asked for, until a bare route empties it.
    #[serde(default)]
    pub(crate) cold: bool,
}

/// What is served.
pub(crate) struct How {
    /// A registry; without one there is one of its own.
    pub(crate) file: Option<PathBuf>,
    pub(crate) cold: bool,
    /// Only the keys that are asked for, in one of its own.
    pub(crate) small: bool,
}

/// Serves until the input ends.
pub(crate) async fn serve(How { file, cold, small }: How) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let own = folder.path().join("db/registry.db");
    let database = file.as_deref().unwrap_or(&own);
    let began = std::time::Instant::now();
    let registry = LocalRegistry::open(database, Clock::system()).await?;
    if cold {
        registry.forget_index(DAY).await;
    }
    while file.is_some() && !cold && !registry.index_is_complete() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let loaded_ms = if cold {
        0.0
    } else {
        began.elapsed().as_secs_f64() * 1e3
    };
    // A file that is used again needs the secrets of the first time.
    let own = folder.path().join("secrets");
    let place = file
        .as_deref()
        .map_or(own, |file| file.with_file_name("secrets"));
    let secrets = ServerSecrets::create(&place)?;
    // The one of `bench_registry fill`: nobody presents its keys, so any bytes will do.
    if registry.pepper_id().await?.as_deref() == Some("pepper") && secrets.pepper("pepper").is_err()
    {
        secrets.keep_pepper(&PepperKey {
            id: "pepper".into(),
            pepper: Pepper::generate(&mut rand::rng()),
        })?;
    }
    let (server, root_key) = build(&address, folder.path(), &registry, secrets).await?;
    let peppers = Arc::new(server_peppers(&registry, &place).await?);
    let known = match file {
        _ if cold => KNOWN_COLD,
        Some(_) => (registry.index_statistics().keys / 10).clamp(KNOWN, KNOWN_MOST),
        None => KNOWN,
    };
    let keys = issue(&registry, &peppers, known, &everything()?).await?;
    let mut size = if cold {
        count(&registry).await?
    } else {
        registry.index_statistics().keys
    };
    if file.is_none() && !small {
        issue(&registry, &peppers, KEYS - KNOWN, &NewApiKey::default()).await?;
        size = KEYS;
    }
    settle().await?;
    let stop = CancellationToken::new();
    let (running, token) = (server.clone(), stop.clone());
    let serving = tokio::spawn(async move { take(&running, listener, token).await });
    let bare = TcpListener::bind("127.0.0.1:0").await?;
    let facts = Facts {
        address,
        bare: bare.local_addr()?.to_string(),
        root_key: root_key.expose().to_owned(),
        keys,
        size,
        loaded_ms,
        cold,
    };
    let answer =
        json!({"valid": true, "code": "valid", "key_id": "k".repeat(20), "scopes": ["keys:read"]});
    // What sign-ins can reach at most: the same hashes on the same core, by as many workers.
    let hasher = PasswordHasher::new(1)?;
    let signer = Arc::new(RsaKeyPair::generate(KeySize::Rsa2048)?);
    let (forgetful, asking) = (registry.clone(), registry.clone());
    let router = Router::new()
        .route("/", get(async || "ok\n"))
        .route("/rs256", get(async move || Json(signatures(&signer))))
        .route(
            "/kids-asked-for",
            get(async move || Json(asking.kids_asked_for())),
        )
        .route(
            "/forget",
            get(async move || {
                forgetful.forget_index(DAY).await;
                Json(json!(true))
            }),
        )
        .route(
            "/json",
            post(async move |Json(_): Json<Value>| Json(answer.clone())),
        )
        .route(
            "/argon2id",
            get(async move || {
                let password = SecretText::new(PASSWORD.into());
                hasher.hash(&password).await.map_or_else(
                    |error| error.to_string(),
                    |hash| hash.expose().len().to_string(),
                )
            }),
        );
    tokio::spawn(async move { axum::serve(bare, router).await });
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, &facts)?;
    out.write_all(b"\n")?;
    out.flush()?;
    drop(out);
    // Until whoever asks is gone.
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()))
        .await??;
    stop.cancel();
    serving.await??;
    server.close().await;
    Ok(())
}

/// RS256 signatures a second, by a quarter of a second of them; none if one fails.
fn signatures(key: &RsaKeyPair) -> f64 {
    let (random, mut out) = (SystemRandom::new(), vec![0; key.public_modulus_len()]);
    let (began, mut count) = (std::time::Instant::now(), 0_u32);
    while began.elapsed() < Duration::from_millis(250) {
        let text = b"a header.and claims";
        if key
            .sign(&RSA_PKCS1_SHA256, &random, text, &mut out)
            .is_err()
        {
            return 0.0;
        }
        count += 1;
    }
    f64::from(count) / began.elapsed().as_secs_f64()
}

/// The log of `keywright-server serve` as it is without settings: a line a request, on standard error.
pub(crate) fn start_log() -> Result<()> {
    let log = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new("info,sqlx=warn"))
        .with_writer(std::io::stderr);
    log.json()
        .try_init()
        .map_err(|error| anyhow::anyhow!(error))
}

/// Waits until nothing goes on in the background: new keys go into the search index for a while.
async fn settle() -> Result<()> {
    let used = || -> Result<u64> {
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        let fields = stat.rsplit_once(')').context("no name")?.1;
        let mut fields = fields.split_ascii_whitespace().skip(11);
        let (user, system) = (
            fields.next().context("utime")?,
            fields.next().context("stime")?,
        );
        Ok(user.parse::<u64>()? + system.parse::<u64>()?)
    };
    // Ticks of 10 ms: less than a twentieth of the core, twice.
    let mut quiet = 0;
    while quiet < 2 {
        let before = used()?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        quiet = if used()? - before < 10 { quiet + 1 } else { 0 };
    }
    Ok(())
}

async fn build(
    address: &str,
    data: &Path,
    registry: &LocalRegistry,
    secrets: ServerSecrets,
) -> Result<(Server, SecretText)> {
    let mut settings = Settings::new(&format!("http://{address}"), data.to_owned())?;
    settings.drain_notice = Duration::ZERO;
    let hasher = PasswordHasher::new(1)?;
    let owner = FirstOwner {
        email: EMAIL.into(),
        name: "Owner".into(),
        password_hash: hasher.hash(&SecretText::new(PASSWORD.into())).await?,
    };
    // A file that is used again is set up already.
    let root = if is_empty(registry).await? {
        set_up(registry, &secrets, &owner).await?
    } else {
        another_root_key(registry, &secrets).await?
    };
    let digest = TokenDigest::of(&SecretText::new(SECRET.into()));
    for alg in ALGS {
        let client = NewClient {
            name: format!("Bench {alg}"),
            client_type: ClientType::Confidential,
            auth_method: AuthMethod::ClientSecretBasic,
            jwks: None,
            redirect_uris: vec![CALLBACK.into()],
            post_logout_redirect_uris: Vec::new(),
            backchannel_logout_uri: None,
            grant_types: ["authorization_code", "refresh_token", "client_credentials"]
                .map(str::to_owned)
                .to_vec(),
            scopes: OAuthScopes::parse("openid email offline_access").context("scopes")?,
            signing_alg: alg.into(),
            require_pkce: true,
            require_dpop: false,
            fapi: false,
        };
        let added = registry
            .add_client(&Actor::keywright(), alg, &client, Some(&digest))
            .await;
        match added {
            Err(RegistryError::People(PeopleError::ClientIdTaken)) => {}
            other => drop(other?),
        }
    }
    let server = Server::build(settings, registry.clone(), secrets, Clock::system()).await?;
    server.start_background_work();
    Ok((server, root))
}

async fn another_root_key(registry: &LocalRegistry, secrets: &ServerSecrets) -> Result<SecretText> {
    let ids = [registry.pepper_id().await?.context("no pepper")?];
    let peppers = secrets.peppers(&ids)?.context("no pepper")?;
    let wish = NewApiKey {
        name: "Root key of a bench".into(),
        prefix: "kw_root".into(),
        scopes: vec!["*:*".into()],
        lifetime_ms: Some(DAY_MS),
        management: true,
        ..NewApiKey::default()
    };
    let issued = registry
        .issue_api_key(&Actor::keywright(), &wish, &peppers)
        .await?;
    Ok(issued.plain.text().clone())
}

/// How many keys there are: about so many, beyond ten thousand.
async fn count(registry: &LocalRegistry) -> Result<usize> {
    let query = ApiKeyQuery {
        limit: 1,
        ..ApiKeyQuery::default()
    };
    let total = registry.list_api_keys(&query).await?.total;
    Ok(usize::try_from(total.context("no total")?.count)?)
}

async fn server_peppers(registry: &LocalRegistry, secrets: &Path) -> Result<Peppers> {
    let ids: Vec<String> = registry
        .list_peppers()
        .await?
        .into_iter()
        .take(1)
        .map(|pepper| pepper.id)
        .collect();
    ServerSecrets::open(secrets)?
        .peppers(&ids)?
        .context("no pepper")
}

/// With everything on: a limit that is not reached, a network, an origin list left empty.
fn everything() -> Result<NewApiKey> {
    let limit = RateLimit::new("calls", 6_000_000, 60_000, 6_000_000, false)?;
    Ok(NewApiKey {
        settings: KeySettings {
            limits: RateLimits::new(vec![limit])?,
            networks: NetworkList::new(["127.0.0.0/8"])?,
            ..KeySettings::default()
        },
        ..NewApiKey::default()
    })
}

/// Makes keys that are `like` this one in settings and owner. Returns their texts.
pub(crate) async fn issue(
    registry: &LocalRegistry,
    peppers: &Arc<Peppers>,
    count: usize,
    like: &NewApiKey,
) -> Result<Vec<String>> {
    let mut tasks = tokio::task::JoinSet::new();
    for part in 0..64 {
        let (registry, peppers, like) = (registry.clone(), Arc::clone(peppers), like.clone());
        tasks.spawn(async move {
            let mut texts = Vec::new();
            for index in (part..count).step_by(64) {
                let wish = NewApiKey {
                    name: format!("service {index}"),
                    prefix: "sk_live".into(),
                    scopes: vec!["keys:read".into(), "users:read".into()],
                    lifetime_ms: Some(90 * DAY_MS),
                    ..like.clone()
                };
                let issued = registry
                    .issue_api_key(&Actor::keywright(), &wish, &peppers)
                    .await?;
                texts.push(issued.plain.text().expose().to_owned());
            }
            Ok::<_, anyhow::Error>(texts)
        });
    }
    let mut all = Vec::new();
    while let Some(part) = tasks.join_next().await {
        all.extend(part??);
    }
    Ok(all)
}
