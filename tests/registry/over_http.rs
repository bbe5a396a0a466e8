//! The registry of a server that runs in the test, asked over a real socket by the app's
//! [`RemoteRegistry`]. Secrets are made on this side; the server never has the text of a key that was
//! not presented for verification.
//!
//! What the app does not do over HTTP (principals, policies, the whole audit trail) is set up and looked
//! at in the server's own registry: [`HttpRegistry`] leads there.
#![allow(clippy::expect_used, reason = "a test that cannot go on fails")]

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use keywright_app::AppError;
use keywright_app::remote::{Credentials, RemoteError, RemoteRegistry};
use keywright_domain::SecretText;
use keywright_domain::api_keys::lifecycle::KnownScope;
use keywright_domain::api_keys::{ApiKey, Kid, NewApiKey, Rotation, RotationRequest};
use keywright_domain::audit::Actor;
use keywright_domain::people::{
    AuthMethod, ClientType, NewClient, OAuthScopes, PeopleError, Sealed, TokenDigest,
};
use keywright_domain::schedules::Schedule;
use keywright_registry::outbox::NewWebhook;
use keywright_registry::people::Page;
use keywright_registry::{
    AlertPage, AlertQuery, ApiKeyChange, ApiKeyCounts, ApiKeyPage, ApiKeyQuery, AuditEvent,
    ClientSecret, Delivery, DeliveryOutcome, HygieneCounts, HygienePage, HygieneQuery,
    HygieneRules, Issued, KeySchedule, LocalRegistry, Notice, OverlapWarning, Peppers, Preview,
    ProposedChange, RegistryError, RotationStep, ScheduleRun, Stragglers, Verification,
    VerifyRequest,
};
use keywright_server::settings::Settings;
use keywright_server::{Server, ServerSecrets};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::fixture::{Keys, Place, actions_of};
use super::{Fixture, Kind, pepper, rand_text};

const CLIENT: &str = "suite";
const SECRET: &str = "secret-of-the-suite";

/// A client's own access token (RFC 6749 §4.4), fetched whenever the server does not take the one we
/// have: tests let months pass.
#[derive(Clone)]
pub(crate) struct ClientToken {
    issuer: String,
    http: reqwest::Client,
    held: Arc<tokio::sync::Mutex<Option<SecretText>>>,
}

impl ClientToken {
    fn new(issuer: &str) -> Result<Self> {
        Ok(Self {
            issuer: issuer.to_owned(),
            http: reqwest::Client::builder().no_proxy().build()?,
            held: Arc::default(),
        })
    }

    async fn fetch(&self) -> Result<SecretText> {
        let answer = self
            .http
            .post(format!("{}/oauth2/token", self.issuer))
            .basic_auth(CLIENT, Some(SECRET))
            .header("content-type", "application/x-www-form-urlencoded")
            .body("grant_type=client_credentials")
            .send()
            .await?;
        let status = answer.status();
        let answer: serde_json::Value = answer.json().await?;
        ensure!(status == 200, "{answer}");
        let token = answer["access_token"].as_str().unwrap_or_default();
        Ok(SecretText::new(token.to_owned()))
    }
}

impl Credentials for ClientToken {
    async fn token(&self, spent: Option<&SecretText>) -> Result<SecretText, AppError> {
        let mut held = self.held.lock().await;
        if let Some(token) = &*held
            && spent.is_none_or(|spent| !token.matches(spent.expose()))
        {
            return Ok(token.clone());
        }
        let fetched = self.fetch().await.map_err(|error| RemoteError::Offline {
            host: self.issuer.clone(),
            detail: format!("{error:#}"),
        })?;
        *held = Some(fetched.clone());
        Ok(fetched)
    }
}

/// A node and the way to it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct HttpRegistry {
    remote: RemoteRegistry<ClientToken>,
    node: Arc<Node>,
}

struct Node {
    registry: LocalRegistry,
    /// The server's own.
    peppers: Peppers,
    issuer: String,
    stop: CancellationToken,
    /// Rotations by the caller's name for them, with the key and the new secret: the server has ids of its
    /// own.
    rotations: Mutex<HashMap<String, (String, Kid)>>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The server's own registry, for what is not asked over HTTP.
impl Deref for HttpRegistry {
    type Target = LocalRegistry;

    fn deref(&self) -> &LocalRegistry {
        &self.node.registry
    }
}

impl HttpRegistry {
    /// A server over a place; `issuer` is the one of the first server there.
    async fn serve(place: &Place, issuer: Option<&str>) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let own = format!("http://{}", listener.local_addr()?);
        let issuer = issuer.unwrap_or(&own).to_owned();
        let folder = place.folder().join("secrets");
        let secrets = ServerSecrets::create(&folder)?;
        let registry = place.open().await?;
        keywright_server::prepare(&registry, &secrets).await?;
        add_client(&registry).await?;
        add_deliverer(&registry).await?;
        let peppers = keywright_server::peppers_of(&registry, &secrets).await?;
        let settings = Settings::new(&issuer, place.folder().to_owned())?;
        let server = Server::build(settings, registry.clone(), secrets, place.clock()).await?;
        let stop = CancellationToken::new();
        let until = stop.clone();
        tokio::spawn(async move { keywright_server::serve(&server, listener, until).await });
        Ok(Self {
            remote: RemoteRegistry::new(&own, None, ClientToken::new(&own)?)?,
            node: Arc::new(Node {
                registry,
                peppers: peppers.context("it was prepared")?,
                issuer,
                stop,
                rotations: Mutex::default(),
            }),
        })
    }

    fn remember(&self, rotation_id: &str, key_id: &str, kid: &Kid) {
        let rotations = self.node.rotations.lock();
        let mut rotations = rotations.unwrap_or_else(PoisonError::into_inner);
        rotations.insert(rotation_id.to_owned(), (key_id.to_owned(), kid.clone()));
    }

    /// The key and the server's id of a rotation that the caller named; a name that nobody gave is asked for
    /// below a key that is there.
    async fn rotation(&self, name: &str) -> Result<(String, String), AppError> {
        let (named, any) = {
            let rotations = self.node.rotations.lock();
            let rotations = rotations.unwrap_or_else(PoisonError::into_inner);
            (
                rotations.get(name).cloned(),
                rotations.values().next().cloned(),
            )
        };
        let Some((key_id, kid)) = named else {
            let (key_id, _) = any.expect("a rotation of some key");
            return Ok((key_id, name.to_owned()));
        };
        let rotations = self.remote.list_rotations(&key_id).await?.value;
        let mut own = rotations.into_iter();
        let own = own.find(|rotation| rotation.new == kid);
        Ok((key_id, own.expect("a rotation that was carried out").id))
    }

    pub(crate) async fn issue_api_key(
        &self,
        _actor: &Actor,
        wish: &NewApiKey,
        _peppers: &Peppers,
    ) -> Result<Issued, AppError> {
        self.remote.issue_api_key(wish).await
    }

    pub(crate) async fn issue_api_key_for(
        &self,
        _actor: &Actor,
        wish: &NewApiKey,
        secret: &ClientSecret,
        _peppers: &Peppers,
    ) -> Result<ApiKey, AppError> {
        self.remote.issue_api_key_for(wish, secret).await
    }

    pub(crate) async fn change_api_key(
        &self,
        _actor: &Actor,
        id: &str,
        change: &ApiKeyChange,
    ) -> Result<ApiKey, AppError> {
        self.remote.change_api_key(id, change).await
    }

    pub(crate) async fn revoke_api_key(
        &self,
        _actor: &Actor,
        id: &str,
        reason: &str,
    ) -> Result<ApiKey, AppError> {
        self.remote.revoke_api_key(id, reason).await
    }

    pub(crate) async fn disable_api_key(
        &self,
        _actor: &Actor,
        id: &str,
        reason: &str,
    ) -> Result<ApiKey, AppError> {
        self.remote.disable_api_key(id, reason).await
    }

    pub(crate) async fn enable_api_key(
        &self,
        _actor: &Actor,
        id: &str,
    ) -> Result<ApiKey, AppError> {
        self.remote.enable_api_key(id).await
    }

    pub(crate) async fn find_api_key(
        &self,
        id: &str,
    ) -> Result<(ApiKey, Vec<AuditEvent>), AppError> {
        let key = self.remote.find_api_key(id).await?.value;
        let events = self.remote.list_events(id).await?.value;
        Ok((key, events))
    }

    pub(crate) async fn list_rotations(&self, key_id: &str) -> Result<Vec<Rotation>, AppError> {
        Ok(self.remote.list_rotations(key_id).await?.value)
    }

    pub(crate) async fn rotate_api_key(
        &self,
        _actor: &Actor,
        id: &str,
        request: &RotationRequest,
        rotation_id: &str,
        _peppers: &Peppers,
    ) -> Result<Issued, AppError> {
        let issued = self.remote.rotate_api_key(id, request, rotation_id).await?;
        self.remember(rotation_id, id, issued.plain.kid());
        Ok(issued)
    }

    pub(crate) async fn rotate_api_key_to(
        &self,
        _actor: &Actor,
        id: &str,
        request: &RotationRequest,
        rotation_id: &str,
        secret: &ClientSecret,
        _peppers: &Peppers,
    ) -> Result<(ApiKey, Rotation), AppError> {
        let remote = &self.remote;
        let key = remote
            .rotate_api_key_to(id, request, rotation_id, secret)
            .await?;
        let rotations = remote.list_rotations(id).await?.value;
        let mut own = rotations.into_iter();
        // The server has an id of its own for it; the caller's name is the caller's.
        let own = own.find(|rotation| rotation.new == secret.kid);
        let own = own.expect("the rotation that was carried out");
        let id = rotation_id.to_owned();
        Ok((key, Rotation { id, ..own }))
    }

    pub(crate) async fn step_rotation(
        &self,
        _actor: &Actor,
        key_id: &str,
        step: RotationStep,
    ) -> Result<(ApiKey, Rotation), AppError> {
        self.remote.step_rotation(key_id, step).await
    }

    pub(crate) async fn revoke_secret(
        &self,
        _actor: &Actor,
        key_id: &str,
        kid: &Kid,
        reason: &str,
    ) -> Result<ApiKey, AppError> {
        self.remote.revoke_secret(key_id, kid, reason).await
    }

    pub(crate) async fn verify_api_key(
        &self,
        request: &VerifyRequest<'_>,
        _peppers: &Peppers,
    ) -> Result<Verification, AppError> {
        self.remote.verify_api_key(request).await
    }

    pub(crate) async fn list_api_keys(&self, query: &ApiKeyQuery) -> Result<ApiKeyPage, AppError> {
        let known = self.remote.list_api_keys(query).await?;
        assert_eq!(known.as_of, None, "an old list from a server that answers");
        Ok(known.value)
    }

    pub(crate) async fn count_api_keys(&self) -> Result<ApiKeyCounts, AppError> {
        Ok(self.remote.count_api_keys().await?.value)
    }

    pub(crate) async fn define_scope(
        &self,
        _actor: &Actor,
        known: KnownScope,
    ) -> Result<KnownScope, AppError> {
        self.remote.define_scope(&known).await
    }

    pub(crate) async fn set_schedule(
        &self,
        _actor: &Actor,
        key_id: &str,
        schedule: &Schedule,
        delivery: &str,
    ) -> Result<KeySchedule, AppError> {
        self.remote.set_schedule(key_id, schedule, delivery).await
    }

    pub(crate) async fn find_schedule(
        &self,
        key_id: &str,
    ) -> Result<Option<KeySchedule>, AppError> {
        Ok(self.remote.find_schedule(key_id).await?.value)
    }

    pub(crate) async fn remove_schedule(
        &self,
        _actor: &Actor,
        key_id: &str,
    ) -> Result<bool, AppError> {
        self.remote.remove_schedule(key_id).await
    }

    pub(crate) async fn pause_schedule(
        &self,
        _actor: &Actor,
        key_id: &str,
        pause: bool,
    ) -> Result<KeySchedule, AppError> {
        self.remote.pause_schedule(key_id, pause).await
    }

    pub(crate) async fn hasten_schedule(
        &self,
        _actor: &Actor,
        key_id: &str,
    ) -> Result<KeySchedule, AppError> {
        self.remote.hasten_schedule(key_id).await
    }

    pub(crate) async fn list_schedules(
        &self,
        owner: Option<&str>,
        after: Option<(i64, &str)>,
        limit: u32,
    ) -> Result<Vec<KeySchedule>, AppError> {
        let known = self.remote.list_schedules(owner, after, limit).await?;
        Ok(known.value)
    }

    /// What the server does by itself every half minute, by its own peppers; here the test says when.
    pub(crate) async fn run_due_schedules(
        &self,
        actor: &Actor,
        _peppers: &Peppers,
        limit: u32,
    ) -> Result<Vec<ScheduleRun>, RegistryError> {
        let node = &self.node;
        node.registry
            .run_due_schedules(actor, &node.peppers, limit)
            .await
    }

    pub(crate) async fn list_notices(&self, key_id: &str) -> Result<Vec<Notice>, AppError> {
        Ok(self.remote.list_notices(key_id).await?.value)
    }

    pub(crate) async fn record_delivery(
        &self,
        _actor: &Actor,
        rotation_id: &str,
        target: &str,
        outcome: &DeliveryOutcome,
    ) -> Result<(Delivery, Rotation), AppError> {
        let (key_id, id) = self.rotation(rotation_id).await?;
        self.remote
            .record_delivery(&key_id, &id, target, outcome, &rand_text())
            .await
    }

    pub(crate) async fn list_deliveries(
        &self,
        rotation_id: &str,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<Delivery>, AppError> {
        let (key_id, id) = self.rotation(rotation_id).await?;
        let known = self.remote.list_deliveries(&key_id, &id, cursor, limit);
        Ok(known.await?.value)
    }

    pub(crate) async fn list_alerts(&self, query: &AlertQuery) -> Result<AlertPage, AppError> {
        Ok(self.remote.list_alerts(query).await?.value)
    }

    pub(crate) async fn count_unseen_alerts(&self) -> Result<i64, AppError> {
        Ok(self.remote.count_unseen_alerts().await?.value)
    }

    pub(crate) async fn mark_alert_seen(&self, id: &str, last_at: i64) -> Result<bool, AppError> {
        self.remote.mark_alert_seen(id, last_at).await
    }

    pub(crate) async fn stragglers(&self, key_id: &str) -> Result<Stragglers, AppError> {
        Ok(self.remote.stragglers(key_id).await?.value)
    }

    pub(crate) async fn warnings_before_close(
        &self,
        within_ms: i64,
    ) -> Result<Vec<OverlapWarning>, AppError> {
        Ok(self.remote.warnings_before_close(within_ms).await?.value)
    }

    pub(crate) async fn hygiene(&self, query: &HygieneQuery) -> Result<HygienePage, AppError> {
        Ok(self.remote.hygiene(query).await?.value)
    }

    pub(crate) async fn count_hygiene(
        &self,
        rules: &HygieneRules,
    ) -> Result<HygieneCounts, AppError> {
        Ok(self.remote.count_hygiene(rules).await?.value)
    }

    pub(crate) async fn preview_change(
        &self,
        key_ids: &[String],
        change: &ProposedChange,
        days: u32,
    ) -> Result<Preview, AppError> {
        self.remote.preview_change(key_ids, change, days).await
    }
}

impl Keys for HttpRegistry {
    type Error = AppError;

    async fn issue(
        &self,
        actor: &Actor,
        wish: &NewApiKey,
        peppers: &Peppers,
    ) -> Result<Issued, AppError> {
        self.issue_api_key(actor, wish, peppers).await
    }

    async fn rotate(
        &self,
        actor: &Actor,
        id: &str,
        request: &RotationRequest,
        peppers: &Peppers,
    ) -> Result<Issued, AppError> {
        self.rotate_api_key(actor, id, request, &rand_text(), peppers)
            .await
    }

    async fn verify(
        &self,
        request: &VerifyRequest<'_>,
        peppers: &Peppers,
    ) -> Result<Verification, AppError> {
        self.verify_api_key(request, peppers).await
    }
}

impl Fixture<HttpRegistry> {
    pub(crate) async fn over_http(kind: Kind) -> Result<Self> {
        let place = Place::new(kind).await?;
        Ok(Self {
            registry: HttpRegistry::serve(&place, None).await?,
            // Handed around by the suite; the server has its own, and shows them to nobody.
            peppers: Peppers::new(pepper("of nobody", 1)),
            actor: Actor::person("tester"),
            kind,
            place,
        })
    }

    /// A second server over the same database, asked by itself.
    pub(crate) async fn second(&self) -> Result<HttpRegistry> {
        HttpRegistry::serve(&self.place, Some(&self.registry.node.issuer)).await
    }

    /// What happened to keys and their owners; not that the suite's client fetched tokens, nor what was set up for
    /// it.
    pub(crate) async fn actions(&self) -> Result<Vec<String>> {
        let mut actions = actions_of(&self.registry.node.registry).await?;
        let of_others = ["client.", "signing_", "webhook."];
        actions.retain(|action| !of_others.iter().any(|of| action.starts_with(of)));
        Ok(actions)
    }
}

async fn add_client(registry: &LocalRegistry) -> Result<()> {
    let client = NewClient {
        name: "The suite".into(),
        client_type: ClientType::Confidential,
        auth_method: AuthMethod::ClientSecretBasic,
        jwks: None,
        redirect_uris: Vec::new(),
        post_logout_redirect_uris: Vec::new(),
        backchannel_logout_uri: None,
        grant_types: vec!["client_credentials".into()],
        scopes: OAuthScopes::parse("*:*").expect("a scope"),
        signing_alg: "ES256".into(),
        require_pkce: true,
        require_dpop: false,
        fapi: false,
    };
    let digest = TokenDigest::of(&SecretText::new(SECRET.to_owned()));
    let added = registry
        .add_client(&Actor::keywright(), CLIENT, &client, Some(&digest))
        .await;
    match added {
        Ok(_) => Ok(()),
        // The second server of a place.
        Err(keywright_registry::RegistryError::People(PeopleError::ClientIdTaken)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A program that delivers, as far as the server knows: without one no schedule is automatic there. Nothing is
/// sent, since nothing goes on beside requests here.
async fn add_deliverer(registry: &LocalRegistry) -> Result<()> {
    if !registry.list_webhooks().await?.is_empty() {
        return Ok(());
    }
    let webhook = NewWebhook {
        url: "https://deliver.example.org/".into(),
        events: vec!["delivery.due".into()],
        description: "The suite's".into(),
        secret: Sealed::new(Vec::new()),
    };
    registry.add_webhook(&Actor::keywright(), &webhook).await?;
    Ok(())
}
