//! A registry of its own for each test, on a real file or in a database of its own on a real
//! PostgreSQL, with a clock that stands still until it is told otherwise.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::{Context, Result};
use keywright_domain::api_keys::{DAY_MS, NewApiKey, OverlapClock, Pepper, RotationRequest};
use keywright_domain::audit::Actor;
use keywright_registry::{
    AuditQuery, Clock, Issued, LocalRegistry, PepperKey, Peppers, Verification, VerifyRequest,
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

pub(crate) struct Fixture {
    pub(crate) registry: LocalRegistry,
    pub(crate) peppers: Peppers,
    pub(crate) actor: Actor,
    pub(crate) kind: Kind,
    clock: Arc<AtomicI64>,
    folder: tempfile::TempDir,
    database: Option<Database>,
}

impl Fixture {
    pub(crate) async fn on(kind: Kind) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let clock = Arc::new(AtomicI64::new(START));
        let database = match kind {
            Kind::Sqlite => None,
            Kind::Postgres => Some(Database::create().await?),
        };
        let registry = match &database {
            None => {
                let file = folder.path().join("registry.db");
                LocalRegistry::open(&file, clock_of(&clock)).await?
            }
            Some(database) => {
                LocalRegistry::open_postgres(database.url(), clock_of(&clock)).await?
            }
        };
        let actor = Actor::person("tester");
        let peppers = Peppers::new(pepper("pepper-1", 7));
        registry.adopt_pepper(&actor, "pepper-1").await?;
        Ok(Self {
            registry,
            peppers,
            actor,
            kind,
            clock,
            folder,
            database,
        })
    }

    /// A second registry over the same database, as another process or node would open it.
    pub(crate) async fn second(&self) -> Result<LocalRegistry> {
        Ok(match &self.database {
            None => LocalRegistry::open(&self.file(), self.clock()).await?,
            Some(database) => LocalRegistry::open_postgres(database.url(), self.clock()).await?,
        })
    }

    /// The address of the database, for a stranger's hand on it.
    pub(crate) fn url(&self) -> String {
        match &self.database {
            None => format!("sqlite://{}", self.file().display()),
            Some(database) => database.url().to_owned(),
        }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("registry.db")
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

    pub(crate) async fn issue(&self, name: &str) -> Result<Issued> {
        self.issue_as(&wish(name)).await
    }

    pub(crate) async fn issue_as(&self, wish: &NewApiKey) -> Result<Issued> {
        Ok(self
            .registry
            .issue_api_key(&self.actor, wish, &self.peppers)
            .await?)
    }

    /// Rotates with a clock that runs from the issue of the new secret.
    pub(crate) async fn rotate(&self, id: &str, overlap_ms: i64) -> Result<Issued> {
        self.rotate_as(id, &from_issue(overlap_ms)).await
    }

    pub(crate) async fn rotate_as(&self, id: &str, request: &RotationRequest) -> Result<Issued> {
        let once = rand_text();
        Ok(self
            .registry
            .rotate_api_key(&self.actor, id, request, &once, &self.peppers)
            .await?)
    }

    pub(crate) async fn verify(&self, issued: &Issued) -> Result<Verification> {
        self.verify_text(issued.plain.text().expose()).await
    }

    pub(crate) async fn verify_text(&self, presented: &str) -> Result<Verification> {
        let request = VerifyRequest {
            presented,
            ..VerifyRequest::default()
        };
        Ok(self
            .registry
            .verify_api_key(&request, &self.peppers)
            .await?)
    }

    /// The code of a verification, `valid` for an acceptance.
    pub(crate) async fn code(&self, issued: &Issued) -> Result<&'static str> {
        Ok(self.verify(issued).await?.code())
    }

    pub(crate) async fn actions(&self) -> Result<Vec<String>> {
        let query = AuditQuery {
            limit: 500,
            ..AuditQuery::default()
        };
        let page = self.registry.list_audit_events(query).await?;
        Ok(page
            .items
            .into_iter()
            .rev()
            .map(|event| event.action)
            .collect())
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
