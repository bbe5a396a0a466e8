//! `/api/v1/hygiene/campaigns`: owners are asked to keep or to retire keys that nobody would miss, or
//! that can do more than they need; and `/api/v1/hygiene/questions`: what one is asked oneself.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use keywright_domain::api_keys::Environment;
use keywright_registry::{
    Answer, Campaign, CampaignFilter, CampaignProgress, HygieneFinding, HygieneRules, NewCampaign,
    Question, QuestionQuery, QuestionState, Unanswered,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::paging::{Asked, invalid};
use crate::etags::IfSeen;
use crate::keys::change::key_for;
use crate::keys::manager::Manager;
use crate::keys::views::problem;
use crate::nodes::receipts::{self, ReceiptView, Wait};
use crate::once::{Done, NoBody, Once, done, gone, replayed};
use crate::problem::Problem;
use crate::server::App;
use crate::sessions::api::Body;

/// Ids that a dry run names.
const SHOWN: usize = 100;

/// Which owners are asked about which of their keys, and until when.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CampaignBody {
    /// For people: 1 to 120 characters.
    name: String,
    /// Keys with any of these: never_used, idle, never_expires, over_scoped, orphaned, many_networks,
    /// past_maximum_age, exposed.
    findings: Vec<String>,
    /// A use this long ago is idle: 1 to 3650, 90 if it is left out.
    idle_days: Option<u32>,
    /// Scopes and networks are judged by so many days: 1 to 365, 90 if it is left out.
    window_days: Option<u32>,
    /// So many networks are many: 2 to 1000, 10 if it is left out.
    networks: Option<u32>,
    /// Of this environment alone.
    environment: Option<String>,
    /// Until when answers are expected (Unix ms): within 366 days.
    due_at: i64,
    /// `leave`: keys that nobody answers for are listed. `disable`: they are suspended at the due date,
    /// a day away at least, if something is still the matter with them.
    unanswered: String,
    /// Say which keys would be looked at, and ask nobody.
    #[serde(default)]
    dry_run: bool,
}

/// Keys that a campaign would look at. Some of them need not be asked about: management keys, bait, and
/// keys of which it was decided.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CampaignPlanView {
    total: usize,
    /// The first 100 of them.
    key_ids: Vec<String>,
}

/// A campaign. Times are Unix ms.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CampaignView {
    id: String,
    name: String,
    /// `running`, `closed` or `cancelled`.
    state: &'static str,
    findings: Vec<&'static str>,
    idle_days: u32,
    window_days: u32,
    networks: u32,
    environment: Option<String>,
    due_at: i64,
    /// `leave` or `disable`.
    unanswered: &'static str,
    created_by: String,
    created_at: i64,
    cancelled_at: Option<i64>,
    closed_at: Option<i64>,
}

impl From<&Campaign> for CampaignView {
    fn from(campaign: &Campaign) -> Self {
        let (filter, rules) = (&campaign.filter, &campaign.filter.rules);
        let environment = filter.environment.as_ref();
        Self {
            id: campaign.id.clone(),
            name: campaign.name.clone(),
            state: campaign.state(),
            findings: filter.findings.iter().map(|one| one.as_str()).collect(),
            idle_days: rules.idle_days,
            window_days: rules.window_days,
            networks: rules.networks,
            environment: environment.map(|one| one.as_str().to_owned()),
            due_at: campaign.due_at,
            unanswered: campaign.unanswered.as_str(),
            created_by: campaign.created_by.clone(),
            created_at: campaign.created_at,
            cancelled_at: campaign.cancelled_at,
            closed_at: campaign.closed_at,
        }
    }
}

/// A campaign and how far it came.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CampaignWithProgress {
    #[serde(flatten)]
    campaign: CampaignView,
    /// Keys that were asked about.
    asked: i64,
    /// Questions by state: `open`, `keep`, `retire` (at the due date), `retired`, `disabled` (nobody
    /// answered), `cleared` (nobody answered, and nothing is the matter any more), `unanswered` (nobody
    /// answered until the due date), `gone` (the key ended otherwise), `cancelled`.
    questions: BTreeMap<&'static str, i64>,
    /// Which nodes refuse all keys that it ended or suspended; absent where it did so with none.
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<ReceiptView>,
}

impl CampaignWithProgress {
    async fn of(app: &App, (campaign, progress): (Campaign, CampaignProgress)) -> Self {
        let wait = Wait(std::time::Duration::ZERO);
        let receipt = match campaign.last_change {
            0 => None,
            change => receipts::of(app, change, wait).await,
        };
        Self {
            campaign: (&campaign).into(),
            asked: progress.asked,
            questions: progress.by_state,
            receipt,
        }
    }
}

/// A page of campaigns, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CampaignList {
    items: Vec<CampaignView>,
    /// Pass it back as `cursor` for the next page; absent on the last.
    next_cursor: Option<String>,
}

/// A question to the owner of a key. Times are Unix ms.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QuestionView {
    campaign_id: String,
    campaign_name: String,
    due_at: i64,
    /// Until when it can be answered: `due_at`, or a day after its owner was told of it where that is later
    /// and keys without an answer are suspended.
    answers_until: i64,
    key_id: String,
    key_name: String,
    owner_id: String,
    findings: Vec<&'static str>,
    state: &'static str,
    asked_at: i64,
    answered_at: Option<i64>,
    answered_by: Option<String>,
    reason: String,
    /// Until when a kept key is not asked about again.
    keep_until: Option<i64>,
    /// `revoke` or `disable`, of a key that is retired.
    how: Option<String>,
    /// When nothing more was to be done.
    settled_at: Option<i64>,
}

impl From<Question> for QuestionView {
    fn from(one: Question) -> Self {
        Self {
            findings: one.findings.iter().map(|one| one.as_str()).collect(),
            state: one.state.as_str(),
            campaign_id: one.campaign_id,
            campaign_name: one.campaign_name,
            due_at: one.due_at,
            answers_until: one.answers_until,
            key_id: one.key_id,
            key_name: one.key_name,
            owner_id: one.owner_id,
            asked_at: one.asked_at,
            answered_at: one.answered_at,
            answered_by: one.answered_by,
            reason: one.reason,
            keep_until: one.keep_until,
            how: one.how,
            settled_at: one.settled_at,
        }
    }
}

/// A page of questions.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QuestionList {
    items: Vec<QuestionView>,
    /// Pass it back as `cursor` for the next page; absent on the last.
    next_cursor: Option<String>,
}

/// What an owner decides.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AnswerBody {
    /// `keep` or `retire`.
    answer: String,
    /// Why: required to keep a key.
    #[serde(default)]
    reason: String,
    /// To keep: until when nobody asks again (Unix ms), within 366 days.
    until: Option<i64>,
    /// To retire: `revoke`, or `disable` until somebody enables it.
    how: Option<String>,
    /// To retire: now, and not at the due date.
    #[serde(default)]
    at_once: bool,
}

/// What came of an answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AnsweredView {
    question: QuestionView,
    /// Which nodes refuse the key; absent where it goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<ReceiptView>,
}

fn answer_of(body: impl Serialize) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

fn new_campaign(asked: &CampaignBody) -> Result<NewCampaign, Problem> {
    let usual = HygieneRules::default();
    let findings: Option<Vec<_>> = asked
        .findings
        .iter()
        .map(|text| HygieneFinding::parse(text))
        .collect();
    let findings = findings
        .ok_or_else(|| Problem::bad_request("invalid_body", "findings: no such finding"))?;
    let environment = asked.environment.as_deref().map(Environment::new);
    let unanswered = Unanswered::parse(&asked.unanswered);
    Ok(NewCampaign {
        name: asked.name.clone(),
        filter: CampaignFilter {
            findings,
            rules: HygieneRules {
                idle_days: asked.idle_days.unwrap_or(usual.idle_days),
                window_days: asked.window_days.unwrap_or(usual.window_days),
                networks: asked.networks.unwrap_or(usual.networks),
            },
            environment: environment
                .transpose()
                .map_err(|error| Problem::bad_request("invalid_environment", error.to_string()))?,
        },
        due_at: asked.due_at,
        unanswered: unanswered
            .ok_or_else(|| Problem::bad_request("invalid_body", "unanswered: leave or disable"))?,
    })
}

/// Asks the owners of keys with some findings to keep or to retire each, until a date. They are told by
/// mail, and webhooks by `hygiene.asked`. Needs `keys:write`.
#[utoipa::path(
    post, path = "/api/v1/hygiene/campaigns", tag = "hygiene", request_body = CampaignBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "A name for this request, for seven days: asked for again, it is not done again. A dry run has none")),
    responses(
        (status = 200, description = "What a dry run found; or begun before by the same request, as it stands", body = CampaignPlanView),
        (status = 201, description = "Begun", body = CampaignWithProgress),
        (status = 400, description = "`out_of_bounds`: the due date, or more than 5000 keys; `invalid_name`"),
    )
)]
pub(crate) async fn begin(
    State(app): State<App>,
    manager: Manager,
    Once { name, body }: Once<Body<CampaignBody>>,
) -> Result<Response, Problem> {
    manager.require("keys:write")?;
    let Body(asked) = body;
    let new = new_campaign(&asked)?;
    let candidates = app.registry.campaign_candidates(&new.filter).await?;
    if asked.dry_run {
        let ids = candidates.iter().map(|one| one.key_id.clone());
        return Ok(answer_of(CampaignPlanView {
            total: candidates.len(),
            key_ids: ids.take(SHOWN).collect(),
        }));
    }
    let registry = name.registry(&app, &manager.actor);
    let begun = registry.begin_campaign(&manager.actor, &new, candidates);
    let (id, is_new) = match done(begun.await)? {
        Done::Now(campaign) => (campaign.id, true),
        Done::Before(id) => (id, false),
    };
    let found = app.registry.find_campaign(&id).await;
    if !is_new {
        let found = found.map_err(gone)?;
        let view = CampaignWithProgress::of(&app, found).await;
        return Ok(replayed(answer_of(view)));
    }
    app.notices.wake();
    let view = CampaignWithProgress::of(&app, found?).await;
    let place = app
        .settings
        .path(&format!("/api/v1/hygiene/campaigns/{id}"));
    let headers = [(header::LOCATION, place)];
    Ok((StatusCode::CREATED, headers, answer_of(view)).into_response())
}

/// One page of campaigns, newest first. Needs `keys:read`.
#[utoipa::path(
    get, path = "/api/v1/hygiene/campaigns", tag = "hygiene",
    params(
        ("cursor" = Option<String>, Query, description = "next_cursor of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 100; 50 if it is left out"),
    ),
    responses((status = 200, description = "A page", body = CampaignList))
)]
pub(crate) async fn list(
    State(app): State<App>,
    manager: Manager,
    asked: Asked,
) -> Result<Response, Problem> {
    manager.require("keys:read")?;
    asked.known(&["cursor", "limit"])?;
    let page = app
        .registry
        .list_campaigns(asked.text("cursor"), asked.limit()?);
    let page = page.await?;
    Ok(answer_of(CampaignList {
        items: page.items.iter().map(CampaignView::from).collect(),
        next_cursor: page.next_cursor,
    }))
}

/// A campaign and how far it came. Needs `keys:read`.
#[utoipa::path(
    get, path = "/api/v1/hygiene/campaigns/{id}", tag = "hygiene",
    params(("id" = String, Path, description = "The campaign"), ("If-None-Match" = Option<String>, Header, description = "ETag that the caller has: 304 if it is so still")),
    responses((status = 304, description = "As the caller has it"), (status = 200, description = "The campaign", body = CampaignWithProgress), (status = 404, description = "`campaign_not_found`"))
)]
pub(crate) async fn read(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    seen: IfSeen,
) -> Result<Response, Problem> {
    manager.require("keys:read")?;
    let found = app.registry.find_campaign(&id).await?;
    seen.show(&CampaignWithProgress::of(&app, found).await)
}

/// Calls a campaign off: nothing of it is done from now on, decided or not. What was done stands, and
/// so does what was decided to be kept. Again, it changes nothing. Needs `keys:write`.
#[utoipa::path(
    post, path = "/api/v1/hygiene/campaigns/{id}/cancel", tag = "hygiene",
    params(("id" = String, Path, description = "The campaign"), ("Idempotency-Key" = Option<String>, Header, description = "A name for this request, for seven days: asked for again, it is not done again")),
    responses((status = 200, description = "Called off", body = CampaignWithProgress), (status = 404, description = "`campaign_not_found`"), (status = 409, description = "`campaign_over`: its due date has come"))
)]
pub(crate) async fn cancel(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    Once { name, .. }: Once<NoBody>,
) -> Result<Response, Problem> {
    manager.require("keys:write")?;
    let registry = name.registry(&app, &manager.actor);
    let cancelled = registry.cancel_campaign(&manager.actor, &id).await;
    let is_before = matches!(done(cancelled)?, Done::Before(_));
    let found = app.registry.find_campaign(&id).await?;
    let response = answer_of(CampaignWithProgress::of(&app, found).await);
    Ok(if is_before {
        replayed(response)
    } else {
        response
    })
}

fn query(asked: &Asked) -> Result<QuestionQuery, Problem> {
    let state = asked
        .text("state")
        .map(|text| QuestionState::parse(text).ok_or_else(|| invalid("state", "no such state")));
    Ok(QuestionQuery {
        campaign_id: None,
        owner_id: asked.owned("owner"),
        state: state.transpose()?,
        cursor: asked.owned("cursor"),
        limit: asked.limit()?,
    })
}

async fn page(app: &App, query: &QuestionQuery) -> Result<Response, Problem> {
    let page = app.registry.list_questions(query).await?;
    Ok(answer_of(QuestionList {
        items: page.items.into_iter().map(QuestionView::from).collect(),
        next_cursor: page.next_cursor,
    }))
}

/// One page of the questions of a campaign, by key. Needs `keys:read`.
#[utoipa::path(
    get, path = "/api/v1/hygiene/campaigns/{id}/questions", tag = "hygiene",
    params(
        ("id" = String, Path, description = "The campaign"),
        ("owner" = Option<String>, Query, description = "Id of the owner"),
        ("state" = Option<String>, Query, description = "open, keep, retire, retired, disabled, cleared, unanswered, gone or cancelled"),
        ("cursor" = Option<String>, Query, description = "next_cursor of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 100; 50 if it is left out"),
    ),
    responses((status = 200, description = "A page", body = QuestionList), (status = 404, description = "`campaign_not_found`"))
)]
pub(crate) async fn questions(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    asked: Asked,
) -> Result<Response, Problem> {
    manager.require("keys:read")?;
    asked.known(&["owner", "state", "cursor", "limit"])?;
    let query = QuestionQuery {
        campaign_id: Some(id),
        ..query(&asked)?
    };
    page(&app, &query).await
}

/// One page of the questions that can be answered, oldest first: one's own, or everybody's with
/// `keys:read`.
#[utoipa::path(
    get, path = "/api/v1/hygiene/questions", tag = "hygiene",
    params(
        ("owner" = Option<String>, Query, description = "Id of the owner; `keys:read` for somebody else's"),
        ("state" = Option<String>, Query, description = "open, keep or retire"),
        ("cursor" = Option<String>, Query, description = "next_cursor of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 100; 50 if it is left out"),
    ),
    responses((status = 200, description = "A page", body = QuestionList))
)]
pub(crate) async fn waiting(
    State(app): State<App>,
    manager: Manager,
    asked: Asked,
) -> Result<Response, Problem> {
    manager.require_own("keys:read")?;
    asked.known(&["owner", "state", "cursor", "limit"])?;
    let query = QuestionQuery {
        owner_id: manager.whose(asked.text("owner"), "keys:read")?,
        ..query(&asked)?
    };
    page(&app, &query).await
}

fn decided(asked: AnswerBody) -> Result<Answer, Problem> {
    let refuse = |detail| Err(Problem::bad_request("invalid_body", detail));
    match (asked.answer.as_str(), asked.until, asked.how.as_deref()) {
        ("keep", Some(until), None) if !asked.at_once => Ok(Answer::Keep {
            until,
            reason: asked.reason,
        }),
        ("keep", ..) => refuse("to keep a key: until and reason, and nothing else"),
        ("retire", None, Some(how @ ("revoke" | "disable"))) => Ok(Answer::Retire {
            revoke: how == "revoke",
            at_once: asked.at_once,
            reason: asked.reason,
        }),
        ("retire", ..) => refuse("to retire a key: how (revoke or disable), reason and at_once"),
        _ => refuse("answer: keep or retire"),
    }
}

/// Answers for a key, or answers otherwise than before: until the due date, and until the key was
/// retired. Who may change the key may answer.
#[utoipa::path(
    post, path = "/api/v1/hygiene/campaigns/{id}/questions/{key_id}", tag = "hygiene", request_body = AnswerBody,
    params(
        ("id" = String, Path, description = "The campaign"),
        ("key_id" = String, Path, description = "The key"),
        ("wait_ms" = Option<u64>, Query, maximum = 1000, description = "How long to wait for the other nodes where the key is retired at once; as long as it takes, 900 at most, if it is left out"),
        ("Idempotency-Key" = Option<String>, Header, description = "A name for this request, for seven days: asked for again, it is not done again"),
    ),
    responses(
        (status = 200, description = "Written down; with a receipt where the key was retired at once", body = AnsweredView),
        (status = 400, description = "`reason_required`, `out_of_bounds`"),
        (status = 404, description = "`key_not_found`, `question_not_found`"),
        (status = 409, description = "`campaign_over`, `question_settled`, `key_revoked`, `key_promoted`"),
    )
)]
pub(crate) async fn answer(
    State(app): State<App>,
    manager: Manager,
    Path((id, key_id)): Path<(String, String)>,
    wait: Wait,
    Once { name, body }: Once<Body<AnswerBody>>,
) -> Result<Response, Problem> {
    key_for(&app, &manager, &key_id, "keys:write").await?;
    let Body(asked) = body;
    let given = decided(asked)?;
    let registry = name.registry(&app, &manager.actor);
    let answered = registry.answer_question(&manager.actor, &id, &key_id, &given);
    let answered = match answered.await {
        Err(error @ keywright_registry::RegistryError::Key(_)) => return Err(problem(error)),
        answered => done(answered)?,
    };
    match answered {
        Done::Now(answered) => {
            let receipt = match &answered.ended {
                Some(key) => receipts::of(&app, key.epoch, wait).await,
                None => None,
            };
            Ok(answer_of(AnsweredView {
                question: answered.question.into(),
                receipt,
            }))
        }
        Done::Before(_) => {
            let question = app.registry.find_question(&id, &key_id).await?;
            Ok(replayed(answer_of(AnsweredView {
                question: question.into(),
                receipt: None,
            })))
        }
    }
}
