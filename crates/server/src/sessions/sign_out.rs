//! `POST /auth/signOut?token_type_hint=session_token` (S2-19, S2-29, S2-34): ends the session with all
//! that hangs on it, the sign-in of a page of one's own too, and takes their cookies away.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use keywright_domain::people::EndReason;
use keywright_jose::strict_json::read_object;
use serde::Serialize;

use super::api::is_json;
use crate::browser_session::{self, Found};
use crate::http::cookies::{self, Name};
use crate::http::local_path::LocalPath;
use crate::http::params::FormParams;
use crate::http::{Cookies, Params, Peer, close_names, csrf};
use crate::problem::Problem;
use crate::server::App;
use crate::sign_in::own_page;

const HINT: &str = "token_type_hint";
const REDIRECT: &str = "redirectTo";
const KNOWN: [&str; 3] = [HINT, REDIRECT, csrf::FIELD];

/// What a sign-out came to.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct SignedOut {
    /// Whether a session ended now; false if it was over before.
    #[serde(rename = "signedOut")]
    signed_out: bool,
}

/// Ends this browser's session, and what a page of its own signed in for (`/auth/login`).
#[utoipa::path(
    post,
    path = "/auth/signOut",
    tag = "sessions",
    security((), ("session" = [])),
    params(
        ("token_type_hint" = Option<String>, Query, pattern = "^(session_token)$", description = "`session_token`"),
        ("redirectTo" = Option<String>, Query, description = "A path of this site to go to afterwards"),
    ),
    responses(
        (status = 200, description = "Signed out", body = SignedOut),
        (status = 303, description = "Signed out; on to `redirectTo`"),
        (status = 400, description = "`unknown_parameter`, `unsupported_token_type`, `invalid_redirect`, `invalid_body`"),
        (status = 403, description = "`csrf_missing`, `csrf_invalid`, `origin_rejected`"),
        (status = 415, description = "The body is neither a form nor JSON"),
    )
)]
pub(crate) async fn sign_out(
    State(app): State<App>,
    peer: Peer,
    cookies: Cookies,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    Fields(form): Fields,
) -> Result<Response, Problem> {
    let query = Params::parse(query.as_deref().unwrap_or(""))
        .map_err(|error| Problem::bad_request("repeated_parameter", error.to_string()))?;
    check_names(&query)?;
    check_names(&form)?;
    let asked = |name: &str| query.get(name).or_else(|| form.get(name));
    if let Some(hint) = asked(HINT).filter(|hint| *hint != "session_token") {
        let shown: String = hint.chars().take(40).collect();
        let detail = format!("{HINT} “{shown}” is not known: session_token is");
        return Err(Problem::bad_request("unsupported_token_type", detail));
    }
    let target = match asked(REDIRECT) {
        None => None,
        Some(text) => Some(LocalPath::parse(text).ok_or_else(|| {
            let detail = format!("{REDIRECT} is a path of this site, such as /account");
            Problem::bad_request("invalid_redirect", detail)
        })?),
    };

    let found = browser_session::find(&app, &cookies, &peer).await?;
    let mut signed_out = false;
    if let Found::SignedIn(signed_in) = &found {
        let (id, field) = (signed_in.session.id.as_str(), form.get(csrf::FIELD));
        csrf::check(
            &app.settings,
            &app.secrets,
            &headers,
            &cookies,
            Some(id),
            field,
        )?;
        let user_id = &signed_in.user.id;
        let actor = signed_in.actor();
        signed_out = super::end(&app, &actor, user_id, id, EndReason::SignedOut).await?;
    } else {
        csrf::check_origin(&app.settings, &headers)?;
    }

    // After the CSRF check: with a bad token nothing ends.
    signed_out |= own_page::end(&app, &cookies, &peer, None).await? == own_page::Ended::Now;

    let mut response = match target {
        Some(path) => {
            let location = HeaderValue::try_from(path.as_str()).map_err(|_| {
                Problem::bad_request(
                    "invalid_redirect",
                    "redirectTo has other characters than a path",
                )
            })?;
            (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response()
        }
        None => Json(SignedOut { signed_out }).into_response(),
    };
    // S3-52. What other cookies hold was this session's too.
    for name in [
        Name::Session,
        Name::Csrf,
        Name::Refresh,
        Name::SignIn,
        Name::Pending,
    ] {
        let clear = cookies::clear(&app.settings, name);
        response.headers_mut().append(header::SET_COOKIE, clear);
    }
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// The body: the fields of a form, or a JSON object with the same members. An empty one is fine as either: a
/// sign-out says everything by its cookie (C-16).
pub(crate) struct Fields(Params);

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        if !is_json(request.headers()) {
            let FormParams(form) = FormParams::from_request(request, state).await?;
            return Ok(Self(form));
        }
        let body = Bytes::from_request(request, state)
            .await
            .map_err(IntoResponse::into_response)?;
        if body.is_empty() {
            return Ok(Self(Params::default()));
        }
        members(&body)
            .map(Self)
            .map_err(IntoResponse::into_response)
    }
}

/// The members of a JSON object, all of them texts.
///
/// # Errors
/// 400 `invalid_body`; what was sent is not repeated.
fn members(body: &[u8]) -> Result<Params, Problem> {
    let bad = || Problem::bad_request("invalid_body", "the body is no JSON object of texts");
    let object = read_object(body).ok_or_else(bad)?;
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in &object {
        form.append_pair(name, value.as_str().ok_or_else(bad)?);
    }
    Params::parse(&form.finish()).map_err(|_| bad())
}

/// Unknown parameters are ignored, but not those that somebody meant as one of ours (AC-119).
fn check_names(params: &Params) -> Result<(), Problem> {
    let Some((name, meant)) = close_names::meant(params, &KNOWN) else {
        return Ok(());
    };
    let detail = format!("the parameter {name} is not known: did you mean {meant}?");
    Err(Problem::bad_request("unknown_parameter", detail).with("suggestion", meant))
}
