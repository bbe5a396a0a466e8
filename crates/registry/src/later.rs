//! Requests that are answered later (RFC 7240 §4.1): each is an operation beside those over many keys,
//! with the same states and the same way to say how far it came. What the request would have been
//! answered with is kept with it for seven days.

use keywright_domain::audit::Actor;

use crate::people::page::{self, Page, Position};
use crate::{BulkOperation, BulkProgress, BulkState, LocalRegistry, NewBulk, RegistryError, store};

/// What may be answered later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaterRequest {
    /// A check of the whole audit trail.
    AuditVerify,
    /// Hashes of keys that another system made.
    Import,
    /// How many keys have each finding of hygiene.
    Hygiene,
}

impl LaterRequest {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::AuditVerify, Self::Import, Self::Hygiene];

    /// Stable text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AuditVerify => "audit_verify",
            Self::Import => "import",
            Self::Hygiene => "hygiene",
        }
    }

    /// Whether it changes nothing: whoever may only read asks for it.
    #[must_use]
    pub fn only_reads(self) -> bool {
        match self {
            Self::AuditVerify | Self::Hygiene => true,
            Self::Import => false,
        }
    }

    /// Reads the stable text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }
}

/// What a request came to, each as JSON text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaterAnswer {
    /// What it would have been answered with.
    pub answer: Option<String>,
    /// Why it ended before its end.
    pub problem: Option<String>,
}

impl LocalRegistry {
    /// Writes down that a request is carried out, to be answered later. Older ones than seven days
    /// are forgotten, and of an actor's that only read all but the newest hundred. `total` is what it
    /// has to go through, in its own unit. What only reads is no event, here as where it is answered at
    /// once.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written.
    pub async fn begin_later(
        &self,
        actor: &Actor,
        request: LaterRequest,
        total: i64,
    ) -> Result<BulkOperation, RegistryError> {
        let new = NewBulk {
            operation: request.as_str().to_owned(),
            total,
            reason: String::new(),
        };
        self.begin_operation(actor, &new, Some(request)).await
    }

    /// Says that a request has ended, how, and with what. How far it comes is said before with
    /// [`Self::report_bulk`].
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written.
    pub async fn end_later(
        &self,
        id: &str,
        progress: &BulkProgress,
        state: BulkState,
        came: LaterAnswer,
    ) -> Result<(), RegistryError> {
        let input = (id.to_owned(), progress.clone(), came);
        self.write(input, move |unit, (id, progress, came)| {
            Box::pin(async move {
                let now = unit.now();
                store::bulk::report(unit.write(), id, progress, Some(state), now).await?;
                store::bulk::put_answer(unit.write(), id, came).await
            })
        })
        .await
    }

    /// A request that is answered later, as it stands.
    ///
    /// # Errors
    /// [`RegistryError::OperationNotFound`].
    pub async fn find_later(
        &self,
        id: &str,
    ) -> Result<(LaterRequest, BulkOperation), RegistryError> {
        let found = store::bulk::find(&mut *self.shared.pool.acquire().await?, id).await?;
        let found = found.filter(|found| found.later);
        let found = found.ok_or(RegistryError::OperationNotFound)?;
        let request = LaterRequest::parse(&found.operation);
        let request = request.ok_or(RegistryError::OperationNotFound)?;
        Ok((request, found.at(self.now())))
    }

    /// What a request came to; nothing while it runs.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn later_answer(&self, id: &str) -> Result<LaterAnswer, RegistryError> {
        store::bulk::answer(&mut *self.shared.pool.acquire().await?, id).await
    }

    /// One page of requests of these kinds that are answered later, newest first.
    ///
    /// # Errors
    /// [`RegistryError::Cursor`].
    pub async fn list_later(
        &self,
        may_see: impl Fn(LaterRequest) -> bool,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<BulkOperation>, RegistryError> {
        let (after, limit) = (Position::read(cursor, true)?, page::limit(limit));
        let kinds = LaterRequest::ALL.map(|one| if may_see(one) { one.as_str() } else { "" });
        let mut connection = self.shared.pool.acquire().await?;
        let place = (after.number, after.id.as_str());
        let found = store::bulk::list_later(&mut connection, kinds, place, limit + 1).await?;
        let now = self.now();
        let found = found.into_iter().map(|one| one.at(now)).collect();
        Ok(page::cut(found, limit, |one: &BulkOperation| {
            Position::of(one.created_at, &one.id)
        }))
    }
}
