//! Rows of hygiene campaigns and of their questions. No statement reads more than it is told to.

use std::collections::HashMap;

use keywright_domain::api_keys::Environment;
use sqlx::AnyConnection;

use super::many;
use super::secrets::damaged;
use crate::RegistryError;
use crate::campaigns::{
    Campaign, CampaignFilter, Question, QuestionState, Told, Unanswered, words,
};
use crate::insight::hygiene::{HygieneFinding, HygieneRules};

#[derive(sqlx::FromRow)]
struct CampaignRow {
    id: String,
    name: String,
    findings: String,
    idle_days: i64,
    window_days: i64,
    networks: i64,
    environment: String,
    unanswered: String,
    created_by: String,
    created_at: i64,
    due_at: i64,
    cancelled_at: Option<i64>,
    closed_at: Option<i64>,
    last_change: i64,
}

fn read_findings(text: &str) -> Result<Vec<HygieneFinding>, RegistryError> {
    text.split_ascii_whitespace()
        .map(|word| HygieneFinding::parse(word).ok_or_else(|| damaged("campaign")))
        .collect()
}

impl CampaignRow {
    fn into_campaign(self) -> Result<Campaign, RegistryError> {
        let number = |value: i64| u32::try_from(value).map_err(|_| damaged("campaign"));
        let environment = Some(self.environment.as_str()).filter(|text| !text.is_empty());
        let environment = environment.map(Environment::new).transpose();
        Ok(Campaign {
            filter: CampaignFilter {
                findings: read_findings(&self.findings)?,
                rules: HygieneRules {
                    idle_days: number(self.idle_days)?,
                    window_days: number(self.window_days)?,
                    networks: number(self.networks)?,
                },
                environment: environment.map_err(|_| damaged("campaign"))?,
            },
            unanswered: Unanswered::parse(&self.unanswered).ok_or_else(|| damaged("campaign"))?,
            id: self.id,
            name: self.name,
            due_at: self.due_at,
            created_by: self.created_by,
            created_at: self.created_at,
            cancelled_at: self.cancelled_at,
            closed_at: self.closed_at,
            last_change: self.last_change,
        })
    }
}

pub(crate) async fn insert(
    connection: &mut AnyConnection,
    campaign: &Campaign,
) -> Result<(), RegistryError> {
    let (filter, rules) = (&campaign.filter, &campaign.filter.rules);
    let environment = filter.environment.as_ref();
    sqlx::query(
        "INSERT INTO hygiene_campaigns (id, name, findings, idle_days, window_days, networks, environment, \
         unanswered, created_by, created_at, due_at, last_change) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0)",
    )
    .bind(campaign.id.clone())
    .bind(campaign.name.clone())
    .bind(words(&filter.findings))
    .bind(i64::from(rules.idle_days))
    .bind(i64::from(rules.window_days))
    .bind(i64::from(rules.networks))
    .bind(environment.map_or("", Environment::as_str).to_owned())
    .bind(campaign.unanswered.as_str())
    .bind(campaign.created_by.clone())
    .bind(campaign.created_at)
    .bind(campaign.due_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes what changes of a campaign.
pub(crate) async fn update(
    connection: &mut AnyConnection,
    campaign: &Campaign,
) -> Result<(), RegistryError> {
    sqlx::query(
        "UPDATE hygiene_campaigns SET cancelled_at = $1, closed_at = $2, last_change = $3 WHERE id = $4",
    )
    .bind(campaign.cancelled_at)
    .bind(campaign.closed_at)
    .bind(campaign.last_change)
    .bind(campaign.id.clone())
    .execute(connection)
    .await?;
    Ok(())
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, name, findings, idle_days, window_days, networks, environment, unanswered, created_by, \
             created_at, due_at, cancelled_at, closed_at, last_change FROM hygiene_campaigns ",
            $rest
        )
    };
}

pub(crate) async fn find(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<Option<Campaign>, RegistryError> {
    if crate::store::is_no_id(id) {
        return Ok(None);
    }
    let row: Option<CampaignRow> = sqlx::query_as(select!("WHERE id = $1"))
        .bind(id.to_owned())
        .fetch_optional(connection)
        .await?;
    row.map(CampaignRow::into_campaign).transpose()
}

/// Newest first, behind the one a page ended with.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    after: (i64, &str),
    limit: i64,
) -> Result<Vec<Campaign>, RegistryError> {
    let rows: Vec<CampaignRow> = sqlx::query_as(select!(
        "WHERE (created_at, id) < ($1, $2) ORDER BY created_at DESC, id DESC LIMIT $3"
    ))
    .bind(after.0)
    .bind(after.1.to_owned())
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(CampaignRow::into_campaign).collect()
}

/// Ids of the campaigns that are due, those first that have been so for longest.
pub(crate) async fn due(
    connection: &mut AnyConnection,
    now: i64,
) -> Result<Vec<String>, RegistryError> {
    Ok(sqlx::query_scalar(
        "SELECT id FROM hygiene_campaigns WHERE closed_at IS NULL AND cancelled_at IS NULL AND due_at <= $1 \
         ORDER BY due_at, id",
    )
    .bind(now)
    .fetch_all(connection)
    .await?)
}

/// Removes campaigns that were over before a moment.
pub(crate) async fn prune(
    connection: &mut AnyConnection,
    before: i64,
) -> Result<(), RegistryError> {
    for sql in [
        "DELETE FROM hygiene_questions WHERE campaign_id IN \
         (SELECT id FROM hygiene_campaigns WHERE COALESCE(closed_at, cancelled_at) < $1)",
        "DELETE FROM hygiene_campaigns WHERE COALESCE(closed_at, cancelled_at) < $1",
    ] {
        sqlx::query(sql)
            .bind(before)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Those of some keys that may be asked about, with their owners.
pub(crate) async fn askable(
    connection: &mut AnyConnection,
    key_ids: &[String],
    now: i64,
) -> Result<HashMap<String, String>, RegistryError> {
    if key_ids.is_empty() {
        return Ok(HashMap::new());
    }
    let count = many::padded(key_ids.len());
    // $1…$n are the ids; the moment comes after them.
    let tail = format!(
        " AND k.revoked_at IS NULL AND k.promoted_to IS NULL AND k.canary = 0 AND k.prefix <> 'kw_root' \
         AND NOT EXISTS \
         (SELECT 1 FROM hygiene_questions q WHERE q.key_id = k.id AND (q.state IN ('open', 'retire') \
         OR (q.state = 'keep' AND q.keep_until > ${})))",
        count + 1
    );
    let sql = many::list(
        "SELECT k.id, k.owner_id FROM api_keys k WHERE k.id IN ",
        count,
        &tail,
    );
    let mut query = sqlx::query_as(sqlx::AssertSqlSafe(sql));
    for id in many::padding(key_ids, count) {
        query = query.bind(many::asked(id));
    }
    let rows: Vec<(String, String)> = query.bind(now).fetch_all(connection).await?;
    Ok(rows.into_iter().collect())
}

/// Writes questions: key, owner, findings.
pub(crate) async fn insert_questions(
    connection: &mut AnyConnection,
    campaign_id: &str,
    questions: &[(String, String, String)],
    now: i64,
) -> Result<(), RegistryError> {
    for part in many::parts(questions) {
        let sql = many::rows(
            connection,
            "INSERT INTO hygiene_questions (campaign_id, key_id, owner_id, findings, state, asked_at, reason) VALUES ",
            part.len(),
            7,
        );
        let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
        for (key_id, owner_id, findings) in part {
            query = query
                .bind(campaign_id.to_owned())
                .bind(key_id.clone())
                .bind(owner_id.clone())
                .bind(findings.clone())
                .bind(QuestionState::Open.as_str())
                .bind(now)
                .bind("");
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

pub(crate) async fn count_by_state(
    connection: &mut AnyConnection,
    campaign_id: &str,
) -> Result<Vec<(QuestionState, i64)>, RegistryError> {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "SELECT state, COUNT(*) FROM hygiene_questions WHERE campaign_id = $1 GROUP BY state ORDER BY state",
    )
    .bind(campaign_id.to_owned())
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|(state, count)| {
            let state = QuestionState::parse(&state).ok_or_else(|| damaged("question"))?;
            Ok((state, count))
        })
        .collect()
}

#[derive(sqlx::FromRow)]
struct QuestionRow {
    campaign_id: String,
    campaign_name: String,
    due_at: i64,
    unanswered: String,
    key_id: String,
    key_name: String,
    owner_id: String,
    findings: String,
    state: String,
    asked_at: i64,
    told_at: Option<i64>,
    answered_at: Option<i64>,
    answered_by: Option<String>,
    reason: String,
    keep_until: Option<i64>,
    how: Option<String>,
    settled_at: Option<i64>,
}

impl QuestionRow {
    fn into_question(self) -> Result<Question, RegistryError> {
        let unanswered = Unanswered::parse(&self.unanswered).ok_or_else(|| damaged("campaign"))?;
        let told = match self.told_at {
            None => Told::NotYet,
            Some(TOLD_NOBODY) => Told::Nobody,
            Some(at) => Told::At(at),
        };
        Ok(Question {
            answers_until: match told {
                Told::At(at) => unanswered.answers_until(self.due_at, at),
                Told::NotYet | Told::Nobody => self.due_at,
            },
            findings: read_findings(&self.findings)?,
            state: QuestionState::parse(&self.state).ok_or_else(|| damaged("question"))?,
            campaign_id: self.campaign_id,
            campaign_name: self.campaign_name,
            due_at: self.due_at,
            key_id: self.key_id,
            key_name: self.key_name,
            owner_id: self.owner_id,
            asked_at: self.asked_at,
            told,
            answered_at: self.answered_at,
            answered_by: self.answered_by,
            reason: self.reason,
            keep_until: self.keep_until,
            how: self.how,
            settled_at: self.settled_at,
        })
    }
}

macro_rules! questions {
    ($rest:literal) => {
        concat!(
            "SELECT q.campaign_id, c.name AS campaign_name, c.due_at, c.unanswered, q.key_id, k.name AS key_name, q.owner_id, \
             q.findings, q.state, q.asked_at, q.told_at, q.answered_at, q.answered_by, q.reason, q.keep_until, q.how, \
             q.settled_at FROM hygiene_questions q JOIN hygiene_campaigns c ON c.id = q.campaign_id \
             JOIN api_keys k ON k.id = q.key_id ",
            $rest
        )
    };
}

fn read(rows: Vec<QuestionRow>) -> Result<Vec<Question>, RegistryError> {
    rows.into_iter().map(QuestionRow::into_question).collect()
}

pub(crate) async fn find_question(
    connection: &mut AnyConnection,
    campaign_id: &str,
    key_id: &str,
) -> Result<Option<Question>, RegistryError> {
    if crate::store::is_no_id(campaign_id) || crate::store::is_no_id(key_id) {
        return Ok(None);
    }
    let row: Option<QuestionRow> =
        sqlx::query_as(questions!("WHERE q.campaign_id = $1 AND q.key_id = $2"))
            .bind(campaign_id.to_owned())
            .bind(key_id.to_owned())
            .fetch_optional(connection)
            .await?;
    row.map(QuestionRow::into_question).transpose()
}

/// Questions of a campaign, by key, behind the one a page ended with; empty texts fit all.
pub(crate) async fn list_questions(
    connection: &mut AnyConnection,
    campaign_id: &str,
    (owner_id, state): (&str, &str),
    after: &str,
    limit: i64,
) -> Result<Vec<Question>, RegistryError> {
    let rows: Vec<QuestionRow> = sqlx::query_as(questions!(
        "WHERE q.campaign_id = $1 AND ($2 = '' OR q.owner_id = $2) AND ($3 = '' OR q.state = $3) \
         AND q.key_id > $4 ORDER BY q.key_id LIMIT $5"
    ))
    .bind(campaign_id.to_owned())
    .bind(owner_id.to_owned())
    .bind(state.to_owned())
    .bind(after.to_owned())
    .bind(limit)
    .fetch_all(connection)
    .await?;
    read(rows)
}

/// Questions that can be answered still, oldest first.
pub(crate) async fn list_waiting(
    connection: &mut AnyConnection,
    owner_id: &str,
    state: &str,
    after: (i64, &str, &str),
    limit: i64,
) -> Result<Vec<Question>, RegistryError> {
    let rows: Vec<QuestionRow> = sqlx::query_as(questions!(
        "WHERE q.state IN ('open', 'keep', 'retire') AND q.settled_at IS NULL AND ($1 = '' OR q.owner_id = $1) \
         AND ($2 = '' OR q.state = $2) AND (q.asked_at, q.key_id, q.campaign_id) > ($3, $4, $5) \
         ORDER BY q.asked_at, q.key_id, q.campaign_id LIMIT $6"
    ))
    .bind(owner_id.to_owned())
    .bind(state.to_owned())
    .bind(after.0)
    .bind(after.1.to_owned())
    .bind(after.2.to_owned())
    .bind(limit)
    .fetch_all(connection)
    .await?;
    read(rows)
}

/// Questions of a campaign of which something is to be done at its due date, of keys behind this one.
pub(crate) async fn unsettled(
    connection: &mut AnyConnection,
    campaign_id: &str,
    after: &str,
    limit: i64,
) -> Result<Vec<Question>, RegistryError> {
    let rows: Vec<QuestionRow> = sqlx::query_as(questions!(
        "WHERE q.campaign_id = $1 AND q.settled_at IS NULL AND q.key_id > $2 ORDER BY q.key_id LIMIT $3"
    ))
    .bind(campaign_id.to_owned())
    .bind(after.to_owned())
    .bind(limit)
    .fetch_all(connection)
    .await?;
    read(rows)
}

/// Campaign, owner, key and name of questions that nobody was told of.
pub(crate) async fn untold(
    connection: &mut AnyConnection,
    limit: i64,
) -> Result<Vec<(String, String, String, String)>, RegistryError> {
    Ok(sqlx::query_as(
        "SELECT q.campaign_id, q.owner_id, q.key_id, k.name FROM hygiene_questions q \
         JOIN api_keys k ON k.id = q.key_id WHERE q.told_at IS NULL AND q.state = 'open' \
         ORDER BY q.campaign_id, q.owner_id, q.key_id LIMIT $1",
    )
    .bind(limit)
    .fetch_all(connection)
    .await?)
}

/// Stands in `told_at` where there was nobody to tell, or where nobody is told any more.
const TOLD_NOBODY: i64 = 0;

/// Writes down that its owner was told of a question, or that there was nobody to tell (`now`: none).
/// Returns whether that was not known before.
pub(crate) async fn mark_told(
    connection: &mut AnyConnection,
    campaign_id: &str,
    key_id: &str,
    now: Option<i64>,
) -> Result<bool, RegistryError> {
    let result = sqlx::query(
        "UPDATE hygiene_questions SET told_at = $1 WHERE campaign_id = $2 AND key_id = $3 AND told_at IS NULL",
    )
    .bind(now.unwrap_or(TOLD_NOBODY))
    .bind(campaign_id.to_owned())
    .bind(key_id.to_owned())
    .execute(connection)
    .await?;
    Ok(result.rows_affected() == 1)
}

pub(crate) async fn update_question(
    connection: &mut AnyConnection,
    question: &Question,
) -> Result<(), RegistryError> {
    sqlx::query(
        "UPDATE hygiene_questions SET state = $1, answered_at = $2, answered_by = $3, reason = $4, keep_until = $5, \
         how = $6, settled_at = $7 WHERE campaign_id = $8 AND key_id = $9",
    )
    .bind(question.state.as_str())
    .bind(question.answered_at)
    .bind(question.answered_by.clone())
    .bind(question.reason.clone())
    .bind(question.keep_until)
    .bind(question.how.clone())
    .bind(question.settled_at)
    .bind(question.campaign_id.clone())
    .bind(question.key_id.clone())
    .execute(connection)
    .await?;
    Ok(())
}

/// Nothing of a campaign is done any more, and nobody is told of it who was not yet; what was decided to be
/// kept is kept.
pub(crate) async fn call_off(
    connection: &mut AnyConnection,
    campaign_id: &str,
    now: i64,
) -> Result<(), RegistryError> {
    sqlx::query(
        "UPDATE hygiene_questions SET settled_at = $1, told_at = COALESCE(told_at, $3), \
         state = CASE WHEN state = 'keep' THEN state ELSE 'cancelled' END \
         WHERE campaign_id = $2 AND settled_at IS NULL",
    )
    .bind(now)
    .bind(campaign_id.to_owned())
    .bind(TOLD_NOBODY)
    .execute(connection)
    .await?;
    Ok(())
}
