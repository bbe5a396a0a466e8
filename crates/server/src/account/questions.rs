//! `/account/api-keys/questions`: what hygiene campaigns ask somebody about their own keys, and the
//! answers. It works without scripts.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use keywright_domain::api_keys::DAY_MS;
use keywright_registry::{
    Answer, HygieneFinding, Question, QuestionQuery, QuestionState, RegistryError,
};
use maud::{Markup, html};

use super::api_keys::{KEYS_PAGE, LONGEST_REASON, own};
use super::visitor::{Visitor, or_page, see_other};
use super::{csrf_field, further, tabs};
use crate::http::params::FormParams;
use crate::keys::views::problem;
use crate::pages::{Page, dates};
use crate::problem::Problem;
use crate::server::App;

pub(super) const QUESTIONS_PAGE: &str = "/account/api-keys/questions";
const QUESTIONS: u32 = 50;

/// What can be decided: value, words.
const DECISIONS: [(&str, &str); 7] = [
    ("keep_30", "Keep it, and ask again after 30 days"),
    ("keep_90", "Keep it, and ask again after 90 days"),
    ("keep_365", "Keep it, and ask again after a year"),
    ("disable_due", "Suspend it at the due date"),
    ("revoke_due", "Revoke it at the due date, for good"),
    ("disable_now", "Suspend it now"),
    ("revoke_now", "Revoke it now, for good"),
];

fn decided(decision: &str, reason: &str, now: i64) -> Option<Answer> {
    let keep = |days: i64| Answer::Keep {
        until: now.saturating_add(days * DAY_MS),
        reason: reason.to_owned(),
    };
    let retire = |revoke, at_once| Answer::Retire {
        revoke,
        at_once,
        reason: reason.to_owned(),
    };
    Some(match decision {
        "keep_30" => keep(30),
        "keep_90" => keep(90),
        "keep_365" => keep(365),
        "disable_due" => retire(false, false),
        "revoke_due" => retire(true, false),
        "disable_now" => retire(false, true),
        "revoke_now" => retire(true, true),
        _ => return None,
    })
}

fn words(finding: HygieneFinding) -> &'static str {
    match finding {
        HygieneFinding::NeverUsed => "it was never used",
        HygieneFinding::Idle => "it was not used for long",
        HygieneFinding::NeverExpires => "it never expires",
        HygieneFinding::OverScoped => "it may do more than it is used for",
        HygieneFinding::Orphaned => "nobody answers for it",
        HygieneFinding::ManyNetworks => "it is used from many networks",
        HygieneFinding::PastMaximumAge => "it is older than keys shall become",
        HygieneFinding::Exposed => "it was seen where no key belongs",
    }
}

fn why(question: &Question) -> String {
    let words: Vec<_> = question.findings.iter().copied().map(words).collect();
    words.join(", ")
}

fn query(visitor: &Visitor, state: Option<QuestionState>, limit: u32) -> QuestionQuery {
    QuestionQuery {
        campaign_id: None,
        owner_id: Some(visitor.user_id().to_owned()),
        state,
        cursor: None,
        limit,
    }
}

/// Says on the page of keys that some of them are asked about; nothing where none is.
pub(super) async fn hint(app: &App, visitor: &Visitor) -> Result<Markup, Problem> {
    let open = query(visitor, Some(QuestionState::Open), 1);
    let open = app.registry.list_questions(&open).await?;
    Ok(html! {
        @if !open.items.is_empty() {
            p.notice role="status" {
                "You are asked to keep or to retire some of them: "
                a href=(app.settings.path(QUESTIONS_PAGE)) { "answer" } "."
            }
        }
    })
}

/// The page.
pub(super) async fn show(State(app): State<App>, visitor: Visitor) -> Response {
    or_page(&app, render(&app, &visitor).await)
}

async fn render(app: &App, visitor: &Visitor) -> Result<Response, Problem> {
    let query = QuestionQuery {
        cursor: visitor.query.get("cursor").map(str::to_owned),
        ..query(visitor, None, QUESTIONS)
    };
    let page = app.registry.list_questions(&query).await?;
    let answered = visitor.query.get("done") == Some("answered");
    let content = html! {
        h1 { "Keep or retire" }
        (tabs(app, KEYS_PAGE))
        @if answered { p.notice.ok role="status" { "Your answer is written down." } }
        @if page.items.is_empty() && query.cursor.is_none() {
            p { "Nobody asks about your API keys." }
        } @else {
            p { "Whoever looks after this registry asks whether you need these keys." }
            ul.rows { @for question in &page.items { (row(app, question)) } }
            (further(&app.settings.path(QUESTIONS_PAGE), page.next_cursor.as_deref()))
            p.muted { "Times are UTC." }
        }
        p.actions { a.button href=(app.settings.path(KEYS_PAGE)) { "All API keys" } }
    };
    Ok(visitor.page(app, Page::new("Keep or retire", content).wide()))
}

fn path(app: &App, question: &Question) -> String {
    let (campaign, key) = (&question.campaign_id, &question.key_id);
    app.settings
        .path(&format!("{QUESTIONS_PAGE}/{campaign}/{key}"))
}

fn row(app: &App, question: &Question) -> Markup {
    html! {
        li {
            div {
                strong { (question.key_name) } " "
                @match question.state {
                    QuestionState::Keep => span.badge { "Kept" },
                    QuestionState::Retire => span.badge.warn { "Will be retired" },
                    _ => span.badge.warn { "Not answered" },
                }
                dl {
                    dt { "Asked by" } dd { (question.campaign_name) }
                    dt { "Because" } dd { (why(question)) }
                    dt { "Until" } dd { (dates::shown(question.answers_until)) }
                    @if let Some(until) = question.keep_until {
                        dt { "Kept until" } dd { (dates::shown(until)) }
                    }
                    @if !question.reason.is_empty() { dt { "Reason" } dd { (question.reason) } }
                }
            }
            a.button href=(path(app, question)) aria-label=(format!("Answer for {}", question.key_name)) {
                "Answer…"
            }
        }
    }
}

/// The question, if the key is the visitor's own: others are not there.
async fn find(
    app: &App,
    visitor: &Visitor,
    campaign: &str,
    key: &str,
) -> Result<Question, Problem> {
    own(app, visitor, key).await?;
    let question = app.registry.find_question(campaign, key).await?;
    if question.state.waits() && question.settled_at.is_none() {
        Ok(question)
    } else {
        Err(RegistryError::CampaignOver.into())
    }
}

/// Asks about one key.
pub(super) async fn ask(
    State(app): State<App>,
    visitor: Visitor,
    Path((campaign, key)): Path<(String, String)>,
) -> Response {
    let found = find(&app, &visitor, &campaign, &key).await;
    or_page(
        &app,
        found.map(|question| form(&app, &visitor, &question, ("", ""), None)),
    )
}

fn form(
    app: &App,
    visitor: &Visitor,
    question: &Question,
    (decision, reason): (&str, &str),
    wrong: Option<&str>,
) -> Response {
    let content = html! {
        h1 { "Keep or retire “" (question.key_name) "”?" }
        p { "You are asked because " (why(question)) ". Answers are taken until " (dates::shown(question.answers_until)) " UTC." }
        form method="post" action=(path(app, question)) {
            (csrf_field(visitor.csrf()))
            label for="decision" { "What becomes of it" }
            select id="decision" name="decision" required {
                @for (value, words) in DECISIONS {
                    option value=(value) selected[value == decision] { (words) }
                }
            }
            label for="reason" { "Why" }
            input id="reason" name="reason" type="text" maxlength=(LONGEST_REASON) value=(reason)
                autocomplete="off" aria-invalid=[wrong.map(|_| "true")]
                aria-describedby=(if wrong.is_some() { "wrong hint" } else { "hint" });
            @if let Some(wrong) = wrong { p.notice.error id="wrong" role="alert" { (wrong) } }
            p.hint id="hint" { "Needed to keep it. It is kept with your answer." }
            div.actions {
                button.primary type="submit" { "Answer" }
                a.button href=(app.settings.path(QUESTIONS_PAGE)) { "Later" }
            }
        }
    };
    let status = wrong.map_or(StatusCode::OK, |_| StatusCode::BAD_REQUEST);
    visitor.page(
        app,
        Page::new("Keep or retire?", content).with_status(status),
    )
}

/// Takes an answer.
pub(super) async fn answer(
    State(app): State<App>,
    visitor: Visitor,
    Path((campaign, key)): Path<(String, String)>,
    FormParams(given): FormParams,
) -> Response {
    let answer = async {
        visitor.check(&app, &given)?;
        let question = find(&app, &visitor, &campaign, &key).await?;
        let decision = given.get("decision").unwrap_or("");
        let reason = given.get("reason").unwrap_or("").trim();
        let answer = decided(decision, reason, app.now());
        let wrong = match &answer {
            None => Some("Say what becomes of the key."),
            Some(Answer::Keep { reason, .. }) if reason.is_empty() => {
                Some("Say why it is needed, in a few words.")
            }
            Some(_) if reason.chars().count() > LONGEST_REASON => Some("At most 500 characters."),
            Some(_) => None,
        };
        let (Some(answer), None) = (answer, wrong) else {
            return Ok(form(&app, &visitor, &question, (decision, reason), wrong));
        };
        app.registry
            .answer_question(&visitor.actor(), &campaign, &key, &answer)
            .await
            .map_err(problem)?;
        Ok(see_other(
            &app.settings
                .path(&format!("{QUESTIONS_PAGE}?done=answered")),
        ))
    };
    or_page(&app, answer.await)
}
