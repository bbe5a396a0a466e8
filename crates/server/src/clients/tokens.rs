//! `/api/v1/registration-tokens`: initial access tokens (RFC 7591 §3), with which programs register
//! themselves at `/oauth2/register`. A token is shown once; what it made names its id.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use keywright_domain::SecretText;
use keywright_domain::people::TokenDigest;
use keywright_domain::pkce::random_token;
use keywright_registry::people::{NewRegistrationToken, RegistrationToken};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{READ, WRITE};
use crate::keys::manager::Manager;
use crate::once::{Done, Once, done, gone, replayed};
use crate::problem::Problem;
use crate::server::App;
use crate::sessions::api::{Body, PageAsked, private};

/// What such a token begins with.
const PREFIX: &str = "kw_reg_";
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const LONGEST_DAYS: i64 = 30;
const MOST_USES: i64 = 10_000;
const LONGEST_NOTE: usize = 200;

/// A new token with 256 random bits, and what the registry keeps of it.
#[must_use]
pub fn new_registration_token(
    note: &str,
    lifetime_ms: i64,
    max_uses: i64,
) -> (SecretText, NewRegistrationToken) {
    let random = random_token(&mut rand::rng());
    let token = SecretText::new(format!("{PREFIX}{}", random.expose()));
    let new = NewRegistrationToken {
        digest: TokenDigest::of(&token),
        note: note.to_owned(),
        lifetime_ms,
        max_uses,
    };
    (token, new)
}

/// A registration token, without the token. Times are Unix milliseconds.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RegistrationTokenView {
    id: String,
    /// What it is for.
    note: String,
    made_by: String,
    created_at: i64,
    expires_at: i64,
    /// How many clients it may make in all.
    max_uses: i64,
    /// How many it made.
    uses: i64,
    /// When it was ended before its time.
    ended_at: Option<i64>,
}

impl From<RegistrationToken> for RegistrationTokenView {
    fn from(one: RegistrationToken) -> Self {
        Self {
            id: one.id,
            note: one.note,
            made_by: one.made_by,
            created_at: one.created_at,
            expires_at: one.expires_at,
            max_uses: one.max_uses,
            uses: one.uses,
            ended_at: one.ended_at,
        }
    }
}

/// One page of registration tokens, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RegistrationTokenList {
    items: Vec<RegistrationTokenView>,
    next_cursor: Option<String>,
}

/// A registration token with the token, shown once.
#[derive(Serialize, ToSchema)]
pub(crate) struct RegistrationTokenMade {
    #[serde(flatten)]
    registration_token: RegistrationTokenView,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// The same request made it before, and its answer held the token.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    secret_was_shown: bool,
}

/// A registration token that is to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RegistrationTokenToMake {
    /// What it is for.
    #[schema(max_length = 200)]
    note: String,
    /// 1 to 30.
    #[schema(minimum = 1, maximum = 30)]
    expires_in_days: i64,
    /// How many clients it may make, 1 to 10000.
    #[schema(minimum = 1, maximum = 10000)]
    max_uses: i64,
}

impl Default for RegistrationTokenToMake {
    fn default() -> Self {
        Self {
            note: String::new(),
            expires_in_days: 1,
            max_uses: 1,
        }
    }
}

/// One page of registration tokens, newest first. Needs `clients:read`.
#[utoipa::path(
    get, path = "/api/v1/registration-tokens", tag = "clients",
    params(
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "1 to 100"),
    ),
    responses((status = 200, description = "One page", body = RegistrationTokenList))
)]
pub(crate) async fn list(
    State(app): State<App>,
    manager: Manager,
    asked: PageAsked,
) -> Result<Response, Problem> {
    manager.require(READ)?;
    let page = app
        .registry
        .list_registration_tokens(asked.cursor.as_deref(), asked.limit)
        .await?;
    Ok(private(&RegistrationTokenList {
        items: page.items.into_iter().map(Into::into).collect(),
        next_cursor: page.next_cursor,
    }))
}

/// Makes a registration token, shown this once: good for one client and one day, if nothing else is
/// said. Needs `clients:write`.
#[utoipa::path(
    post, path = "/api/v1/registration-tokens", tag = "clients",
    request_body = RegistrationTokenToMake,
    params(("Idempotency-Key" = Option<String>, Header, description = "A name for this request, for seven days: asked for again, it is not done again")),
    responses(
        (status = 200, description = "Made before by the same request; the token is not shown again", body = RegistrationTokenMade),
        (status = 409, description = "`idempotency_key_reused`"),
        (status = 201, description = "Made; the token is shown once", body = RegistrationTokenMade),
        (status = 400, description = "`invalid_lifetime`, `invalid_max_uses`, `note_too_long`"),
    )
)]
pub(crate) async fn make(
    State(app): State<App>,
    manager: Manager,
    Once { name, body }: Once<Body<RegistrationTokenToMake>>,
) -> Result<Response, Problem> {
    manager.require(WRITE)?;
    let Body(asked) = body;
    let refuse = |code, why: String| Err(Problem::bad_request(code, why));
    if !(1..=LONGEST_DAYS).contains(&asked.expires_in_days) {
        let why = format!("expires_in_days is 1 to {LONGEST_DAYS}");
        return refuse("invalid_lifetime", why);
    }
    if !(1..=MOST_USES).contains(&asked.max_uses) {
        return refuse("invalid_max_uses", format!("max_uses is 1 to {MOST_USES}"));
    }
    if asked.note.chars().count() > LONGEST_NOTE {
        let why = format!("a note has at most {LONGEST_NOTE} characters");
        return refuse("note_too_long", why);
    }
    let lifetime = asked.expires_in_days * DAY_MS;
    let (token, new) = new_registration_token(&asked.note, lifetime, asked.max_uses);
    let registry = name.registry(&app, &manager.actor);
    let made = registry.add_registration_token(&manager.actor, &new);
    let made = match done(made.await)? {
        Done::Now(made) => made,
        Done::Before(id) => {
            let before = app.registry.read_registration_token(&id).await;
            return Ok(replayed(private(&RegistrationTokenMade {
                registration_token: before.map_err(gone)?.into(),
                token: None,
                secret_was_shown: true,
            })));
        }
    };
    let mut response = private(&RegistrationTokenMade {
        registration_token: made.into(),
        token: Some(token.expose().to_owned()),
        secret_was_shown: false,
    });
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

/// Ends a registration token. Clients that were made with it stay: `registered_by` names it. Needs
/// `clients:write`.
#[utoipa::path(
    delete, path = "/api/v1/registration-tokens/{id}", tag = "clients",
    params(("id" = String, Path, description = "The token's id")),
    responses((status = 204, description = "Ended"), (status = 404, description = "`registration_token_not_found`"))
)]
pub(crate) async fn end(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    manager.require(WRITE)?;
    let registry = &app.registry;
    registry.end_registration_token(&manager.actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
