//! Rows of notices: which were made for which due moment, who sends them, and what came of it.

use std::collections::HashMap;

use keywright_domain::schedules::NoticeKind;
use sqlx::AnyConnection;

use super::many;
use super::schedules::kept_and_let;
use super::secrets::damaged;
use crate::RegistryError;
use crate::schedules::notices::{Candidate, Notice, NoticeSubject};

/// What is settled already: key, subject, kid, due moment, kind.
pub(crate) type SettledRow = (String, String, String, i64, String);

macro_rules! kind_due {
    ($due:literal) => {
        // The kind that the calendar day of a due moment asks for, in UTC; $4 is midnight today.
        concat!(
            "CASE WHEN ",
            $due,
            " < $4 THEN 'overdue' WHEN ",
            $due,
            " < $4 + 86400000 THEN 'today' WHEN ",
            $due,
            " < $4 + 172800000 THEN 'days_1' WHEN ",
            $due,
            " < $4 + 691200000 THEN 'days_7' WHEN ",
            $due,
            " < $4 + 1296000000 THEN 'days_14' ELSE 'days_30' END"
        )
    };
}

/// Keys whose newest secret expires after the place and until `until` and whose notice of today was
/// not made yet, soonest first: id, kid, expiry.
pub(crate) async fn expiring(
    connection: &mut AnyConnection,
    after: (i64, &str),
    until: i64,
    midnight: i64,
    limit: i64,
) -> Result<Vec<(String, String, i64)>, RegistryError> {
    Ok(sqlx::query_as(concat!(
        "SELECT k.id, k.kid, k.expires_order FROM api_keys k LEFT JOIN principals p ON p.id = k.owner_id \
         WHERE (k.expires_order, k.id) > ($1, $2) AND k.expires_order <= $3 AND k.revoked_at IS NULL",
        kept_and_let!(),
        "AND NOT EXISTS (SELECT 1 FROM notices n \
         WHERE n.key_id = k.id AND n.subject = 'expiry' AND n.kid = k.kid AND n.due_at = k.expires_order \
         AND n.kind = ",
        kind_due!("k.expires_order"),
        ") ORDER BY k.expires_order, k.id LIMIT $5"
    ))
    .bind(after.0)
    .bind(after.1.to_owned())
    .bind(until)
    .bind(midnight)
    .bind(limit)
    .fetch_all(connection)
    .await?)
}

/// The environments that keys have, each found by one look into their index.
pub(crate) async fn environments(
    connection: &mut AnyConnection,
) -> Result<Vec<String>, RegistryError> {
    let mut found: Vec<String> = Vec::new();
    loop {
        let last = found.last().cloned().unwrap_or_default();
        let next: Option<String> =
            sqlx::query_scalar("SELECT MIN(environment) FROM api_keys WHERE environment > $1")
                .bind(last)
                .fetch_one(&mut *connection)
                .await?;
        let Some(next) = next else { return Ok(found) };
        found.push(next);
    }
}

/// A place among keys of an environment, in the order of time: made at, id.
pub(crate) type Place = (i64, String);

/// Where so many keys of an environment after a place end, of those that were made until a moment; none where there
/// are no more than that.
pub(crate) async fn stretch(
    connection: &mut AnyConnection,
    environment: &str,
    after: &Place,
    until: i64,
    length: i64,
) -> Result<Option<Place>, RegistryError> {
    Ok(sqlx::query_as(
        "SELECT created_at, id FROM api_keys WHERE environment = $1 AND (created_at, id) > ($2, $3) \
         AND created_at <= $4 ORDER BY created_at, id LIMIT 1 OFFSET $5",
    )
    .bind(environment.to_owned())
    .bind(after.0)
    .bind(after.1.clone())
    .bind(until)
    .bind(length - 1)
    .fetch_optional(connection)
    .await?)
}

/// Keys of an environment after a place and until another without a schedule whose newest secret reaches an age until
/// `until` and whose notice of today was not made yet: id, kid, the moment.
pub(crate) async fn ageing(
    connection: &mut AnyConnection,
    (environment, max_age_ms): (&str, i64),
    (after, through): (&Place, &Place),
    (now, until, midnight): (i64, i64, i64),
) -> Result<Vec<(String, String, i64)>, RegistryError> {
    Ok(sqlx::query_as(concat!(
        "SELECT k.id, k.kid, s.created_at + $1 FROM api_keys k JOIN secrets s ON s.kid = k.kid \
         LEFT JOIN principals p ON p.id = k.owner_id \
         WHERE k.environment = $5 AND (k.created_at, k.id) > ($2, $7) AND (k.created_at, k.id) <= ($8, $9) \
         AND s.created_at <= $3 - $1 AND k.revoked_at IS NULL AND k.disabled_at IS NULL AND k.expires_order > $6",
        kept_and_let!(),
        "AND NOT EXISTS (SELECT 1 FROM schedules c WHERE c.key_id = k.id) \
         AND NOT EXISTS (SELECT 1 FROM notices n WHERE n.key_id = k.id AND n.subject = 'rotation' \
         AND n.kid = k.kid AND n.due_at = s.created_at + $1 AND n.kind = ",
        kind_due!("s.created_at + $1"),
        ") ORDER BY k.created_at, k.id"
    ))
    .bind(max_age_ms)
    .bind(after.0)
    .bind(until)
    .bind(midnight)
    .bind(environment.to_owned())
    .bind(now)
    .bind(after.1.clone())
    .bind(through.0)
    .bind(through.1.clone())
    .fetch_all(connection)
    .await?)
}

// Promotion makes such a key as old as one millisecond after its owner's keys were revoked; revoked once more, it is none of
// those that live. In this order: few owners are among them, and where their keys stand is known. SQLite has no statistics,
// and would rather look at all young keys.
const AGEING_OF_PROMOTED: &str = concat!(
    "SELECT k.id, k.kid, s.created_at + $1 FROM principals p CROSS JOIN api_keys k CROSS JOIN secrets s \
     WHERE p.keys_revoked_at IS NOT NULL AND k.owner_id = p.id AND k.created_at = p.keys_revoked_at + 1 AND s.kid = k.kid \
     AND k.environment || '' = $5 AND +k.created_at > $2 AND s.created_at < k.created_at \
     AND s.created_at <= $3 - $1 AND k.revoked_at IS NULL AND k.disabled_at IS NULL AND k.expires_order > $6",
    kept_and_let!(),
    "AND NOT EXISTS (SELECT 1 FROM schedules c WHERE c.key_id = k.id) \
     AND NOT EXISTS (SELECT 1 FROM notices n WHERE n.key_id = k.id AND n.subject = 'rotation' \
     AND n.kid = k.kid AND n.due_at = s.created_at + $1 AND n.kind = ",
    kind_due!("s.created_at + $1"),
    ")"
);

/// The same for keys that were promoted to an owner whose keys had all been revoked: they are as new as that allows, and
/// their secrets older. Only those that the walk in the order of time leaves out.
pub(crate) async fn ageing_of_promoted(
    connection: &mut AnyConnection,
    (environment, max_age_ms): (&str, i64),
    made_after: i64,
    (now, until, midnight): (i64, i64, i64),
) -> Result<Vec<(String, String, i64)>, RegistryError> {
    Ok(sqlx::query_as(AGEING_OF_PROMOTED)
        .bind(max_age_ms)
        .bind(made_after)
        .bind(until)
        .bind(midnight)
        .bind(environment.to_owned())
        .bind(now)
        .fetch_all(connection)
        .await?)
}

/// Takes the notices of a due moment of a key along to another that is nobody's yet: none was made of it. What was passed
/// before anybody was told is left behind, and made anew where it is still due; not what somebody is sending.
pub(crate) async fn move_due(
    connection: &mut AnyConnection,
    key_id: &str,
    (from, to): (i64, i64),
    now: i64,
) -> Result<(), RegistryError> {
    sqlx::query(
        "DELETE FROM notices WHERE key_id = $1 AND subject = 'rotation' AND due_at = $2 AND sent_at IS NULL AND passed = 1 \
         AND claimed_until <= $3",
    )
    .bind(key_id.to_owned())
    .bind(from)
    .bind(now)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "UPDATE notices SET due_at = $1 WHERE key_id = $2 AND subject = 'rotation' AND due_at = $3",
    )
    .bind(to)
    .bind(key_id.to_owned())
    .bind(from)
    .execute(connection)
    .await?;
    Ok(())
}

/// What was made for some keys.
pub(crate) async fn settled(
    connection: &mut AnyConnection,
    key_ids: &[String],
) -> Result<Vec<SettledRow>, RegistryError> {
    let mut found = Vec::new();
    for part in key_ids.chunks(many::MOST) {
        let count = many::padded(part.len());
        let sql = many::list(
            "SELECT key_id, subject, kid, due_at, kind FROM notices WHERE key_id IN ",
            count,
            "",
        );
        let mut query = sqlx::query_as(sqlx::AssertSqlSafe(sql));
        for id in many::padding(part, count) {
            query = query.bind(id.clone());
        }
        let rows: Vec<SettledRow> = query.fetch_all(&mut *connection).await?;
        found.extend(rows);
    }
    Ok(found)
}

/// Writes a notice down, unless it is there. Returns its id if it is new.
pub(crate) async fn insert(
    connection: &mut AnyConnection,
    candidate: &Candidate,
    kind: NoticeKind,
    passed: bool,
    now: i64,
) -> Result<Option<String>, RegistryError> {
    let id = keywright_domain::base62::ordered_id(now, &mut rand::rng());
    let result = sqlx::query(
        "INSERT INTO notices (id, key_id, subject, kid, due_at, kind, made_at, passed, claimed_until, attempts) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, 0) ON CONFLICT (key_id, subject, kid, due_at, kind) DO NOTHING",
    )
    .bind(id.clone())
    .bind(candidate.key_id.clone())
    .bind(candidate.subject.as_str())
    .bind(candidate.kid.clone())
    .bind(candidate.due_at)
    .bind(kind.as_str())
    .bind(now)
    .bind(i64::from(passed))
    .execute(connection)
    .await?;
    Ok((result.rows_affected() == 1).then_some(id))
}

/// Less urgent ones that were not sent are passed once a more urgent one is there.
pub(crate) async fn pass_others(
    connection: &mut AnyConnection,
    candidate: &Candidate,
    kind: NoticeKind,
) -> Result<(), RegistryError> {
    sqlx::query(
        "UPDATE notices SET passed = 1 WHERE key_id = $1 AND subject = $2 AND kid = $3 AND due_at = $4 \
         AND kind <> $5 AND sent_at IS NULL AND passed = 0",
    )
    .bind(candidate.key_id.clone())
    .bind(candidate.subject.as_str())
    .bind(candidate.kid.clone())
    .bind(candidate.due_at)
    .bind(kind.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

// Whether nothing asks any more for the rotation that a row of notices (its key, secret and moment) tells of:
// the key's schedule is not due then, and where it has none, no policy lets the secret become just as old.
macro_rules! rotation_is_off {
    ($row:literal) => {
        concat!(
            "(NOT EXISTS (SELECT 1 FROM schedules c WHERE c.key_id = ",
            $row,
            ".key_id AND c.next_due_at = ",
            $row,
            ".due_at AND c.paused_at IS NULL) AND (EXISTS (SELECT 1 FROM schedules c WHERE c.key_id = ",
            $row,
            ".key_id) OR NOT EXISTS (SELECT 1 FROM api_keys a JOIN secrets g ON g.kid = ",
            $row,
            ".kid JOIN policies p ON (p.environment = a.environment OR (p.environment = '*' AND NOT EXISTS \
             (SELECT 1 FROM policies o WHERE o.environment = a.environment))) WHERE a.id = ",
            $row,
            ".key_id AND p.max_age_ms = ",
            $row,
            ".due_at - g.created_at)))"
        )
    };
}
pub(super) use rotation_is_off;

/// Unsent ones about a secret that is not the key's newest any more, about a key that ended with its owner's or lives
/// elsewhere, about a moment that was moved, or about a rotation that nothing asks for any more, are passed: of the
/// oldest `limit` that nobody is sending, so that a mass of notices is looked through once and not for each page of
/// it. Returns how many were.
pub(crate) async fn pass_outdated(
    connection: &mut AnyConnection,
    now: i64,
    limit: i64,
) -> Result<u64, RegistryError> {
    let result = sqlx::query(concat!(
        "UPDATE notices SET passed = 1 WHERE id IN (SELECT id FROM notices WHERE sent_at IS NULL AND passed = 0 \
         AND claimed_until <= $1 ORDER BY made_at, id LIMIT $2) AND (\
         NOT EXISTS (SELECT 1 FROM api_keys k LEFT JOIN principals p ON p.id = k.owner_id \
         WHERE k.id = notices.key_id AND k.kid = notices.kid AND k.revoked_at IS NULL",
        kept_and_let!(),
        "AND (notices.subject <> 'expiry' OR k.expires_order = notices.due_at)) \
         OR (notices.subject = 'rotation' AND ",
        rotation_is_off!("notices"),
        "))"
    ))
    .bind(now)
    .bind(limit)
    .execute(connection)
    .await?;
    Ok(result.rows_affected())
}

#[derive(sqlx::FromRow)]
struct NoticeRow {
    id: String,
    key_id: String,
    key_name: String,
    key_prefix: String,
    subject: String,
    kid: String,
    due_at: i64,
    kind: String,
    made_at: i64,
    passed: i64,
    sent_at: Option<i64>,
    channel: Option<String>,
    error: Option<String>,
    attempts: i64,
}

impl NoticeRow {
    fn into_notice(self) -> Result<Notice, RegistryError> {
        Ok(Notice {
            id: self.id,
            key_id: self.key_id,
            key_name: self.key_name,
            key_prefix: self.key_prefix,
            subject: NoticeSubject::parse(&self.subject).ok_or_else(|| damaged("notice"))?,
            kid: self.kid,
            due_at: self.due_at,
            kind: NoticeKind::from_stable(&self.kind).ok_or_else(|| damaged("notice"))?,
            made_at: self.made_at,
            passed: self.passed != 0,
            sent_at: self.sent_at,
            channel: self.channel,
            error: self.error,
            attempts: self.attempts,
        })
    }
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT n.id, n.key_id, k.name AS key_name, k.prefix AS key_prefix, n.subject, n.kid, n.due_at, n.kind, \
             n.made_at, n.passed, n.sent_at, n.channel, n.error, n.attempts FROM notices n JOIN api_keys k ON k.id = n.key_id ",
            $rest
        )
    };
}

/// Those to send that nobody is sending, oldest first.
pub(crate) async fn unsent(
    connection: &mut AnyConnection,
    now: i64,
    limit: i64,
) -> Result<Vec<Notice>, RegistryError> {
    let rows: Vec<NoticeRow> = sqlx::query_as(select!(
        "WHERE n.sent_at IS NULL AND n.passed = 0 AND n.claimed_until <= $1 ORDER BY n.made_at, n.id LIMIT $2"
    ))
    .bind(now)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(NoticeRow::into_notice).collect()
}

/// Takes one for sending, if nobody did. Returns whether it was this call.
pub(crate) async fn claim(
    connection: &mut AnyConnection,
    id: &str,
    now: i64,
    until: i64,
) -> Result<bool, RegistryError> {
    let result = sqlx::query(
        "UPDATE notices SET claimed_until = $1, attempts = attempts + 1 \
         WHERE id = $2 AND claimed_until <= $3 AND sent_at IS NULL AND passed = 0",
    )
    .bind(until)
    .bind(id.to_owned())
    .bind(now)
    .execute(connection)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// The notices of a key, newest first.
pub(crate) async fn of_key(
    connection: &mut AnyConnection,
    key_id: &str,
    limit: i64,
) -> Result<Vec<Notice>, RegistryError> {
    let rows: Vec<NoticeRow> = sqlx::query_as(select!(
        "WHERE n.key_id = $1 ORDER BY n.made_at DESC, n.due_at DESC, n.kind, n.id LIMIT $2"
    ))
    .bind(key_id.to_owned())
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(NoticeRow::into_notice).collect()
}

/// Attempts of a notice, and when it was sent.
pub(crate) async fn find(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<Option<(i64, Option<i64>)>, RegistryError> {
    if crate::store::is_no_id(id) {
        return Ok(None);
    }
    Ok(
        sqlx::query_as("SELECT attempts, sent_at FROM notices WHERE id = $1")
            .bind(id.to_owned())
            .fetch_optional(connection)
            .await?,
    )
}

/// Attempts of notices, and when each was sent, by id.
pub(crate) async fn find_all(
    connection: &mut AnyConnection,
    ids: &[String],
) -> Result<HashMap<String, (i64, Option<i64>)>, RegistryError> {
    let mut found = HashMap::with_capacity(ids.len());
    for part in ids.chunks(many::MOST) {
        let count = many::padded(part.len());
        let sql = many::list(
            "SELECT id, attempts, sent_at FROM notices WHERE id IN ",
            count,
            "",
        );
        let mut query = sqlx::query_as(sqlx::AssertSqlSafe(sql));
        for id in many::padding(part, count) {
            query = query.bind(id.clone());
        }
        let rows: Vec<(String, i64, Option<i64>)> = query.fetch_all(&mut *connection).await?;
        found.extend(
            rows.into_iter()
                .map(|(id, attempts, sent)| (id, (attempts, sent))),
        );
    }
    Ok(found)
}

pub(crate) async fn mark_sent(
    connection: &mut AnyConnection,
    id: &str,
    channel: &str,
    now: i64,
) -> Result<(), RegistryError> {
    sqlx::query("UPDATE notices SET sent_at = $1, channel = $2, error = NULL WHERE id = $3")
        .bind(now)
        .bind(channel.to_owned())
        .bind(id.to_owned())
        .execute(connection)
        .await?;
    Ok(())
}

pub(crate) async fn mark_failed(
    connection: &mut AnyConnection,
    id: &str,
    error: &str,
    again_at: i64,
) -> Result<(), RegistryError> {
    sqlx::query("UPDATE notices SET error = $1, claimed_until = $2 WHERE id = $3")
        .bind(error.to_owned())
        .bind(again_at)
        .bind(id.to_owned())
        .execute(connection)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use sqlx::{AnyConnection, Connection as _};

    use super::AGEING_OF_PROMOTED;
    use crate::{Clock, LocalRegistry};

    /// Each hour, among however many keys: only owners whose keys were revoked are looked at, and of their keys those alone
    /// that may be meant.
    #[tokio::test]
    async fn the_ages_of_promoted_keys_are_looked_for_by_their_owners() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("registry.db");
        let registry = LocalRegistry::open(&file, Clock::from_fn(|| 0)).await?;
        let mut stranger = AnyConnection::connect(&format!("sqlite://{}", file.display())).await?;
        let sql = format!("EXPLAIN QUERY PLAN {AGEING_OF_PROMOTED}");
        let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(1_i64)
            .bind(1_i64)
            .bind(1_i64)
            .bind(1_i64)
            .bind("live")
            .bind(1_i64)
            .fetch_all(&mut stranger)
            .await?;
        let steps: Vec<_> = plan.iter().map(|(.., step)| step.as_str()).collect();
        for wanted in [
            "SCAN p USING INDEX principals_off",
            "SEARCH k USING INDEX api_keys_by_owner (owner_id=? AND created_at=?)",
        ] {
            anyhow::ensure!(steps.contains(&wanted), "{wanted} is not in {steps:#?}");
        }
        registry.close().await;
        Ok(())
    }
}
