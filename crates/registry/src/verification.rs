//! Verification of a presented key: no database for what cannot be ours or is in memory, one read
//! for the rest, no write except for the first use of a secret and for credits.

mod first_use;
mod foreign;
mod id_text;
mod matching;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use keywright_domain::api_keys::verification::judge;
use keywright_domain::api_keys::{
    Ask, Environment, Facts, Gcra, KeyMac, KeyType, NetworkList, OriginList, PresentedKey,
    RateLimit, Refusal, SecretState,
};
use keywright_domain::scopes::{ScopeRequirement, ScopeSet};
use keywright_index::{LimitAnswer, Lookup, PackedKid, Rules, Snapshot};
use smallvec::SmallVec;

use self::first_use::FirstUse;
pub use self::id_text::IdText;
use self::matching::{Asked, Miss};
use crate::limits::{LimitAsk, LimitWord, LimitsAnswer};
use crate::peppers::Peppers;
use crate::store;
use crate::uses::{AlertKind, Caller};
use crate::{LocalRegistry, RegistryError, freshness, rotation};

/// Name of the limit on failures of one source.
const FAILURES_LIMIT: &str = "failures";
/// A kid that the database did not know is not asked for again within this time.
const ABSENT_MS: i64 = 1000;
/// How long an accepted verification waits for the row of its first use.
const FIRST_USE_WAIT: Duration = Duration::from_millis(250);
/// How often a key from a throttled place is looked up, where each look is overtaken by a commit.
const LOOKS: u32 = 3;
/// How long a verification waits for a change of its key that is being committed.
const COMMIT_WAIT: Duration = Duration::from_secs(2);

/// What is asked of a presented key.
#[derive(Clone, Copy, Debug, Default)]
pub struct VerifyRequest<'a> {
    /// The whole text.
    pub presented: &'a str,
    /// Scopes that are needed.
    pub requirement: Option<&'a ScopeRequirement>,
    /// The environment that the resource belongs to.
    pub environment: Option<&'a Environment>,
    /// Types of keys that may do this; empty for all.
    pub key_types: &'a [KeyType],
    /// What it counts for on rate limits; none is 1.
    pub cost: Option<u32>,
    /// Credits it takes from keys that have credits; none is 1.
    pub credits: Option<u32>,
    /// Who asks.
    pub caller: Caller<'a>,
}

/// What came of a verification.
#[derive(Clone, Debug)]
pub struct Verification {
    /// Let through, or why not.
    pub verdict: Result<(), Refusal>,
    /// Kid, where the text had our format.
    pub kid: Option<IdText<12>>,
    /// The key, once the secret matched.
    pub key_id: Option<IdText<20>>,
    /// Its owner's id, once the secret matched.
    pub owner: Option<Arc<str>>,
    /// What the key may do now: granted, and still held by its creator.
    pub scopes: Option<Arc<ScopeSet>>,
    /// Until when this secret works, when it is on its way out.
    pub retires_at: Option<i64>,
    /// When this secret ends by itself.
    pub expires_at: Option<i64>,
    /// The narrowest limit, or the one that refuses; where there is one.
    pub limit: Option<RateLimit>,
    /// Requests left on that limit.
    pub limit_left: Option<u32>,
    /// When that limit is whole again, in ms.
    pub limit_reset_ms: Option<u64>,
    /// Credits left, where the key has credits.
    pub credits_left: Option<i64>,
    /// Every single use matters: limits or credits count it, it is the only one, or it is an alarm.
    /// Such an answer is no good for a second request.
    pub every_use_counts: bool,
}

impl Verification {
    /// A refusal before any key was found.
    #[must_use]
    pub fn refused(kid: Option<IdText<12>>, refusal: Refusal) -> Self {
        Self {
            verdict: Err(refusal),
            kid,
            key_id: None,
            owner: None,
            scopes: None,
            retires_at: None,
            expires_at: None,
            limit: None,
            limit_left: None,
            limit_reset_ms: None,
            credits_left: None,
            every_use_counts: true,
        }
    }

    /// Stable code: `valid`, or why not.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match &self.verdict {
            Ok(()) => "valid",
            Err(refusal) => refusal.code(),
        }
    }
}

/// A secret that matched.
struct Match {
    kid: PackedKid,
    snapshot: Snapshot,
}

impl LocalRegistry {
    /// Verifies a presented key. An error is never an acceptance: callers refuse on `Err`.
    ///
    /// # Errors
    /// [`RegistryError::PepperMissing`] if the row names a pepper that was not handed over;
    /// [`RegistryError`] if the database cannot be read and memory is not known to be fresh.
    pub fn verify_api_key(
        &self,
        request: &VerifyRequest<'_>,
        peppers: &Peppers,
    ) -> impl Future<Output = Result<Verification, RegistryError>> + Send {
        // Handed on as it is: a future around it would be moved about with every request.
        self.verify_one(request, peppers, None)
    }

    /// `asked`: the call of several keys that it is part of.
    async fn verify_one(
        &self,
        request: &VerifyRequest<'_>,
        peppers: &Peppers,
        mut asked: Option<&mut Asked>,
    ) -> Result<Verification, RegistryError> {
        let now = self.now();
        let plain = PresentedKey::parse(request.presented);
        if let Some(refused) = self.throttled(request, plain.as_ref().ok(), now) {
            let known = plain.as_ref().ok();
            let found = match known {
                // Boxed, as all that is rare: what a request may need is moved about with every request.
                Some(plain) => Box::pin(self.match_in_memory(plain, peppers, now)).await?,
                None => None,
            };
            return match found {
                Some(found) => self.judge_match(request, &found, now).await,
                None => Ok(refused),
            };
        }
        // Once only, and looked at where it is: it is large.
        let ours = match &plain {
            Ok(plain) => {
                self.match_ours(plain, peppers, now, asked.as_deref_mut())
                    .await?
            }
            Err(error) => {
                let foreign = Box::pin(self.match_foreign(request.presented, peppers, now));
                match foreign.await? {
                    Some(found) => Ok(found),
                    None => {
                        self.count_failure(request, now);
                        return Ok(Verification::refused(None, Refusal::Malformed(*error)));
                    }
                }
            }
        };
        match &ours {
            Ok(found) => self.judge_match(request, found, now).await,
            Err(Miss::Unknown) => Ok(self.not_found(request, plain.as_ref().ok(), now)),
            Err(Miss::Wrong) => {
                // Counted first: who guesses and hangs up has guessed.
                let refused = self.not_found(request, plain.as_ref().ok(), now);
                Box::pin(self.as_for_an_unknown_kid(refused, asked)).await
            }
        }
    }

    /// The refusal of a key that nobody knows.
    fn not_found(
        &self,
        request: &VerifyRequest<'_>,
        plain: Option<&PresentedKey<'_>>,
        now: i64,
    ) -> Verification {
        self.count_failure(request, now);
        let kid = plain.and_then(|plain| IdText::read(plain.kid()));
        Verification::refused(kid, Refusal::NotFound)
    }

    /// Verifies several presented keys, each as [`Self::verify_api_key`] does, in their order, and hands each
    /// answer over as it comes. What is in memory is looked up together, and its freshness is checked once after
    /// that. Keys behind one for which `each` says no are not verified, and nothing is counted of them.
    ///
    /// # Errors
    /// As [`Self::verify_api_key`], for the first that fails; those before it were counted and handed over.
    pub async fn verify_api_keys(
        &self,
        requests: &[VerifyRequest<'_>],
        peppers: &Peppers,
        mut each: impl FnMut(usize, Verification) -> bool + Send,
    ) -> Result<(), RegistryError> {
        let (mut done, mut asked) = (0, Asked::default());
        while let rest @ [request, ..] = &requests[done..] {
            let before = done;
            if rest.len() > 1 && !self.verify_ahead(rest, peppers, &mut done, &mut each)? {
                return Ok(());
            }
            if done == before {
                let alone = Box::pin(self.verify_one(request, peppers, Some(&mut asked))).await?;
                done += 1;
                if !each(before, alone) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Verifies the first of these keys, as far as memory answers for them and nobody has to wait: what was looked
    /// up must not grow old meanwhile. Whether to go on.
    fn verify_ahead(
        &self,
        requests: &[VerifyRequest<'_>],
        peppers: &Peppers,
        done: &mut usize,
        each: &mut impl FnMut(usize, Verification) -> bool,
    ) -> Result<bool, RegistryError> {
        let now = self.now();
        let ahead = self.look_ahead(requests, now);
        for (request, (plain, snapshot)) in requests.iter().zip(ahead) {
            let throttled = self.throttled(request, Some(&plain), now);
            let found = match &throttled {
                Some(_) => self.match_from_throttled(&plain, snapshot, peppers, now),
                None => self.match_snapshot(&plain, snapshot.kid, Some(snapshot), peppers)?,
            };
            let answer = match (found, throttled) {
                (Some(found), _) => self.judge_at_once(request, &found, now)?,
                (None, Some(refused)) => refused,
                // By itself: it waits for the log, as a kid does that nobody knows.
                (None, None) if !freshness::is_exact(&self.shared) => return Ok(true),
                (None, None) => self.not_found(request, Some(&plain), now),
            };
            *done += 1;
            if !each(*done - 1, answer) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What memory knows of the first of these keys, up to one that somebody may have to wait for. Empty if memory
    /// is not trusted.
    fn look_ahead<'a>(
        &self,
        requests: &[VerifyRequest<'a>],
        now: i64,
    ) -> SmallVec<[(PresentedKey<'a>, Snapshot); 2]> {
        let mut known = SmallVec::new();
        if self.shared.limits.get().is_some() {
            return known;
        }
        let readings = freshness::readings(&self.shared);
        for request in requests {
            let Ok(plain) = PresentedKey::parse(request.presented) else {
                break;
            };
            let Some(kid) = PackedKid::parse(plain.kid()) else {
                break;
            };
            match self.shared.index.lookup(kid, now) {
                Lookup::Found(snapshot) if self.is_judged_at_once(&snapshot) => {
                    known.push((plain, snapshot));
                }
                _ => break,
            }
        }
        // After the lookups, as always.
        if !freshness::is_trusted(&self.shared, readings) {
            known.clear();
        }
        known
    }

    /// Whether nothing of such a key is written before it is answered.
    fn is_judged_at_once(&self, snapshot: &Snapshot) -> bool {
        let rules = snapshot.rules.and_then(|id| self.shared.index.rules(id));
        let has_credits = rules.is_some_and(|rules| rules.has_credits);
        snapshot.first_used && !snapshot.one_time && !has_credits
    }

    /// Kid and key of a text whose secret matches, whatever became of it since. Nothing is counted, and
    /// nobody is alarmed: this is for somebody who found the text, not for somebody who uses it.
    ///
    /// # Errors
    /// As [`Self::verify_api_key`].
    pub async fn identify_secret(
        &self,
        presented: &str,
        peppers: &Peppers,
    ) -> Result<Option<(String, String)>, RegistryError> {
        let now = self.now();
        let found = match PresentedKey::parse(presented) {
            Ok(plain) => self.match_ours(&plain, peppers, now, None).await?.ok(),
            Err(_) => self.match_foreign(presented, peppers, now).await?,
        };
        Ok(found.map(|found| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            (text(&found.kid.text()), text(&found.snapshot.key_id.text()))
        }))
    }

    /// What a secret that was let through may do now, without a use being counted; none once it is
    /// refused. For work that goes on behind an answer.
    ///
    /// # Errors
    /// As [`Self::verify_api_key`].
    pub async fn scopes_of_secret(
        &self,
        kid: &str,
    ) -> Result<Option<Arc<ScopeSet>>, RegistryError> {
        let now = self.now();
        let Some(packed) = PackedKid::parse(kid) else {
            return Ok(None);
        };
        let Some(snapshot) = self.snapshot(packed, kid, now, None).await? else {
            return Ok(None);
        };
        let state = state_at(&snapshot, now);
        // The only use of a one-time key is what began the work.
        let works = state.verifies() || (snapshot.one_time && state == SecretState::Retired);
        let owner_lets = snapshot.owner.is_some_and(|owner| !owner.disabled);
        let stands = works && owner_lets && !snapshot.disabled && !is_revoked(&snapshot);
        Ok(stands.then(|| self.effective_scopes(&snapshot)))
    }

    /// Who made the key of this secret; none where a program without a person did.
    ///
    /// # Errors
    /// As [`Self::verify_api_key`].
    pub async fn creator_of_secret(&self, kid: &str) -> Result<Option<Arc<str>>, RegistryError> {
        let Some(packed) = PackedKid::parse(kid) else {
            return Ok(None);
        };
        let snapshot = self.snapshot(packed, kid, self.now(), None).await?;
        let creator = snapshot.and_then(|snapshot| snapshot.creator);
        Ok(creator.and_then(|one| self.shared.index.principal_id(one.id).cloned()))
    }

    /// Whether keys of other makers were ever imported: then a text that is not ours may still be a
    /// key.
    #[must_use]
    pub fn has_foreign_keys(&self) -> bool {
        self.shared
            .freshness
            .has_foreign
            .load(std::sync::atomic::Ordering::Acquire)
    }

    async fn judge_match(
        &self,
        request: &VerifyRequest<'_>,
        found: &Match,
        now: i64,
    ) -> Result<Verification, RegistryError> {
        let Match { kid, snapshot } = found;
        let (mut answer, rules) = self.judged(request, found, now)?;
        if answer.verdict.is_ok() && rules.is_some() {
            let counted = self.take_limits(request, snapshot, now).await?;
            take_in(&counted, rules, &mut answer);
        }
        if answer.verdict.is_ok() && rules.is_some_and(|rules| rules.has_credits) {
            Box::pin(self.take_credits(request, &mut answer)).await?;
        }
        self.alarm(request, snapshot, &answer, now);
        if answer.verdict.is_ok() {
            self.first_use(*kid, snapshot, now, &mut answer).await?;
        }
        if answer.verdict.is_ok() {
            self.count_use(request, *kid, now);
        }
        Ok(answer)
    }

    /// The same of a key that [`Self::is_judged_at_once`], where no limit is counted elsewhere.
    fn judge_at_once(
        &self,
        request: &VerifyRequest<'_>,
        found: &Match,
        now: i64,
    ) -> Result<Verification, RegistryError> {
        let Match { kid, snapshot } = found;
        debug_assert!(self.is_judged_at_once(snapshot), "somebody has to wait");
        let (mut answer, rules) = self.judged(request, found, now)?;
        if answer.verdict.is_ok() && rules.is_some() {
            let counted = self.own_limits(request, snapshot, now);
            take_in(&counted, rules, &mut answer);
        }
        self.alarm(request, snapshot, &answer, now);
        if answer.verdict.is_ok() {
            self.count_use(request, *kid, now);
        }
        Ok(answer)
    }

    /// What is decided without counting anything, and the rules to count by.
    fn judged(
        &self,
        request: &VerifyRequest<'_>,
        found: &Match,
        now: i64,
    ) -> Result<(Verification, Option<&Rules>), RegistryError> {
        let Match { kid, snapshot } = found;
        let index = &self.shared.index;
        let scopes = self.effective_scopes(snapshot);
        let rules = snapshot.rules.and_then(|id| index.rules(id));
        let state = state_at(snapshot, now);
        let (no_networks, no_origins) = (NetworkList::default(), OriginList::default());
        let environment = index.text(snapshot.environment).map_or("", |text| text);
        let environment =
            Environment::new(environment).map_err(|_| store::secrets::damaged("environment"))?;
        let facts = Facts {
            secret: state,
            revoked: is_revoked(snapshot),
            disabled: snapshot.disabled,
            owner_disabled: snapshot.owner.is_none_or(|owner| owner.disabled),
            not_before: snapshot.not_before,
            environment: &environment,
            key_type: snapshot.key_type,
            networks: rules.map_or(&no_networks, |rules| &rules.networks),
            origins: rules.map_or(&no_origins, |rules| &rules.origins),
            scopes: &scopes,
        };
        let ask = Ask {
            requirement: request.requirement,
            environment: request.environment,
            key_types: request.key_types,
            address: request.caller.address,
            origin: request.caller.origin,
        };
        let answer = Verification {
            verdict: judge(&facts, &ask, now),
            kid: Some(IdText::of(kid.text())),
            key_id: Some(IdText::of(snapshot.key_id.text())),
            owner: snapshot
                .owner
                .and_then(|owner| index.principal_id(owner.id).cloned()),
            retires_at: (snapshot.state == SecretState::Retiring)
                .then_some(snapshot.retires_at)
                .flatten(),
            expires_at: snapshot.expires_at,
            scopes: Some(scopes),
            limit: None,
            limit_left: None,
            limit_reset_ms: None,
            credits_left: None,
            every_use_counts: snapshot.one_time
                || snapshot.canary
                || rules
                    .is_some_and(|rules| rules.has_credits || !rules.limits.as_slice().is_empty()),
        };
        Ok((answer, rules.map(|rules| &**rules)))
    }

    /// What was granted, as far as the creator may still do it.
    fn effective_scopes(&self, snapshot: &Snapshot) -> Arc<ScopeSet> {
        let index = &self.shared.index;
        let Some(granted) = index.scopes(snapshot.scopes) else {
            return Arc::default();
        };
        let Some(creator) = snapshot.creator else {
            return Arc::clone(granted);
        };
        match index.scopes(creator.permissions) {
            // A creator that is suspended lends nothing to its keys.
            _ if creator.disabled => Arc::default(),
            Some(held) if held.covers_all(granted) => Arc::clone(granted),
            Some(held) => Arc::new(granted.intersect(held)),
            None => Arc::default(),
        }
    }

    async fn take_limits(
        &self,
        request: &VerifyRequest<'_>,
        snapshot: &Snapshot,
        now: i64,
    ) -> Result<LimitAnswer, RegistryError> {
        // It goes on beside a count for all nodes, so that it does not begin at nothing when that
        // one is away.
        let own = self.own_limits(request, snapshot, now);
        let Some(shared) = self.shared.limits.get() else {
            return Ok(own);
        };
        let Some(ask) = self.ask_of_limits(snapshot, request.cost.unwrap_or(1)) else {
            return Ok(own);
        };
        match shared.take(&ask).await {
            LimitsAnswer::Counted(counted) => Ok(counted),
            LimitsAnswer::PerNode => Ok(own),
            LimitsAnswer::Unavailable => Err(RegistryError::LimitsUnavailable),
        }
    }

    fn own_limits(
        &self,
        request: &VerifyRequest<'_>,
        snapshot: &Snapshot,
        now: i64,
    ) -> LimitAnswer {
        let cost = request.cost.unwrap_or(1);
        self.shared.index.gcra(snapshot, micros(now), cost)
    }

    /// What is counted for a key, for whoever counts for all nodes; none for a key without limits.
    fn ask_of_limits(&self, snapshot: &Snapshot, cost: u32) -> Option<LimitAsk> {
        let index = &self.shared.index;
        let rules = snapshot.rules.and_then(|id| index.rules(id))?;
        let limits = rules.limits.as_slice();
        let key = String::from_utf8_lossy(&snapshot.key_id.text()).into_owned();
        let owner = snapshot
            .owner
            .and_then(|owner| index.principal_id(owner.id).cloned());
        let word = |limit: &RateLimit| LimitWord {
            name: match &owner {
                Some(_) if limit.is_shared_by_owner() => {
                    let Gcra {
                        emission_us,
                        tolerance_us,
                    } = Gcra::new(limit);
                    format!("{}:{emission_us}:{tolerance_us}", limit.name())
                }
                _ => format!("{key}:{}", limit.name()),
            },
            gcra: Gcra::new(limit),
        };
        (!limits.is_empty()).then(|| LimitAsk {
            words: limits.iter().map(word).collect(),
            group: owner
                .as_ref()
                .map_or_else(|| key.clone(), |owner| owner.to_string()),
            cost,
        })
    }

    /// Debits exactly, in the database, last of all.
    async fn take_credits(
        &self,
        request: &VerifyRequest<'_>,
        answer: &mut Verification,
    ) -> Result<(), RegistryError> {
        let Some(key_id) = answer.key_id.map(|id| id.to_string()) else {
            return Ok(());
        };
        let cost = request.credits.unwrap_or(1);
        let taken = self
            .write((key_id, cost), |unit, (key_id, cost)| {
                Box::pin(async move {
                    let now = unit.now();
                    let Some((plan, state)) = store::credits::find(unit.read(), key_id).await?
                    else {
                        return Ok(Ok(None));
                    };
                    match state.debit(&plan, *cost, now) {
                        Ok(state) => {
                            store::credits::put_state(unit.write_beside(), key_id, &state).await?;
                            Ok(Ok(Some(state.remaining)))
                        }
                        Err(exhausted) => Ok(Err(exhausted)),
                    }
                })
            })
            .await?;
        match taken {
            Ok(left) => answer.credits_left = left,
            Err(exhausted) => {
                answer.credits_left = Some(exhausted.remaining);
                answer.verdict = Err(Refusal::CreditsExhausted {
                    refill_at: exhausted.refill_at,
                });
            }
        }
        Ok(())
    }

    /// Tells of a bait that was taken, and of a secret that is used after its end.
    fn alarm(
        &self,
        request: &VerifyRequest<'_>,
        snapshot: &Snapshot,
        answer: &Verification,
        now: i64,
    ) {
        let ended = matches!(answer.verdict, Err(Refusal::Retired | Refusal::Revoked));
        let (Some(kid), Some(key_id)) = (&answer.kid, &answer.key_id) else {
            return;
        };
        let (uses, caller) = (&self.shared.uses, &request.caller);
        if snapshot.canary {
            uses.alert(AlertKind::CanaryUsed, key_id, kid, caller, now);
        }
        if ended {
            uses.alert(AlertKind::EndedSecretUsed, key_id, kid, caller, now);
        }
    }

    /// Writes down that a secret is used for the first time, or for the only one.
    async fn first_use(
        &self,
        kid: PackedKid,
        snapshot: &Snapshot,
        now: i64,
        answer: &mut Verification,
    ) -> Result<(), RegistryError> {
        let kid_text = IdText::of(kid.text());
        if snapshot.one_time {
            let first = Box::pin(self.write_first_use(kid_text.to_string(), now, true)).await?;
            if !first {
                answer.verdict = Err(Refusal::Retired);
            }
        } else if !snapshot.first_used && self.shared.index.claim_first_use(snapshot) {
            let claimed = FirstUse::of(&self.shared, kid, &kid_text, now);
            let written = Box::pin(self.write_first_use(kid_text.to_string(), now, false));
            // AC-147: the verification stands even when this write fails or is slow.
            match tokio::time::timeout(FIRST_USE_WAIT, written).await {
                Ok(Ok(_)) => claimed.end(),
                failed => {
                    let code = match &failed {
                        Ok(Err(error)) => error.code(),
                        _ => "slow",
                    };
                    tracing::warn!(code, kid = %kid_text, "the first use of a secret waits");
                }
            }
        }
        Ok(())
    }

    fn count_use(&self, request: &VerifyRequest<'_>, kid: PackedKid, now: i64) {
        let scope: Cow<'_, str> = match request.requirement {
            None => Cow::Borrowed(""),
            Some(requirement) => match requirement.as_scope() {
                Some(scope) => Cow::Borrowed(scope.as_str()),
                None => Cow::Owned(requirement.to_string()),
            },
        };
        self.shared.uses.record(kid, &request.caller, &scope, now);
    }

    async fn write_first_use(
        &self,
        kid: String,
        at: i64,
        and_end: bool,
    ) -> Result<bool, RegistryError> {
        self.write((kid, at), move |unit, (kid, at)| {
            Box::pin(async move {
                if and_end {
                    rotation::only_use(unit, kid, *at).await
                } else {
                    rotation::first_use(unit, kid, *at).await
                }
            })
        })
        .await
    }

    /// AC-148: what was stored under an older pepper is stored under the newest one, beside the
    /// verification and once.
    fn rewrite_mac(&self, kid: &str, old_pepper: &str, mac: KeyMac, pepper_id: &str) {
        let mut under_way = self
            .shared
            .rewrites
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if under_way.len() >= 1024 || !under_way.insert(kid.to_owned()) {
            return;
        }
        drop(under_way);
        let (registry, kid) = (self.clone(), kid.to_owned());
        let input = (
            kid.clone(),
            old_pepper.to_owned(),
            mac,
            pepper_id.to_owned(),
        );
        tokio::spawn(async move {
            let written = registry
                .write(input, |unit, (kid, old, mac, new)| {
                    Box::pin(rotation::rewrite_mac(unit, kid, old, mac, new))
                })
                .await;
            if let Err(error) = written {
                tracing::warn!(
                    code = error.code(),
                    kid,
                    "a secret is still stored under an older pepper"
                );
            }
            let mut under_way = registry
                .shared
                .rewrites
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            under_way.remove(&kid);
        });
    }
}

/// Takes into an answer what was counted on limits.
fn take_in(counted: &LimitAnswer, rules: Option<&Rules>, answer: &mut Verification) {
    let named = |place: usize| rules?.limits.as_slice().get(place).cloned();
    match *counted {
        LimitAnswer::Allowed {
            limit,
            remaining,
            reset_ms,
        } => {
            answer.limit = remaining.and_then(|_| named(limit));
            answer.limit_left = remaining;
            answer.limit_reset_ms = remaining.map(|_| reset_ms);
        }
        LimitAnswer::Refused {
            limit,
            retry_after_ms,
            remaining,
            reset_ms,
        } => {
            answer.limit = named(limit);
            let name = answer.limit.as_ref().map(|limit| limit.name().to_owned());
            answer.limit_left = Some(remaining);
            answer.limit_reset_ms = Some(reset_ms);
            answer.verdict = Err(Refusal::RateLimited {
                limit: name.unwrap_or_default(),
                retry_after_ms: retry_after_ms
                    .map_or(i64::MAX, |ms| i64::try_from(ms).unwrap_or(i64::MAX)),
            });
        }
    }
}

/// Revoked by itself, or with all keys of its owner.
fn is_revoked(snapshot: &Snapshot) -> bool {
    let with_all = snapshot.owner.and_then(|owner| owner.keys_revoked_at);
    snapshot.revoked || with_all.is_some_and(|at| snapshot.created_at <= at)
}

/// The state of a secret at a moment, as [`keywright_domain::api_keys::Secret::state`] decides it.
fn state_at(snapshot: &Snapshot, now: i64) -> SecretState {
    SecretState::at(
        snapshot.state,
        snapshot.expires_at,
        (snapshot.state == SecretState::Retiring)
            .then_some(snapshot.retires_at)
            .flatten(),
        (snapshot.state == SecretState::Pending)
            .then_some(snapshot.retires_at)
            .flatten(),
        now,
    )
}

fn micros(ms: i64) -> i64 {
    ms.saturating_mul(1000)
}
