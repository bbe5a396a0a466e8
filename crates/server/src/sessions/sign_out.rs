//! `POST /auth/signOut?token_type_hint=session_token` (S2-19, S2-29, S2-34): ends the session with all
//! that hangs on it, the sign-in of a page of one's own too, and takes their cookies away.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use keywright_domain::people::EndReason;
use serde::Serialize;

use crate::browser_session::{self, Found};
use crate::http::cookies::{self, Name};
use crate::http::local_path::LocalPath;
use crate::http::params::FormParams;
use crate::http::{Cookies, Params, Peer, csrf};
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
    params(
        ("token_type_hint" = Option<String>, Query, description = "`session_token`"),
        ("redirectTo" = Option<String>, Query, description = "A path of this site to go to afterwards"),
    ),
    responses(
        (status = 200, description = "Signed out", body = SignedOut),
        (status = 303, description = "Signed out; on to `redirectTo`"),
        (status = 400, description = "`unknown_parameter`, `unsupported_token_type`, `invalid_redirect`"),
        (status = 403, description = "`csrf_missing`, `csrf_invalid`, `origin_rejected`"),
    )
)]
pub(crate) async fn sign_out(
    State(app): State<App>,
    peer: Peer,
    cookies: Cookies,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    FormParams(form): FormParams,
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

/// Unknown parameters are ignored, but not those that somebody meant as one of ours (AC-119).
fn check_names(params: &Params) -> Result<(), Problem> {
    for (name, _) in params.iter() {
        if KNOWN.contains(&name) {
            continue;
        }
        if let Some(meant) = KNOWN.into_iter().find(|known| is_close(name, known)) {
            let shown: String = name.chars().take(40).collect();
            let detail = format!("the parameter {shown} is not known: did you mean {meant}?");
            return Err(Problem::bad_request("unknown_parameter", detail).with("suggestion", meant));
        }
    }
    Ok(())
}

/// The same letters in another case or with other dashes, or two letters off.
fn is_close(name: &str, known: &str) -> bool {
    let plain = |text: &str| -> Vec<char> {
        text.chars()
            .filter(|c| c.is_alphanumeric())
            .take(41)
            .flat_map(char::to_lowercase)
            .collect()
    };
    distance(&plain(name), &plain(known)) <= 2
}

/// Levenshtein's.
fn distance(one: &[char], other: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.iter().enumerate() {
        let mut before = at;
        let mut next = vec![at + 1];
        for (column, theirs) in other.iter().enumerate() {
            let above = row.get(column + 1).copied().unwrap_or(usize::MAX - 1);
            let left = next.last().copied().unwrap_or(usize::MAX - 1);
            let changed = before + usize::from(letter != theirs);
            next.push(changed.min(above + 1).min(left + 1));
            before = above;
        }
        row = next;
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ac_119_what_was_meant_is_named() {
        for typo in [
            "redirectto",
            "redirect_to",
            "RedirectTo",
            "redirecTo",
            "redirectTto",
            "redirect",
        ] {
            assert!(is_close(typo, REDIRECT), "{typo}");
        }
        for other in ["state", "ui_locales", "id_token_hint", "redirect_uri_x"] {
            assert!(!KNOWN.iter().any(|known| is_close(other, known)), "{other}");
        }
        assert!(is_close("token_type_hnt", HINT));
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        assert_eq!(distance(&chars("kitten"), &chars("sitting")), 3);
        assert_eq!(distance(&[], &chars("ab")), 2);
    }
}
