//! Peppers: handed over by whoever keeps them, never stored here. Every row names its own.

use keywright_domain::api_keys::Pepper;
use keywright_domain::audit::{Actor, AuditAction};

use crate::store::{self, audit::NewEvent};
use crate::writer::Unit;
use crate::{LocalRegistry, RegistryError};

/// A pepper with the id that rows name it by. It lives in the keychain; the caller hands it over.
#[derive(Clone, Debug)]
pub struct PepperKey {
    /// The id in the database.
    pub id: String,
    /// The pepper itself.
    pub pepper: Pepper,
}

/// The peppers of a registry: new secrets are stored under the current one, older ones still
/// verify until each was used once.
#[derive(Debug)]
pub struct Peppers {
    current: PepperKey,
    older: Vec<PepperKey>,
    complete: bool,
}

impl Peppers {
    /// One pepper.
    #[must_use]
    pub fn new(current: PepperKey) -> Self {
        Self {
            current,
            older: Vec::new(),
            complete: false,
        }
    }

    /// With one that rows may still name.
    #[must_use]
    pub fn with_older(mut self, older: PepperKey) -> Self {
        self.older.push(older);
        self
    }

    /// Says that these are all that the registry needs: a secret that ended under another one, which may be
    /// lost, matches nothing any more. Otherwise it is [`RegistryError::PepperMissing`], since nobody can tell.
    #[must_use]
    pub fn complete(mut self) -> Self {
        self.complete = true;
        self
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// The one that new secrets are stored under.
    #[must_use]
    pub fn current(&self) -> &PepperKey {
        &self.current
    }

    /// All of them, the current one first.
    pub fn iter(&self) -> impl Iterator<Item = &PepperKey> {
        std::iter::once(&self.current).chain(&self.older)
    }

    pub(crate) fn find(&self, id: &str) -> Option<&PepperKey> {
        self.iter().find(|pepper| pepper.id == id)
    }
}

/// A pepper, and whether it must be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PepperUse {
    /// The pepper's id.
    pub id: String,
    /// When it was adopted (Unix ms).
    pub created_at: i64,
    /// Whether secrets that still verify are stored under it.
    pub is_needed: bool,
}

impl LocalRegistry {
    /// The id of the pepper that new keys are made with; none before the first.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn pepper_id(&self) -> Result<Option<String>, RegistryError> {
        store::peppers::newest(&mut *self.shared.pool.acquire().await?).await
    }

    /// Writes down which pepper the keychain holds, unless one is written down already.
    /// Returns the id in force: the caller's, or the one that another process was first with.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written.
    pub async fn adopt_pepper(&self, actor: &Actor, id: &str) -> Result<String, RegistryError> {
        self.write((actor.clone(), id.to_owned()), |unit, (actor, id)| {
            Box::pin(async move {
                if let Some(existing) = store::peppers::newest(unit.read()).await? {
                    return Ok(existing);
                }
                let now = unit.now();
                store::peppers::insert(unit.write(), id, now).await?;
                let summary = "A pepper was made and put into the keychain".to_owned();
                unit.audit(
                    actor,
                    NewEvent::about_registry(AuditAction::PepperAdopted, summary),
                );
                Ok(id.clone())
            })
        })
        .await
    }

    /// Adds a newer pepper: new secrets are stored under it, and those in use follow one by one.
    /// The old one must be kept until [`Self::list_peppers`] says that it is not needed.
    ///
    /// # Errors
    /// [`RegistryError::PepperExists`] for an id that is in use.
    pub async fn rotate_pepper(&self, actor: &Actor, id: &str) -> Result<(), RegistryError> {
        self.write((actor.clone(), id.to_owned()), |unit, (actor, id)| {
            let summary = "A newer pepper came into force";
            Box::pin(add(unit, actor, id, summary, Vec::new()))
        })
        .await
    }

    /// All peppers, newest first, with whether each is still needed. Quick, however many keys there are.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn list_peppers(&self) -> Result<Vec<PepperUse>, RegistryError> {
        store::peppers::list(&mut *self.shared.pool.acquire().await?).await
    }

    /// How many secrets that still verify are stored under a pepper. Reads all of them.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn count_secrets_under(&self, pepper: &str) -> Result<i64, RegistryError> {
        store::peppers::count_secrets(&mut *self.shared.pool.acquire().await?, pepper).await
    }
}

/// Brings a pepper into force.
pub(crate) async fn add(
    unit: &mut Unit,
    actor: &Actor,
    id: &str,
    summary: &'static str,
    details: Vec<(&'static str, String)>,
) -> Result<(), RegistryError> {
    let now = unit.now();
    let known = store::peppers::list(unit.read()).await?;
    if known.iter().any(|pepper| pepper.id == id) {
        return Err(RegistryError::PepperExists);
    }
    // The newest by time is the one in force, also when the clock went back.
    let newest = known.iter().map(|pepper| pepper.created_at + 1).max();
    store::peppers::insert(unit.write(), id, newest.map_or(now, |at| at.max(now))).await?;
    let event = NewEvent::about_registry(AuditAction::PepperRotated, summary.to_owned());
    unit.audit(actor, NewEvent { details, ..event });
    Ok(())
}
