//! The server: settings, registry, secrets and keys together, and the router over them.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use keywright_domain::SecretText;
use keywright_domain::audit::Actor;
use keywright_domain::people::SETTLE_KEYS_MS;
use keywright_registry::{Clock, LocalRegistry, PepperKey, Peppers, RegistryError};

use crate::passwords::{PasswordError, PasswordHasher};
use crate::secrets::{SecretsError, ServerSecrets};
use crate::settings::{SettingError, Settings};
use crate::signing::{Alg, SigningKeys};
use crate::{
    account, clients, docs, key_service, keys, leaks, nodes, notices, oauth2, operations, pages,
    rp, sessions, sign_in, users, webhooks,
};

const SETTLE_EVERY: Duration = Duration::from_millis(SETTLE_KEYS_MS.unsigned_abs());

/// What handlers see.
pub(crate) type App = Arc<Parts>;

/// Everything that is shared by handlers.
pub(crate) struct Parts {
    pub(crate) settings: Settings,
    pub(crate) registry: LocalRegistry,
    pub(crate) secrets: ServerSecrets,
    pub(crate) clock: Clock,
    pub(crate) keys: SigningKeys,
    pub(crate) passwords: PasswordHasher,
    peppers: RwLock<Option<Arc<Peppers>>>,
    pub(crate) key_service: key_service::State,
    pub(crate) oauth2: oauth2::State,
    pub(crate) rp: rp::State,
    pub(crate) sessions: sessions::State,
    pub(crate) sign_in: sign_in::State,
    pub(crate) operations: operations::State,
    pub(crate) nodes: nodes::State,
    pub(crate) notices: notices::State,
    pub(crate) leaks: leaks::State,
}

impl Parts {
    /// Unix milliseconds.
    pub(crate) fn now(&self) -> i64 {
        self.clock.now()
    }

    /// The peppers in force, with those that came with keys of other registries.
    pub(crate) fn peppers(&self) -> Option<Arc<Peppers>> {
        let peppers = self.peppers.read();
        peppers.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// As if the folder of secrets had none. Returns those that were there.
    #[cfg(test)]
    pub(crate) fn put_peppers(&self, peppers: Option<Arc<Peppers>>) -> Option<Arc<Peppers>> {
        let mut known = self.peppers.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut known, peppers)
    }

    /// Adds a pepper that keys of another registry came with.
    pub(crate) fn add_pepper(&self, pepper: PepperKey) {
        let mut peppers = self.peppers.write().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = peppers.as_ref() else {
            return;
        };
        if known.iter().any(|one| one.id == pepper.id) {
            return;
        }
        let mut all = Peppers::new(known.current().clone());
        for older in known.iter().skip(1) {
            all = all.with_older(older.clone());
        }
        *peppers = Some(Arc::new(all.with_older(pepper)));
    }
}

/// Why a server cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A setting is refused.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The secrets cannot be used.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    /// The registry does not answer.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Passwords could not be hashed.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The signing keys cannot be made or read.
    #[error("signing keys: {0}")]
    Keys(String),
    /// Something else that is needed at the start.
    #[error("{0}")]
    Other(String),
}

/// A server that is ready to be served or mounted.
#[derive(Clone)]
pub struct Server {
    app: App,
}

impl Server {
    /// Checks the settings and gets everything ready. One call makes or refuses a server.
    ///
    /// # Errors
    /// [`BuildError`].
    pub async fn build(
        settings: Settings,
        registry: LocalRegistry,
        secrets: ServerSecrets,
        clock: Clock,
    ) -> Result<Self, BuildError> {
        let settings = settings.check()?;
        let peppers = peppers_of(&registry, &secrets).await?;
        let nodes = nodes::join(&settings, &registry).await?;
        let workers = std::thread::available_parallelism().map_or(1, |cores| cores.get() / 2);
        let app = Arc::new(Parts {
            oauth2: oauth2::State::new(clock.now())?,
            rp: rp::State::new(&settings)?,
            sessions: sessions::State::new(&settings)?,
            sign_in: sign_in::State::new(&settings)?,
            operations: operations::State::new(&settings)?,
            nodes,
            notices: notices::State::new(&settings)?,
            leaks: leaks::State::new(&settings)?,
            keys: SigningKeys::default(),
            passwords: PasswordHasher::new(workers.max(1))?,
            peppers: RwLock::new(peppers.map(Arc::new)),
            key_service: key_service::State::default(),
            settings,
            registry,
            secrets,
            clock,
        });
        settle_keys(&app).await?;
        crate::set_up::complete(&app.registry).await?;
        let missing = crate::rp::missing_sign_up_roles(&app.settings, &app.registry).await?;
        if !missing.is_empty() {
            let roles = missing.join(", ");
            tracing::warn!(
                roles,
                "sign_up.provider_roles names roles that are not there: nobody can sign up"
            );
        }
        sessions::load(&app).await?;
        Ok(Self { app })
    }

    /// The router, with everything under the issuer's path. It can be merged into another program's.
    pub fn router(&self) -> Router {
        let app = &self.app;
        let routes = Router::new()
            .merge(oauth2::routes(app))
            .merge(rp::routes())
            .merge(sign_in::routes())
            .merge(account::routes())
            .merge(sessions::routes())
            .merge(users::routes())
            .merge(keys::routes())
            .merge(nodes::routes())
            .merge(webhooks::routes())
            .merge(clients::routes())
            .merge(leaks::routes())
            .merge(key_service::routes())
            .merge(operations::routes())
            .merge(docs::routes())
            .merge(pages::routes());
        let based = match app.settings.base_path.as_str() {
            "" => routes,
            path => Router::new().nest(path, routes),
        };
        operations::around(app, based.merge(oauth2::root_routes(app))).with_state(Arc::clone(app))
    }

    /// Starts what goes on beside requests, until the server is dropped: keys, denials, pruning.
    pub fn start_background_work(&self) {
        let weak = Arc::downgrade(&self.app);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SETTLE_EVERY).await;
                let Some(app) = weak.upgrade() else { return };
                let settled = app.registry.while_reachable(settle_keys(&app)).await;
                let settled = settled
                    .map_err(BuildError::from)
                    .and_then(|settled| settled);
                app.operations.metrics.job_ended("signing_keys", &settled);
                if let Err(error) = settled {
                    tracing::warn!(%error, "signing keys stay as they are until the next minute");
                }
                let settled = app.registry.while_reachable(settle_peppers(&app)).await;
                let settled = settled
                    .map_err(BuildError::from)
                    .and_then(|settled| settled);
                app.operations.metrics.job_ended("peppers", &settled);
                if let Err(error) = settled {
                    tracing::warn!(%error, "peppers stay as they are until the next minute");
                }
            }
        });
        sessions::start_background_work(&self.app);
        oauth2::start_background_work(&self.app);
        operations::start_background_work(&self.app);
        nodes::background::start(&self.app);
        notices::start_background_work(&self.app);
        key_service::start_background_work(&self.app);
    }

    /// Does what is due once: pruning, rotations that ended, retention. [`Self::start_background_work`] does
    /// the same again and again; this is for programs that keep time in another way.
    ///
    /// # Errors
    /// [`RegistryError`](keywright_registry::RegistryError) of the first job that failed.
    pub async fn do_due_work(&self) -> Result<(), keywright_registry::RegistryError> {
        nodes::background::turn(&self.app).await
    }

    /// Makes a new signing key for an algorithm (`RS256`, `ES256`, `EdDSA`) and returns its id. It is
    /// published first and signs when everybody can know it; `at_once` is for a leak.
    ///
    /// # Errors
    /// [`BuildError::Keys`].
    pub async fn rotate_signing_key(&self, alg: &str, at_once: bool) -> Result<String, BuildError> {
        let app = &self.app;
        let alg = Alg::parse(alg)
            .ok_or_else(|| BuildError::Keys(format!("{alg} is none of RS256, ES256, EdDSA")))?;
        let after = app.settings.signing_key_publish_ms;
        let activate_at = (!at_once).then(|| app.now().saturating_add(after));
        app.keys
            .rotate(
                &app.registry,
                &app.secrets,
                &app.settings,
                (alg, activate_at),
            )
            .await
            .map_err(|error| BuildError::Keys(error.to_string()))
    }

    /// Opens the set-up in the browser where nobody is here yet, and returns the code that it asks
    /// for; none where somebody is.
    ///
    /// # Errors
    /// [`RegistryError`] if that cannot be found out.
    pub async fn open_set_up(&self) -> Result<Option<SecretText>, RegistryError> {
        if !crate::is_empty(&self.app.registry).await? {
            return Ok(None);
        }
        let code = sign_in::set_up::first_owner::new_code();
        *self.app.sign_in.set_up.code.lock().await = Some(code.clone());
        Ok(Some(code))
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.app.settings
    }

    /// Who is named in the audit trail for what the server does by itself.
    #[must_use]
    pub fn actor() -> Actor {
        Actor::keywright()
    }

    /// Writes what waits and closes the database.
    pub async fn close(&self) {
        self.app.registry.close().await;
    }

    #[cfg(test)]
    pub(crate) fn app(&self) -> &App {
        &self.app
    }

    pub(crate) fn parts(&self) -> &App {
        &self.app
    }
}

/// Makes signing keys that are missing, brings all on to where time has them, and reads them anew.
///
/// # Errors
/// [`BuildError::Keys`]; the keys stay as they were.
pub(crate) async fn settle_keys(app: &App) -> Result<(), BuildError> {
    app.keys
        .settle(&app.registry, &app.secrets, &app.settings, app.now())
        .await
        .map_err(|error| BuildError::Keys(error.to_string()))
}

/// The peppers that a server works with: the one in force, those that live keys need, and what lies in the folder
/// in reserve, so that a node knows a pepper before another one stores keys under it. None before the set-up.
///
/// # Errors
/// [`BuildError`] if one that is needed is not in the folder, or the registry does not answer.
pub async fn peppers_of(
    registry: &LocalRegistry,
    secrets: &ServerSecrets,
) -> Result<Option<Peppers>, BuildError> {
    let known = registry.list_peppers().await?.into_iter().enumerate();
    let needed = known.filter(|(at, pepper)| *at == 0 || pepper.is_needed);
    let ids: Vec<String> = needed.map(|(_, pepper)| pepper.id).collect();
    let Some(mut peppers) = secrets.peppers(&ids)? else {
        return Ok(None);
    };
    for id in secrets.pepper_ids()? {
        if ids.contains(&id) {
            continue;
        }
        // Nothing needs it yet: a server that works is not kept from it by a copy that went wrong.
        match secrets.pepper(&id) {
            Ok(pepper) => peppers = peppers.with_older(pepper),
            Err(error) => tracing::warn!(%error, "a pepper in reserve cannot be used"),
        }
    }
    Ok(Some(peppers))
}

/// Reads peppers again: one that came into force, and copies that were put into the folder. What is in memory
/// and not in the folder stays: keys that came from elsewhere may need it.
///
/// # Errors
/// [`BuildError`]; the peppers stay as they were.
pub(crate) async fn settle_peppers(app: &App) -> Result<(), BuildError> {
    let Some(mut read) = peppers_of(&app.registry, &app.secrets).await? else {
        return Ok(());
    };
    let mut known = app.peppers.write().unwrap_or_else(PoisonError::into_inner);
    for one in known.iter().flat_map(|known| known.iter()) {
        if read.iter().all(|other| other.id != one.id) {
            read = read.with_older(one.clone());
        }
    }
    *known = Some(Arc::new(read));
    Ok(())
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("issuer", &self.app.settings.issuer)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::http::StatusCode;
    use keywright_registry::{PepperKey, Peppers};

    use crate::test_support::TestServer;

    #[tokio::test]
    async fn a_server_answers_and_publishes_three_keys() {
        let server = TestServer::start().await;
        let mut browser = server.browser();
        assert_eq!(browser.get("/readyz").await.status, StatusCode::OK);
        let keys = browser.get("/oauth2/jwks.json").await.json();
        let algs: Vec<_> = keys["keys"]
            .as_array()
            .unwrap()
            .iter()
            .map(|key| key["alg"].as_str().unwrap())
            .collect();
        assert_eq!(algs.len(), 3, "{algs:?}");
        assert!(server.root_key.expose().starts_with("kw_root_"));
        let text = keys.to_string();
        assert!(!text.contains("\"d\""), "a private half is published");
    }

    /// S2-04, S2-15: the router stands in somebody else's program, under the path of its issuer.
    #[tokio::test]
    async fn s2_04_s2_15_the_router_is_merged_into_another_program() {
        use axum::body::Body;
        use axum::http::Request;
        use tower::ServiceExt as _;
        let server = TestServer::with(|settings| {
            let data = settings.data.clone();
            *settings = crate::settings::Settings::new("http://127.0.0.1:8377/id", data).unwrap();
        })
        .await;
        let hello = axum::routing::get(async || "somebody else's");
        let program = axum::Router::new()
            .route("/hello", hello)
            .merge(server.server.router());
        let get = async |path: &str| {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let answer = program.clone().oneshot(request).await.unwrap();
            let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await;
            String::from_utf8(body.unwrap().to_vec()).unwrap()
        };
        assert_eq!(get("/hello").await, "somebody else's");
        let metadata = get("/id/.well-known/openid-configuration").await;
        assert!(
            metadata.contains("http://127.0.0.1:8377/id/oauth2/token"),
            "{metadata}"
        );
        assert!(get("/id/auth/csrfToken").await.contains("csrfToken"));
    }

    #[tokio::test]
    async fn s2_07_one_call_makes_a_server_or_refuses_by_name() {
        use super::{BuildError, Server};
        use crate::settings::Settings;
        use keywright_registry::{Clock, LocalRegistry};
        type Change = fn(&mut Settings);
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().to_owned();
        let clock = Clock::system();
        let file = data.join("registry.db");
        let registry = LocalRegistry::open(&file, clock.clone()).await.unwrap();
        let secrets = data.join("secrets");
        crate::ServerSecrets::create(&secrets).unwrap();
        let build = async |change: Change| {
            let mut settings = Settings::new("http://127.0.0.1:8377", data.clone()).unwrap();
            change(&mut settings);
            let secrets = crate::ServerSecrets::open(&secrets).unwrap();
            Server::build(settings, registry.clone(), secrets, clock.clone()).await
        };
        let refused: [(&str, Change); 4] = [
            ("tokens.access_s", |settings| settings.access_ms = 1),
            ("listen", |settings| {
                settings.listen = ([0, 0, 0, 0], 80).into()
            }),
            ("sessions.max_age_s", |settings| {
                settings.sessions.absolute_ms = 40 * 24 * 3_600_000;
            }),
            ("proxies.trusted", |settings| {
                settings.trusted_proxies.push("0.0.0.0/0".parse().unwrap());
            }),
        ];
        for (name, change) in refused {
            match build(change).await {
                Err(BuildError::Setting(error)) => assert_eq!(error.setting, name),
                other => panic!("{name}: {other:?}"),
            }
        }
        let server = build(|_| {}).await.unwrap();
        assert_eq!(server.settings().access_ms, 900_000);
        drop(server.router());
    }

    #[tokio::test]
    async fn ac_148_a_running_server_takes_up_a_newer_pepper_and_keeps_the_older() {
        let server = TestServer::start().await;
        let app = server.server.parts();
        let old = app.peppers().unwrap().current().id.clone();
        let new = app.secrets.new_pepper().unwrap();
        super::settle_peppers(app).await.unwrap();
        let peppers = app.peppers().unwrap();
        assert_eq!(peppers.current().id, old, "in reserve");
        assert!(peppers.iter().any(|one| one.id == new));
        // One that came with keys of another registry, and whose file is not there.
        let foreign = PepperKey {
            id: "foreign".into(),
            pepper: app.peppers().unwrap().current().pepper.clone(),
        };
        app.add_pepper(foreign);
        let actor = keywright_domain::audit::Actor::keywright();
        app.registry.rotate_pepper(&actor, &new).await.unwrap();
        super::settle_peppers(app).await.unwrap();
        let known = app.peppers().unwrap();
        let ids: Vec<_> = known.iter().map(|one| one.id.clone()).collect();
        assert_eq!(ids, [new.clone(), old, "foreign".to_owned()]);

        // A node that has no copy of it says so, and judges no key that is stored under it.
        let wish = serde_json::json!({
            "name": "of now", "prefix": "sk_live", "scopes": ["keys:read"], "lifetime_ms": 172_800_000,
        });
        let mut browser = server.browser();
        let bearer = format!("Bearer {}", server.root_key.expose());
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        let mut post = async |path: &str, body: &serde_json::Value| {
            let body = axum::body::Body::from(body.to_string());
            browser
                .send(axum::http::Method::POST, path, &headers, body)
                .await
        };
        let issued = post("/api/v1/keys", &wish).await.json();
        let asked = serde_json::json!({ "key": issued["secret"] });
        let verify = "/api/v1/keys/verify";
        assert_eq!(post(verify, &asked).await.json()["code"], "valid");
        let without = known.iter().filter(|one| one.id != new).cloned();
        let mut without = without.collect::<Vec<_>>().into_iter();
        let mut peppers = Peppers::new(without.next().unwrap());
        for older in without {
            peppers = peppers.with_older(older);
        }
        app.put_peppers(Some(Arc::new(peppers)));
        let answer = post(verify, &asked).await;
        assert_eq!(
            answer.status,
            StatusCode::SERVICE_UNAVAILABLE,
            "{}",
            answer.text
        );
    }
}
