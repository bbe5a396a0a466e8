//! A registry of its own for each test, on a real file or in a database of its own on a real
//! PostgreSQL, with a clock that stands still until it is told otherwise.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::{Context, Result};
use keywright_domain::api_keys::{DAY_MS, NewApiKey, OverlapClock, Pepper, RotationRequest};
use keywright_domain::audit::Actor;
use keywright_registry::{
    AuditQuery, Clock, Issued, LocalRegistry, PepperKey, Peppers, RegistryError, Verification,
    VerifyRequest,
};

use crate::support::postgres::Database;

/// When the tests begin, as far as the registry knows.
pub(crate) const START: i64 = 1_800_000_000_000;

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

/// What the fixture asks of a registry, wherever it is.
pub(crate) trait Keys {
    type Error: std::error::Error + Send + Sync + 'static;

    async fn issue(
        &self,
        actor: &Actor,
        wish: &NewApiKey,
        peppers: &Peppers,
    ) -> Result<Issued, Self::Error>;

    async fn rotate(
        &self,
        actor: &Actor,
        id: &str,
        request: &RotationRequest,
        peppers: &Peppers,
    ) -> Result<Issued, Self::Error>;

    async fn verify(
        &self,
        request: &VerifyRequest<'_>,
        peppers: &Peppers,
    ) -> Result<Verification, Self::Error>;
}

impl Keys for LocalRegistry {
    type Error = RegistryError;

    async fn issue(
        &self,
        actor: &Actor,
        wish: &NewApiKey,
        peppers: &Peppers,
    ) -> Result<Issued, Self::Error> {
        self.issue_api_key(actor, wish, peppers).await
    }

    async fn rotate(
        &self,
        actor: &Actor,
        id: &str,
        request: &RotationRequest,
        peppers: &Peppers,
    ) -> Result<Issued, Self::Error> {
        let once = rand_text();
        self.rotate_api_key(actor, id, request, &once, peppers)
            .await
    }

    async fn verify(
        &self,
        request: &VerifyRequest<'_>,
        peppers: &Peppers,
    ) -> Result<Verification, Self::Error> {
        self.verify_api_key(request, peppers).await
    }
}

pub(crate) struct Fixture<R = LocalRegistry> {
    pub(crate) registry: R,
    pub(crate) peppers: Peppers,
    pub(crate) actor: Actor,
    pub(crate) kind: Kind,
    pub(crate) place: Place,
}

/// Where a fixture's registry is, and what time it is there.
pub(crate) struct Place {
    clock: Arc<AtomicI64>,
    folder: tempfile::TempDir,
    database: Option<Database>,
}

impl Place {
    pub(crate) async fn new(kind: Kind) -> Result<Self> {
        Ok(Self {
            clock: Arc::new(AtomicI64::new(START)),
            folder: tempfile::tempdir()?,
            database: match kind {
                Kind::Sqlite => None,
                Kind::Postgres => Some(Database::create().await?),
            },
        })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn clock(&self) -> Clock {
        clock_of(&self.clock)
    }

    pub(crate) fn now(&self) -> i64 {
        self.clock.load(Ordering::SeqCst)
    }

    pub(crate) fn set_clock(&self, at: i64) {
        self.clock.store(at, Ordering::SeqCst);
    }

    /// The address of the database, for a stranger's hand on it.
    pub(crate) fn url(&self) -> String {
        match &self.database {
            None => format!("sqlite://{}", self.folder().join("registry.db").display()),
            Some(database) => database.url().to_owned(),
        }
    }

    pub(crate) async fn open(&self) -> Result<LocalRegistry> {
        let file = self.folder().join("registry.db");
        Ok(match &self.database {
            None => LocalRegistry::open(&file, self.clock()).await?,
            Some(database) => LocalRegistry::open_postgres(database.url(), self.clock()).await?,
        })
    }
}

pub(crate) async fn actions_of(registry: &LocalRegistry) -> Result<Vec<String>> {
    let query = AuditQuery {
        limit: 500,
        ..AuditQuery::default()
    };
    let events = registry.list_audit_events(query).await?.items;
    Ok(events.into_iter().rev().map(|event| event.action).collect())
}

impl Fixture {
    pub(crate) async fn on(kind: Kind) -> Result<Self> {
        let place = Place::new(kind).await?;
        let registry = place.open().await?;
        let actor = Actor::person("tester");
        let peppers = Peppers::new(pepper("pepper-1", 7));
        registry.adopt_pepper(&actor, "pepper-1").await?;
        Ok(Self {
            registry,
            peppers,
            actor,
            kind,
            place,
        })
    }

    /// A second registry over the same database, as another process or node would open it.
    pub(crate) async fn second(&self) -> Result<LocalRegistry> {
        self.place.open().await
    }

    pub(crate) async fn actions(&self) -> Result<Vec<String>> {
        actions_of(&self.registry).await
    }
}

impl<R: Keys> Fixture<R> {
    /// The address of the database, for a stranger's hand on it.
    pub(crate) fn url(&self) -> String {
        self.place.url()
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.place.folder().join("registry.db")
    }

    pub(crate) fn clock(&self) -> Clock {
        self.place.clock()
    }

    pub(crate) fn now(&self) -> i64 {
        self.place.clock.load(Ordering::SeqCst)
    }

    pub(crate) fn set_clock(&self, at: i64) {
        self.place.clock.store(at, Ordering::SeqCst);
    }

    pub(crate) async fn issue(&self, name: &str) -> Result<Issued> {
        self.issue_as(&wish(name)).await
    }

    pub(crate) async fn issue_as(&self, wish: &NewApiKey) -> Result<Issued> {
        let issued = self.registry.issue(&self.actor, wish, &self.peppers);
        Ok(issued.await?)
    }

    /// Rotates with a clock that runs from the issue of the new secret.
    pub(crate) async fn rotate(&self, id: &str, overlap_ms: i64) -> Result<Issued> {
        self.rotate_as(id, &from_issue(overlap_ms)).await
    }

    pub(crate) async fn rotate_as(&self, id: &str, request: &RotationRequest) -> Result<Issued> {
        let rotated = self
            .registry
            .rotate(&self.actor, id, request, &self.peppers);
        Ok(rotated.await?)
    }

    pub(crate) async fn verify(&self, issued: &Issued) -> Result<Verification> {
        self.verify_text(issued.plain.text().expose()).await
    }

    pub(crate) async fn verify_text(&self, presented: &str) -> Result<Verification> {
        let request = VerifyRequest {
            presented,
            ..VerifyRequest::default()
        };
        Ok(self.registry.verify(&request, &self.peppers).await?)
    }

    /// The code of a verification, `valid` for an acceptance.
    pub(crate) async fn code(&self, issued: &Issued) -> Result<&'static str> {
        Ok(self.verify(issued).await?.code())
    }

    /// A connection of a stranger to the same database.
    pub(crate) async fn stranger(&self) -> Result<sqlx::AnyConnection> {
        use sqlx::Connection;
        sqlx::any::install_default_drivers();
        sqlx::AnyConnection::connect(&self.url())
            .await
            .context("a second connection")
    }
}

pub(crate) fn pepper(id: &str, byte: u8) -> PepperKey {
    PepperKey {
        id: id.to_owned(),
        pepper: Pepper::from_bytes([byte; 32]),
    }
}

/// The same peppers once more: they cannot be cloned.
pub(crate) fn copy_of(peppers: &Peppers) -> Peppers {
    let mut copy = Peppers::new(PepperKey {
        id: peppers.current().id.clone(),
        pepper: Pepper::from_bytes(*peppers.current().pepper.expose()),
    });
    for one in peppers.iter().skip(1) {
        copy = copy.with_older(PepperKey {
            id: one.id.clone(),
            pepper: Pepper::from_bytes(*one.pepper.expose()),
        });
    }
    copy
}

pub(crate) fn from_issue(overlap_ms: i64) -> RotationRequest {
    RotationRequest {
        overlap_ms,
        clock: OverlapClock::FromIssue,
        ..RotationRequest::default()
    }
}

pub(crate) fn wish(name: &str) -> NewApiKey {
    NewApiKey {
        name: name.to_owned(),
        prefix: "sk_live".to_owned(),
        scopes: vec!["keys:read".to_owned()],
        lifetime_ms: Some(90 * DAY_MS),
        ..NewApiKey::default()
    }
}

fn clock_of(clock: &Arc<AtomicI64>) -> Clock {
    let clock = Arc::clone(clock);
    Clock::from_fn(move || clock.load(Ordering::SeqCst))
}

pub(crate) fn rand_text() -> String {
    keywright_domain::base62::random_id(&mut rand::rng())
}

/// The checksum of the format, written a second time on purpose: the test must not trust the code.
pub(crate) fn checksum(body: &str) -> String {
    let mut crc = !0_u32;
    for byte in body.bytes() {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    let (mut number, mut text) = (!crc, String::new());
    for _ in 0..6 {
        let letter = match number % 62 {
            digit @ 0..=9 => char::from(b'0' + digit as u8),
            upper @ 10..=35 => char::from(b'A' + upper as u8 - 10),
            lower => char::from(b'a' + lower as u8 - 36),
        };
        text.insert(0, letter);
        number /= 62;
    }
    text
}
