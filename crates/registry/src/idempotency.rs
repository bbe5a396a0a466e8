//! What is done once, however often it is asked for under one name. The answer to a retry names what was
//! made; a secret is not stored anywhere and is not shown again. What is one transaction is remembered
//! in that transaction ([`crate::Conditions::once`]); what takes several is claimed first.

mod rotations;

use keywright_domain::api_keys::{ApiKey, NewApiKey, PlainKey};
use keywright_domain::audit::Actor;
use keywright_domain::base62::{ordered_id, random_id};

use crate::api_keys::{self, ClientSecret, NewSecret};
use crate::peppers::Peppers;
use crate::store::idempotency::Row;
use crate::writer::{Unit, Wants};
use crate::{LocalRegistry, RegistryError, store};

pub use self::rotations::{RotatedOnce, RotationWish};
/// Whoever carries a request out says so before this is over; then another may take it up.
const CLAIM_MS: i64 = 30_000;

/// Names are remembered for so long.
const KEPT_MS: i64 = 7 * 24 * 60 * 60 * 1000;

/// What a caller names a request by, so that it can be sent again.
#[derive(Clone, Debug)]
pub struct IdempotencyKey {
    /// The caller's own name for it. Names of different actors have nothing to do with each other.
    pub name: String,
    /// SHA-256 of what is asked for: the same name for something else is refused.
    pub request: [u8; 32],
}

/// What came of a request that may have been made before.
#[derive(Debug)]
pub enum IssuedOnce {
    /// The key is new.
    Now {
        /// The record.
        key: ApiKey,
        /// Its secret, unless the client made it.
        plain: Option<PlainKey>,
    },
    /// The key was issued by an earlier request, and this is how it stands now.
    Before(ApiKey),
}

impl LocalRegistry {
    /// Issues a key, or finds the one that the same request was answered with before. The name is
    /// remembered for seven days, in the transaction that issues.
    ///
    /// # Errors
    /// [`RegistryError::IdempotencyKeyReused`] for the same name with another request; otherwise as
    /// [`Self::issue_api_key`] and [`Self::issue_api_key_for`].
    pub async fn issue_api_key_once(
        &self,
        actor: &Actor,
        wish: &NewApiKey,
        client: Option<&ClientSecret>,
        once: &IdempotencyKey,
        peppers: &Peppers,
    ) -> Result<IssuedOnce, RegistryError> {
        let plain = match client {
            Some(_) => None,
            None => Some(PlainKey::generate(
                &wish.checked_prefix()?,
                &mut rand::rng(),
            )),
        };
        let secret = match (client, &plain) {
            (Some(client), _) => {
                client.check()?;
                NewSecret::of_client(client, peppers.current())
            }
            (None, Some(plain)) => NewSecret::of_plain(plain, peppers.current()),
            (None, None) => return Err(RegistryError::PepperMissing),
        };
        let id = ordered_id(self.now(), &mut rand::rng());
        let owner = wish.owner.as_ref().map(|owner| owner.id.clone());
        let wants = Wants {
            principals: owner.into_iter().chain(wish.creator.clone()).collect(),
            rotation: None,
            refresh: None,
        };
        let input = (
            actor.clone(),
            wish.clone(),
            secret,
            id.clone(),
            once.clone(),
        );
        let key = self
            .write_grouped(input, wants, |unit, (actor, wish, secret, id, once)| {
                Box::pin(issue(unit, actor, wish, secret, id, once))
            })
            .await?;
        if key.id == id {
            Ok(IssuedOnce::Now { key, plain })
        } else {
            Ok(IssuedOnce::Before(key))
        }
    }
}

async fn issue(
    unit: &mut Unit,
    actor: &Actor,
    wish: &NewApiKey,
    secret: &NewSecret,
    id: &str,
    once: &IdempotencyKey,
) -> Result<ApiKey, RegistryError> {
    let found = store::idempotency::find(unit.read(), actor.as_str(), &once.name).await?;
    if let Some((request, key_id)) = found {
        if request != once.request {
            return Err(RegistryError::IdempotencyKeyReused);
        }
        return api_keys::find(unit, &key_id).await;
    }
    let key = api_keys::issue(unit, actor, wish, secret, id).await?;
    let now = unit.now();
    let write = unit.write();
    store::idempotency::prune(write, now.saturating_sub(KEPT_MS)).await?;
    store::idempotency::insert(write, actor.as_str(), once, id, now).await?;
    Ok(key)
}

/// What was made under a name by the same request; none where nothing was.
///
/// # Errors
/// [`RegistryError::IdempotencyKeyReused`], [`RegistryError::RequestUnderWay`].
pub(crate) async fn find(
    unit: &mut Unit,
    actor: &Actor,
    key: &IdempotencyKey,
) -> Result<Option<String>, RegistryError> {
    let now = unit.now();
    let row = store::idempotency::find_row(unit.read(), actor.as_str(), &key.name).await?;
    made(row, key, now)
}

fn made(row: Option<Row>, key: &IdempotencyKey, now: i64) -> Result<Option<String>, RegistryError> {
    let Some(row) = row else {
        return Ok(None);
    };
    if row.request != key.request {
        return Err(RegistryError::IdempotencyKeyReused);
    }
    // A claim that ends later than it can was written down by a clock that was ahead.
    let latest = now.saturating_add(10 * CLAIM_MS);
    match row.under_way_until {
        Some(until) if until > now && until <= latest => Err(RegistryError::RequestUnderWay),
        Some(_) => Ok(None),
        None => Ok(Some(row.made)),
    }
}

/// Writes down what was made under a name, with what was made.
pub(crate) async fn remember(
    unit: &mut Unit,
    actor: &Actor,
    key: &IdempotencyKey,
    made: &str,
) -> Result<(), RegistryError> {
    let now = unit.now();
    // Not one of the rows that are remembered in memory.
    let write = unit.write_beside();
    store::idempotency::prune(write, now.saturating_sub(KEPT_MS)).await?;
    let row = Row {
        request: key.request.to_vec(),
        made: made.to_owned(),
        under_way_until: None,
        answer: None,
    };
    store::idempotency::put(write, actor.as_str(), &key.name, &row, now).await
}

/// A request that takes several transactions, carried out by whoever holds this.
#[derive(Clone, Debug)]
pub struct ClaimedRequest {
    actor: Actor,
    key: IdempotencyKey,
    /// Not who came later, when this one was silent for too long.
    holder: String,
}

/// Who carries a request out.
#[derive(Clone, Debug)]
pub enum Claim {
    /// The caller, until it says what was answered or is silent for half a minute.
    Mine(ClaimedRequest),
    /// It was carried out, and answered with this.
    Answered(String),
}

impl LocalRegistry {
    /// What was made under a name by the same request; none where nothing was. A look before the write
    /// that decides ([`crate::Conditions::once`]): who asks again need not wait for what the work needs.
    ///
    /// # Errors
    /// [`RegistryError::IdempotencyKeyReused`]; [`RegistryError::RequestUnderWay`].
    pub async fn made_before(
        &self,
        actor: &Actor,
        key: &IdempotencyKey,
    ) -> Result<Option<String>, RegistryError> {
        let connection = &mut *self.shared.pool.acquire().await?;
        let row = store::idempotency::find_row(connection, actor.as_str(), &key.name).await?;
        made(row, key, self.now())
    }

    /// Takes a request up that is not one transaction, unless it was carried out before. It must be
    /// one that may run twice: a process that ends in the middle leaves it to the next who asks.
    ///
    /// # Errors
    /// [`RegistryError::IdempotencyKeyReused`]; [`RegistryError::RequestUnderWay`].
    pub async fn claim_request(
        &self,
        actor: &Actor,
        key: &IdempotencyKey,
    ) -> Result<Claim, RegistryError> {
        let claimed = ClaimedRequest {
            actor: actor.clone(),
            key: key.clone(),
            holder: random_id(&mut rand::rng()),
        };
        self.write(claimed, |unit, claimed| Box::pin(claim(unit, claimed)))
            .await
    }

    /// Says that a request is still being carried out. Returns false if somebody else has taken it up.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written.
    pub async fn renew_claim(&self, claimed: &ClaimedRequest) -> Result<bool, RegistryError> {
        self.settle(claimed, Some(None)).await
    }

    /// Writes down what a request was answered with. Returns false if somebody else has taken it up.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written.
    pub async fn answer_claim(
        &self,
        claimed: &ClaimedRequest,
        answer: &str,
    ) -> Result<bool, RegistryError> {
        self.settle(claimed, Some(Some(answer.to_owned()))).await
    }

    /// Gives a request up that failed: asked for again, it is carried out.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written.
    pub async fn drop_claim(&self, claimed: &ClaimedRequest) -> Result<(), RegistryError> {
        self.settle(claimed, None).await.map(drop)
    }

    /// None ends the claim, some keeps it, with an answer for good.
    async fn settle(
        &self,
        claimed: &ClaimedRequest,
        answer: Option<Option<String>>,
    ) -> Result<bool, RegistryError> {
        let input = (claimed.clone(), answer);
        self.write(input, |unit, (claimed, answer)| {
            Box::pin(settle(unit, claimed, answer.clone()))
        })
        .await
    }
}

async fn claim(unit: &mut Unit, claimed: &ClaimedRequest) -> Result<Claim, RegistryError> {
    let (actor, name) = (claimed.actor.as_str(), claimed.key.name.as_str());
    let now = unit.now();
    if find(unit, &claimed.actor, &claimed.key).await?.is_some() {
        let row = store::idempotency::find_row(unit.read(), actor, name).await?;
        let answer = row.and_then(|row| row.answer).unwrap_or_default();
        return Ok(Claim::Answered(answer));
    }
    let write = unit.write_beside();
    store::idempotency::prune(write, now.saturating_sub(KEPT_MS)).await?;
    let row = claimed.row(now);
    store::idempotency::put(write, actor, name, &row, now).await?;
    Ok(Claim::Mine(claimed.clone()))
}

impl ClaimedRequest {
    fn row(&self, now: i64) -> Row {
        Row {
            request: self.key.request.to_vec(),
            made: self.holder.clone(),
            under_way_until: Some(now.saturating_add(CLAIM_MS)),
            answer: None,
        }
    }
}

async fn settle(
    unit: &mut Unit,
    claimed: &ClaimedRequest,
    answer: Option<Option<String>>,
) -> Result<bool, RegistryError> {
    let (actor, name) = (claimed.actor.as_str(), claimed.key.name.as_str());
    let now = unit.now();
    let found = store::idempotency::find_row(unit.read(), actor, name).await?;
    let is_mine = |row: &Row| row.under_way_until.is_some() && row.made == claimed.holder;
    if !found.as_ref().is_some_and(is_mine) {
        return Ok(false);
    }
    let mut row = claimed.row(now);
    match answer {
        None => {
            store::idempotency::remove(unit.write_beside(), actor, name).await?;
            return Ok(true);
        }
        Some(None) => {}
        Some(Some(answer)) => {
            row.made.clear();
            row.under_way_until = None;
            row.answer = Some(answer);
        }
    }
    store::idempotency::put(unit.write_beside(), actor, name, &row, now).await?;
    Ok(true)
}
