//! ID tokens (OpenID Connect Core §2): signed with the algorithm that the client registered.

use keywright_domain::people::{Client, OAuthScopes};
use keywright_registry::people::User;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::access_token::sign;
use super::user_claims;
use crate::problem::Problem;
use crate::server::App;
use crate::signing::{Alg, ID_TYPE, TokenProblem};

/// What is said of the sign-in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewIdToken<'a> {
    /// For whom.
    pub(crate) client: &'a Client,
    /// About whom.
    pub(crate) user: &'a User,
    /// Which claims.
    pub(crate) scopes: &'a OAuthScopes,
    /// Echoed.
    pub(crate) nonce: Option<&'a str>,
    /// When the person proved who they are, Unix ms.
    pub(crate) authenticated_at: Option<i64>,
    /// At which level.
    pub(crate) acr: Option<&'a str>,
    /// In which ways, separated by spaces.
    pub(crate) amr: Option<&'a str>,
    /// The session.
    pub(crate) session_id: Option<&'a str>,
    /// The access token beside it, for `at_hash`.
    pub(crate) access_token: &'a str,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    exp: i64,
    iat: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acr: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    amr: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<&'a str>,
    at_hash: String,
    #[serde(flatten)]
    about: Map<String, Value>,
}

/// Makes one.
///
/// # Errors
/// [`Problem`] if there is no key: 503.
pub(crate) fn issue(app: &App, alg: Alg, new: NewIdToken<'_>) -> Result<String, Problem> {
    let now = app.now() / 1000;
    let claims = Claims {
        iss: app.settings.issuer.as_str(),
        sub: &new.user.id,
        aud: &new.client.id,
        exp: now + app.settings.access_ms / 1000,
        iat: now,
        auth_time: new.authenticated_at.map(|ms| ms / 1000),
        nonce: new.nonce,
        acr: new.acr,
        amr: new.amr.map(|amr| amr.split(' ').collect()),
        sid: new.session_id,
        at_hash: alg.half_hash(new.access_token),
        about: user_claims::of(new.user, new.scopes),
    };
    sign(app, alg, ID_TYPE, &claims)
}

/// What a hint needs of an ID token of ours.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Hint {
    /// Who issued it.
    pub(crate) iss: String,
    /// About whom.
    pub(crate) sub: String,
    /// For whom.
    pub(crate) aud: String,
    /// The session.
    #[serde(default)]
    pub(crate) sid: Option<String>,
}

/// Reads an ID token of ours that comes back as a hint. It may have expired (OpenID Connect Core
/// §3.1.2.2), and its key may be retired: it proves nothing but that we said so once.
///
/// # Errors
/// [`TokenProblem`] for one that is not ours.
pub(crate) fn read_hint(app: &App, token: &str) -> Result<Hint, TokenProblem> {
    let hint: Hint = app.keys.current().open_hint(token)?;
    if hint.iss != app.settings.issuer.as_str() {
        return Err(TokenProblem::Malformed);
    }
    Ok(hint)
}
