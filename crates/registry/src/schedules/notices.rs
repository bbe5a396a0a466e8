//! Notices about rotations that are due and secrets that expire: 30, 14, 7 and 1 days before, on
//! the day, and overdue. Each is made once and sent by one node; one that could not be sent is
//! tried again; those that a sleep went over are written down as passed.

use std::collections::{BTreeSet, HashMap};
use std::sync::PoisonError;
use std::time::Instant;

use keywright_domain::api_keys::{DAY_MS, Policy, PolicyEnvironment, redact};
use keywright_domain::schedules::{NoticeKind, NoticesDue, TimeZone, notices_due};

use super::KeySchedule;
use crate::board::BoardKind;
use crate::store::board::Post;
use crate::writer::Unit;
use crate::{LocalRegistry, RegistryError, store};

/// The first notice is due when this many days are left; one more for zones ahead of UTC.
const AHEAD_MS: i64 = 32 * DAY_MS;
/// Secrets that expired longer ago are not told of any more, after however long a sleep.
const BEHIND_MS: i64 = 366 * DAY_MS;
/// Keys looked at together, and written in one transaction.
const PAGE: i64 = 100;
/// Between two looks at the ages of all keys.
const AGES_EVERY_MS: i64 = 60 * 60 * 1000;
/// Keys that are looked at together.
const STRETCH: i64 = 10_000;
/// After them the look rests so many times as long as it took.
const REST: u32 = 4;
/// Whoever took a notice has this long to send it; then another node may.
const CLAIM_MS: i64 = 10 * 60 * 1000;
/// A notice that could not be sent waits a minute, then twice as long each time, at most 6 hours.
const FIRST_WAIT_MS: i64 = 60 * 1000;
const LONGEST_WAIT_MS: i64 = 6 * 60 * 60 * 1000;
/// The days of expiry and of a policy's maximum age are counted in this zone.
const COMMON_ZONE: &str = "UTC";

/// What a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoticeSubject {
    /// A rotation is due, by a schedule or because of the policy's maximum age.
    Rotation,
    /// The newest secret expires.
    Expiry,
}

impl NoticeSubject {
    /// Stable text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rotation => "rotation",
            Self::Expiry => "expiry",
        }
    }

    /// Reads the stable text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Rotation, Self::Expiry]
            .into_iter()
            .find(|one| one.as_str() == text)
    }
}

/// A notice, with what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Stable id.
    pub id: String,
    /// The key.
    pub key_id: String,
    /// Its name now.
    pub key_name: String,
    /// Its prefix.
    pub key_prefix: String,
    /// What it is about.
    pub subject: NoticeSubject,
    /// The secret that is to be replaced or that expires.
    pub kid: String,
    /// When that is due (Unix ms).
    pub due_at: i64,
    /// How urgent it is.
    pub kind: NoticeKind,
    /// When it was made (Unix ms).
    pub made_at: i64,
    /// It is not sent any more: a more urgent one says it all, or the matter is settled.
    pub passed: bool,
    /// When it was sent (Unix ms).
    pub sent_at: Option<i64>,
    /// How it was sent.
    pub channel: Option<String>,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// How often somebody took it for sending.
    pub attempts: i64,
}

/// A due moment that may ask for a notice.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) key_id: String,
    pub(crate) subject: NoticeSubject,
    pub(crate) kid: String,
    pub(crate) due_at: i64,
    zone: TimeZone,
}

impl Candidate {
    pub(super) fn of_schedule(schedule: &KeySchedule, kid: &str) -> Self {
        Self {
            key_id: schedule.key_id.clone(),
            subject: NoticeSubject::Rotation,
            kid: kid.to_owned(),
            due_at: schedule.next_due_at,
            zone: schedule.schedule.terms().time_zone.clone(),
        }
    }

    /// For the notice board: a more urgent notice takes the place of the one before.
    fn post(&self, notice_id: &str, kind: NoticeKind) -> Post {
        let board = match self.subject {
            NoticeSubject::Rotation => BoardKind::RotationDue,
            NoticeSubject::Expiry => BoardKind::KeyExpiring,
        };
        Post {
            matter: format!("{} {} {}", self.subject.as_str(), self.key_id, self.kid),
            event_id: format!("ntc_{notice_id}"),
            key_id: Some(self.key_id.clone()),
            kid: self.kid.clone(),
            due_at: Some(self.due_at),
            detail: kind.as_str().to_owned(),
            ..Post::new(board)
        }
    }
}

impl LocalRegistry {
    /// Makes the notices that are due now, and takes as [`Self::take_notices`] does.
    ///
    /// Keys without a schedule are due when their newest secret reaches the maximum age of their
    /// environment's policy. Days are those of the schedule's time zone; of UTC for the rest.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read or written.
    pub async fn due_notices(&self, limit: u32) -> Result<Vec<Notice>, RegistryError> {
        self.make_notices().await?;
        self.take_notices(limit).await
    }

    /// Takes up to `limit` (1 to 500) unsent notices for the caller to send, and at least one where there are any: nobody
    /// else gets them for ten minutes. Tell what came of each by [`Self::mark_notice_sent`] or [`Self::mark_notice_failed`].
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read or written.
    pub async fn take_notices(&self, limit: u32) -> Result<Vec<Notice>, RegistryError> {
        let limit = i64::from(limit.clamp(1, 500));
        loop {
            let taken = self.write(limit, |unit, limit| Box::pin(take(unit, *limit)));
            if let Some(taken) = taken.await? {
                return Ok(taken);
            }
        }
    }

    /// Writes down that a notice was sent, and how. Returns false if it was before.
    ///
    /// # Errors
    /// [`RegistryError::NoticeNotFound`].
    pub async fn mark_notice_sent(&self, id: &str, channel: &str) -> Result<bool, RegistryError> {
        let input = (id.to_owned(), short(channel));
        self.write(input, |unit, (id, channel)| {
            Box::pin(async move {
                let now = unit.now();
                let found = store::notices::find(unit.read(), id).await?;
                if let (_, Some(_)) = found.ok_or(RegistryError::NoticeNotFound)? {
                    return Ok(false);
                }
                store::notices::mark_sent(unit.write(), id, channel, now).await?;
                Ok(true)
            })
        })
        .await
    }

    /// Writes down that a notice could not be sent, and why; it is given out again later. Returns
    /// when (Unix ms), or none if it was sent before.
    ///
    /// # Errors
    /// [`RegistryError::NoticeNotFound`].
    pub async fn mark_notice_failed(
        &self,
        id: &str,
        error: &str,
    ) -> Result<Option<i64>, RegistryError> {
        let input = (id.to_owned(), short(error));
        self.write(input, |unit, (id, error)| {
            Box::pin(async move {
                let now = unit.now();
                let found = store::notices::find(unit.read(), id).await?;
                let (attempts, sent_at) = found.ok_or(RegistryError::NoticeNotFound)?;
                if sent_at.is_some() {
                    return Ok(None);
                }
                let again_at = now.saturating_add(wait(attempts));
                store::notices::mark_failed(unit.write(), id, error, again_at).await?;
                Ok(Some(again_at))
            })
        })
        .await
    }

    /// The latest 200 notices of a key, passed ones too, newest first.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn list_notices(&self, key_id: &str) -> Result<Vec<Notice>, RegistryError> {
        store::notices::of_key(&mut *self.shared.pool.acquire().await?, key_id, 200).await
    }

    /// Makes the notices that are due now. What fails keeps none of the others from being made; the first error
    /// is returned.
    pub(crate) async fn make_notices(&self) -> Result<(), RegistryError> {
        let now = self.now();
        // First: by the ages it is judged what nothing asks for any more.
        let ages = self.mend_ages().await;
        let schedules = self.notices_of_schedules(now).await;
        let expiry = self.notices_of_expiry(now).await;
        // The longest: it looks at every key.
        let policies = self.notices_of_policies(now).await;
        ages.and(schedules).and(expiry).and(policies)
    }

    async fn mend_ages(&self) -> Result<(), RegistryError> {
        let stale = store::policies::stale_ages(&mut *self.shared.pool.acquire().await?).await?;
        if stale.is_empty() {
            return Ok(());
        }
        self.write((), |unit, ()| Box::pin(mend_ages(unit))).await
    }

    async fn notices_of_schedules(&self, now: i64) -> Result<(), RegistryError> {
        let mut after = (i64::MIN, String::new());
        loop {
            let mut connection = self.shared.pool.acquire().await?;
            let until = now.saturating_add(AHEAD_MS);
            let due =
                store::schedules::due(&mut connection, until, (after.0, &after.1), PAGE).await?;
            let Some(last) = due.last() else {
                return Ok(());
            };
            after = (last.next_due_at, last.id.clone());
            let ids: Vec<_> = due.iter().map(|one| one.key_id.clone()).collect();
            let kids: HashMap<String, String> =
                store::schedules::current_kids(&mut connection, &ids)
                    .await?
                    .into_iter()
                    .collect();
            drop(connection);
            let candidates = due.iter().filter_map(|schedule| {
                let kid = kids.get(&schedule.key_id)?;
                Some(Candidate::of_schedule(schedule, kid))
            });
            self.write_notices(candidates.collect()).await?;
        }
    }

    /// The maximum age of a policy is a schedule for keys that have none of their own. It is a matter of days,
    /// and every key that is old enough is looked at: not each minute, unless a day or a policy is new.
    async fn notices_of_policies(&self, now: i64) -> Result<(), RegistryError> {
        let policies = self.list_policies().await?;
        let is_known = |(at, by): &(i64, Vec<Policy>)| {
            (0..AGES_EVERY_MS).contains(&now.saturating_sub(*at))
                && midnight(*at) == midnight(now)
                && *by == policies
        };
        let known = self.shared.aged.lock();
        if (known.unwrap_or_else(PoisonError::into_inner).as_ref()).is_some_and(is_known) {
            return Ok(());
        }
        let environments =
            store::notices::environments(&mut *self.shared.pool.acquire().await?).await?;
        let of = |name: &str| policies.iter().find(|one| one.environment.as_str() == name);
        for environment in &environments {
            let policy = of(environment).or_else(|| of(PolicyEnvironment::All.as_str()));
            if let Some(max_age_ms) = policy.and_then(|policy| policy.max_age_ms) {
                self.notices_of_age(environment, max_age_ms, now).await?;
            }
        }
        let known = self.shared.aged.lock();
        *known.unwrap_or_else(PoisonError::into_inner) = Some((now, policies));
        Ok(())
    }

    async fn write_aged(
        &self,
        found: Vec<(String, String, i64)>,
        zone: &TimeZone,
    ) -> Result<(), RegistryError> {
        let found = candidates(found, NoticeSubject::Rotation, zone);
        for part in found.chunks(usize::try_from(PAGE).unwrap_or(1)) {
            self.write_notices(part.to_vec()).await?;
        }
        Ok(())
    }

    /// Keys of one environment, in the order of time: no secret is older than its key but for those of one kind, so that
    /// whatever was made later is not looked at.
    async fn notices_of_age(
        &self,
        environment: &str,
        max_age_ms: i64,
        now: i64,
    ) -> Result<(), RegistryError> {
        let zone = TimeZone::new(COMMON_ZONE)?;
        let until = last_moment(now);
        let made_until = until.saturating_sub(max_age_ms);
        let end = (made_until.saturating_add(1), String::new());
        let days = (now, until, midnight(now));
        let wanted = (environment, max_age_ms);
        // What fails here keeps none of the others from their notice.
        let promoted = self
            .notices_of_promoted(wanted, made_until, days, &zone)
            .await;
        let mut after = (i64::MIN, String::new());
        loop {
            // So many keys are looked at by one statement, however few of them are old: each is over soon.
            let mut connection = self.shared.pool.acquire().await?;
            let began = Instant::now();
            let next =
                store::notices::stretch(&mut connection, environment, &after, made_until, STRETCH)
                    .await?;
            let found = store::notices::ageing(
                &mut connection,
                wanted,
                (&after, next.as_ref().unwrap_or(&end)),
                days,
            )
            .await?;
            drop(connection);
            // Writing has pauses of its own.
            let looked = began.elapsed();
            self.write_aged(found, &zone).await?;
            let Some(next) = next else {
                return promoted;
            };
            after = next;
            // Millions of keys are a minute of work. Nobody waits for it, and it would take half of a small machine from
            // verifications meanwhile.
            tokio::time::sleep(looked * REST).await;
        }
    }

    /// Of the keys whose secrets are older than they are, those that the walk leaves out.
    async fn notices_of_promoted(
        &self,
        wanted: (&str, i64),
        made_after: i64,
        days: (i64, i64, i64),
        zone: &TimeZone,
    ) -> Result<(), RegistryError> {
        let mut connection = self.shared.pool.acquire().await?;
        let found =
            store::notices::ageing_of_promoted(&mut connection, wanted, made_after, days).await?;
        drop(connection);
        self.write_aged(found, zone).await
    }

    async fn notices_of_expiry(&self, now: i64) -> Result<(), RegistryError> {
        let zone = TimeZone::new(COMMON_ZONE)?;
        let mut after = (now.saturating_sub(BEHIND_MS), String::new());
        loop {
            let mut connection = self.shared.pool.acquire().await?;
            let found = store::notices::expiring(
                &mut connection,
                (after.0, &after.1),
                last_moment(now),
                midnight(now),
                PAGE,
            )
            .await?;
            drop(connection);
            let Some((last, _, due_at)) = found.last() else {
                return Ok(());
            };
            after = (*due_at, last.clone());
            let expiry = NoticeSubject::Expiry;
            self.write_notices(candidates(found, expiry, &zone)).await?;
        }
    }

    async fn write_notices(&self, candidates: Vec<Candidate>) -> Result<(), RegistryError> {
        self.write(candidates, |unit, candidates| {
            Box::pin(record(unit, candidates))
        })
        .await
    }
}

fn candidates(
    found: Vec<(String, String, i64)>,
    subject: NoticeSubject,
    zone: &TimeZone,
) -> Vec<Candidate> {
    found
        .into_iter()
        .map(|(key_id, kid, due_at)| Candidate {
            key_id,
            subject,
            kid,
            due_at,
            zone: zone.clone(),
        })
        .collect()
}

/// What is due of a candidate, beside what was written down before.
pub(super) fn due_of(
    candidate: &Candidate,
    settled: &[store::notices::SettledRow],
    now: i64,
) -> NoticesDue {
    let of_this = |row: &&store::notices::SettledRow| {
        let (key_id, subject, kid, due_at, _) = row;
        *key_id == candidate.key_id
            && subject == candidate.subject.as_str()
            && *kid == candidate.kid
            && *due_at == candidate.due_at
    };
    let kinds: Vec<_> = settled
        .iter()
        .filter(of_this)
        .filter_map(|(_, _, _, _, kind)| NoticeKind::from_stable(kind))
        .collect();
    notices_due(candidate.due_at, now, &kinds, &candidate.zone)
}

/// Writes down what is due of some candidates and was not written before.
pub(super) async fn record(unit: &mut Unit, candidates: &[Candidate]) -> Result<(), RegistryError> {
    let now = unit.now();
    let ids: BTreeSet<_> = candidates.iter().map(|one| one.key_id.clone()).collect();
    let ids: Vec<_> = ids.into_iter().collect();
    let settled = store::notices::settled(unit.read(), &ids).await?;
    for candidate in candidates {
        let due = due_of(candidate, &settled, now);
        for kind in due.passed {
            store::notices::insert(unit.write(), candidate, kind, true, now).await?;
        }
        if let Some(kind) = due.send {
            let new = store::notices::insert(unit.write(), candidate, kind, false, now).await?;
            store::notices::pass_others(unit.write(), candidate, kind).await?;
            if let Some(id) = new {
                let post = candidate.post(&id, kind);
                store::board::put_up(unit.write(), &post, now).await?;
            }
        }
    }
    Ok(())
}

/// Has the columns of policies say what their texts say.
async fn mend_ages(unit: &mut Unit) -> Result<(), RegistryError> {
    for (environment, age) in store::policies::stale_ages(unit.read()).await? {
        store::policies::set_age(unit.write_beside(), &environment, age).await?;
    }
    Ok(())
}

/// Takes what is left of the oldest `limit` when those of them are passed that are outdated; none where all were, and
/// there may be more behind them. However many are outdated, nobody waits for more than so many at once. Everybody
/// who writes has locked the same row, so what is unclaimed here is so for everybody.
async fn take(unit: &mut Unit, limit: i64) -> Result<Option<Vec<Notice>>, RegistryError> {
    let now = unit.now();
    mend_ages(unit).await?;
    let passed = store::notices::pass_outdated(unit.write(), now, limit).await?;
    // Those behind them were not looked at.
    let left = limit.saturating_sub(i64::try_from(passed).unwrap_or(i64::MAX));
    if left <= 0 {
        return Ok(None);
    }
    let mut taken = store::notices::unsent(unit.read(), now, left).await?;
    let until = now.saturating_add(CLAIM_MS);
    for notice in &mut taken {
        if !store::notices::claim(unit.write(), &notice.id, now, until).await? {
            return Err(RegistryError::Changed);
        }
        notice.attempts += 1;
    }
    Ok(Some(taken))
}

/// Writes down what became of notices that were taken together. Returns false, and writes nothing, if another node told
/// one of them: its claim ran out, and what it left is given out again.
pub(crate) async fn tell(
    unit: &mut Unit,
    told: &[(String, String)],
    failed: &[(String, String)],
) -> Result<bool, RegistryError> {
    let now = unit.now();
    let ids: Vec<_> = (told.iter().chain(failed))
        .map(|(id, _)| id.clone())
        .collect();
    let found = store::notices::find_all(unit.read(), &ids).await?;
    if found.len() < ids.len() {
        return Err(RegistryError::NoticeNotFound);
    }
    if found.values().any(|(_, sent_at)| sent_at.is_some()) {
        return Ok(false);
    }
    for (id, channel) in told {
        store::notices::mark_sent(unit.write(), id, &short(channel), now).await?;
    }
    for (id, why) in failed {
        let attempts = found.get(id).map_or(0, |(attempts, _)| *attempts);
        let again_at = now.saturating_add(wait(attempts));
        store::notices::mark_failed(unit.write(), id, &short(why), again_at).await?;
    }
    Ok(true)
}

/// How long a notice waits after so many attempts.
fn wait(attempts: i64) -> i64 {
    let doublings = u32::try_from(attempts.clamp(1, 20) - 1).unwrap_or(0);
    (FIRST_WAIT_MS << doublings).min(LONGEST_WAIT_MS)
}

/// Foreign text, for people: capped, without control characters, never with a key in it.
pub(crate) fn short(text: &str) -> String {
    redact(text)
        .chars()
        .filter(|letter| !letter.is_control())
        .take(500)
        .collect()
}

fn midnight(now: i64) -> i64 {
    now.div_euclid(DAY_MS) * DAY_MS
}

/// The last moment of the day that is 30 days from today.
fn last_moment(now: i64) -> i64 {
    midnight(now).saturating_add(31 * DAY_MS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_notice_waits_longer_each_time_and_never_for_ever() {
        assert_eq!([0, 1, 2, 3].map(wait), [1, 1, 2, 4].map(|one| one * 60_000));
        assert_eq!(wait(20), LONGEST_WAIT_MS);
        assert_eq!(wait(i64::MAX), LONGEST_WAIT_MS);
    }
}
