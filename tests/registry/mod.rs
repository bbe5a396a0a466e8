//! The registry's contract: what every registry must do, on real files.

mod contract;
mod crash;
mod faults;
mod lists;
mod scanner;
mod sharing;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::Result;
use keywright_domain::api_keys::{DAY_MS, NewApiKey, Pepper, RotationRequest};
use keywright_domain::audit::Actor;
use keywright_registry::{AuditQuery, Clock, Issued, LocalRegistry, PepperKey, Verification};

/// When the tests begin, as far as the registry knows.
pub(crate) const START: i64 = 1_800_000_000_000;

/// A registry on a file of its own, with a clock that stands still until it is told otherwise.
pub(crate) struct Fixture {
    pub(crate) registry: LocalRegistry,
    pub(crate) pepper: PepperKey,
    pub(crate) actor: Actor,
    clock: Arc<AtomicI64>,
    folder: tempfile::TempDir,
}

impl Fixture {
    pub(crate) async fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let clock = Arc::new(AtomicI64::new(START));
        let registry =
            LocalRegistry::open(&folder.path().join("registry.db"), clock_of(&clock)).await?;
        let actor = Actor::person("tester");
        let pepper = PepperKey {
            id: "pepper-1".to_owned(),
            pepper: Pepper::from_bytes([7; 32]),
        };
        registry.adopt_pepper(&actor, &pepper.id).await?;
        Ok(Self {
            registry,
            pepper,
            actor,
            clock,
            folder,
        })
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("registry.db")
    }

    pub(crate) fn clock(&self) -> Clock {
        clock_of(&self.clock)
    }

    pub(crate) fn set_clock(&self, at: i64) {
        self.clock.store(at, Ordering::SeqCst);
    }

    pub(crate) async fn issue(&self, name: &str) -> Result<Issued> {
        Ok(self
            .registry
            .issue_api_key(&self.actor, &wish(name), &self.pepper)
            .await?)
    }

    pub(crate) async fn rotate(&self, id: &str, overlap_ms: i64) -> Result<Issued> {
        let request = RotationRequest {
            overlap_ms,
            lifetime_ms: None,
        };
        let once = format!("{id}-{}-{overlap_ms}", rand_text());
        Ok(self
            .registry
            .rotate_api_key(&self.actor, id, request, &once, &self.pepper)
            .await?)
    }

    pub(crate) async fn verify(&self, issued: &Issued) -> Result<Verification> {
        let text = issued.plain.text().expose();
        Ok(self
            .registry
            .verify_api_key(text, None, &self.pepper)
            .await?)
    }

    /// The code of a verification, `valid` for an acceptance.
    pub(crate) async fn code(&self, issued: &Issued) -> Result<&'static str> {
        Ok(code_of(&self.verify(issued).await?))
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
}

pub(crate) fn code_of(verification: &Verification) -> &'static str {
    verification
        .verdict
        .as_ref()
        .map_or_else(|refusal| refusal.code(), |()| "valid")
}

pub(crate) fn wish(name: &str) -> NewApiKey {
    NewApiKey {
        name: name.to_owned(),
        prefix: "sk_live".to_owned(),
        scopes: vec!["keys:read".to_owned()],
        lifetime_ms: Some(90 * DAY_MS),
        allow_never_expires: false,
    }
}

fn clock_of(clock: &Arc<AtomicI64>) -> Clock {
    let clock = Arc::clone(clock);
    Clock::from_fn(move || clock.load(Ordering::SeqCst))
}

fn rand_text() -> String {
    keywright_domain::base62::random_id(&mut rand::rng())
}
