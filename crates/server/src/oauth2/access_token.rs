//! Access tokens: RFC 9068 JWTs, short-lived, without anything personal (AC-044). Our own API denies
//! them at once when their session, grant or `jti` was ended.

use std::sync::Arc;

use axum::http::header;
use axum::http::request::Parts as RequestParts;
use keywright_domain::base62::random_id;
use keywright_domain::people::{ACCESS_LEEWAY_MS, OAuthScopes};
use serde::{Deserialize, Serialize};

pub(crate) use super::opened::AccessToken;
use crate::problem::Problem;
use crate::server::App;
use crate::signing::{ACCESS_TYPE, Alg, TokenProblem};

/// How far clocks may differ, in seconds.
const LEEWAY_S: i64 = ACCESS_LEEWAY_MS / 1000;
/// `sub` of a client's own token begins with this, so that no client can look like a person (S25).
const CLIENT_SUBJECT: &str = "client:";

/// Claims of an access token (RFC 9068 §2.2).
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct AccessClaims {
    /// The issuer.
    pub(crate) iss: String,
    /// The person's id, or `client:` and the client's.
    pub(crate) sub: String,
    /// The resource (RFC 8707), or the issuer for our own API.
    pub(crate) aud: String,
    /// Unix seconds.
    pub(crate) exp: i64,
    /// Unix seconds.
    pub(crate) iat: i64,
    /// Unix seconds.
    pub(crate) nbf: i64,
    /// This token.
    pub(crate) jti: String,
    /// Who has it.
    pub(crate) client_id: String,
    /// What it allows.
    pub(crate) scope: String,
    /// The session it was given in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) sid: Option<String>,
    /// The grant it belongs to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) gid: Option<String>,
    /// When the person proved who they are, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) auth_time: Option<i64>,
    /// At which level.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) acr: Option<String>,
    /// In which ways.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) amr: Option<Vec<String>>,
    /// The person's roles (RFC 9068 §2.2.3.1).
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(crate) roles: Vec<String>,
    /// The key it is bound to: `{"jkt": …}` (RFC 9449 §6.1).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) cnf: Option<Confirmation>,
}

/// `cnf` (RFC 7800, RFC 9449 §6.1).
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Confirmation {
    /// Thumbprint of the key.
    pub(crate) jkt: String,
}

impl AccessClaims {
    /// The person, unless the token is a client's own.
    pub(crate) fn user_id(&self) -> Option<&str> {
        (!self.sub.starts_with(CLIENT_SUBJECT)).then_some(self.sub.as_str())
    }

    /// `sub` of a client's own token.
    pub(crate) fn client_subject(client_id: &str) -> String {
        format!("{CLIENT_SUBJECT}{client_id}")
    }

    /// The thumbprint of the key that it is bound to.
    pub(crate) fn jkt(&self) -> Option<&str> {
        self.cnf.as_ref().map(|cnf| cnf.jkt.as_str())
    }
}

/// A token that is to be made.
#[derive(Clone, Debug)]
pub(crate) struct NewAccessToken<'a> {
    /// `sub`.
    pub(crate) subject: String,
    /// Resource; none for our own API.
    pub(crate) resource: Option<&'a str>,
    /// Who gets it.
    pub(crate) client_id: &'a str,
    /// What it allows.
    pub(crate) scopes: &'a OAuthScopes,
    /// `jti`, where the registry was told of it before.
    pub(crate) jti: String,
    /// Session and grant.
    pub(crate) sid: Option<String>,
    /// The grant.
    pub(crate) gid: Option<String>,
    /// Unix ms.
    pub(crate) auth_time_ms: Option<i64>,
    /// Level.
    pub(crate) acr: Option<String>,
    /// Ways, separated by spaces.
    pub(crate) amr: Option<String>,
    /// Roles of the person.
    pub(crate) roles: Vec<String>,
    /// Thumbprint of a DPoP key.
    pub(crate) jkt: Option<String>,
    /// Algorithm.
    pub(crate) alg: Alg,
}

/// A new `jti`.
pub(crate) fn new_jti() -> String {
    random_id(&mut rand::rng())
}

/// Makes a token. Returns it with its life in seconds.
///
/// # Errors
/// [`Problem`] if there is no key: 503.
pub(crate) fn issue(app: &App, new: NewAccessToken<'_>) -> Result<(String, i64), Problem> {
    let now = app.now() / 1000;
    let life = app.settings.access_ms / 1000;
    let claims = AccessClaims {
        iss: app.settings.issuer.as_str().to_owned(),
        sub: new.subject,
        aud: new
            .resource
            .unwrap_or(app.settings.issuer.as_str())
            .to_owned(),
        exp: now + life,
        iat: now,
        nbf: now,
        jti: new.jti,
        client_id: new.client_id.to_owned(),
        scope: new.scopes.to_string(),
        sid: new.sid,
        gid: new.gid,
        auth_time: new.auth_time_ms.map(|ms| ms / 1000),
        acr: new.acr,
        amr: new
            .amr
            .map(|amr| amr.split(' ').map(str::to_owned).collect()),
        roles: new.roles,
        cnf: new.jkt.map(|jkt| Confirmation { jkt }),
    };
    let token = sign(app, new.alg, ACCESS_TYPE, &claims)?;
    Ok((token, life))
}

/// Signs claims with the key of an algorithm.
///
/// # Errors
/// [`Problem`] if there is no key: 503.
pub(crate) fn sign(
    app: &App,
    alg: Alg,
    typ: &str,
    claims: &impl Serialize,
) -> Result<String, Problem> {
    let keys = app.keys.current();
    let signed = keys.signer(alg).map(|signer| signer.sign(typ, claims));
    match signed {
        Some(Ok(token)) => Ok(token),
        other => {
            tracing::error!(alg = alg.as_str(), ?other, "nothing can be signed");
            Err(crate::problem::store_unavailable())
        }
    }
}

/// Reads an access token of ours and checks everything but its audience and scope: signature, times,
/// denials. For introspection, which answers about tokens of any resource.
///
/// # Errors
/// The stable code of what is wrong with it; [`Problem`] if that cannot be found out.
pub(crate) async fn inspect(
    app: &App,
    token: &str,
) -> Result<Result<Arc<AccessToken>, &'static str>, Problem> {
    let now = app.now() / 1000;
    let opened = app.oauth2.opened.open(&app.keys.current(), token, now);
    let claims = match opened {
        Ok(claims) => claims,
        // A text without dots is a refresh token or nothing at all.
        Err(TokenProblem::Malformed) if !token.contains('.') => {
            return Ok(Err(TokenProblem::WrongUse.code()));
        }
        Err(problem) => return Ok(Err(problem.code())),
    };
    if claims.iss != app.settings.issuer.as_str() {
        return Ok(Err("issuer_mismatch"));
    }
    Ok(match good_now(app, &claims).await? {
        Ok(()) => Ok(claims),
        Err(code) => Err(code),
    })
}

/// Whether a token whose signature was checked is good at this moment: its times, and what was ended
/// before its time.
///
/// # Errors
/// The stable code of what is wrong with it; [`Problem`] if that cannot be found out.
pub(crate) async fn good_now(
    app: &App,
    claims: &AccessClaims,
) -> Result<Result<(), &'static str>, Problem> {
    let now = app.now() / 1000;
    if now >= claims.exp + LEEWAY_S {
        return Ok(Err("token_expired"));
    }
    if now + LEEWAY_S < claims.nbf {
        return Ok(Err("token_not_yet_valid"));
    }
    if crate::sessions::is_denied(app, claims).await? {
        return Ok(Err("token_revoked"));
    }
    Ok(Ok(()))
}

/// The access token of an API request: ours, for our own API, good now.
///
/// # Errors
/// 400 for several of them, 401 with the code (AC-040, AC-080, AC-094).
pub(crate) async fn authenticate(
    app: &App,
    parts: &RequestParts,
) -> Result<Arc<AccessToken>, Problem> {
    let mut headers = parts.headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (headers.next(), headers.next()) else {
        return Err(Problem::bad_request(
            "ambiguous_credentials",
            "send exactly one Authorization header",
        ));
    };
    let in_query = parts.uri.query().is_some_and(|query| {
        url::form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "access_token")
    });
    if in_query {
        // S27: the header counts, and a token in an address is told about.
        return Err(Problem::bad_request(
            "token_in_url",
            "an access token belongs into the Authorization header, never into an address",
        ));
    }
    let text = value.to_str().unwrap_or("");
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    let token = token.trim();
    let bound = scheme.eq_ignore_ascii_case("dpop");
    if !(bound || scheme.eq_ignore_ascii_case("bearer")) || token.is_empty() {
        return Err(Problem::invalid_token(
            "token_malformed",
            "the Authorization header has no bearer token",
        ));
    }
    let claims = inspect(app, token).await?.map_err(|code| {
        Problem::invalid_token(code, "the access token is not accepted: get a new one")
    })?;
    if claims.aud != app.settings.issuer.as_str() {
        let detail = "this access token is for another resource";
        return Err(Problem::invalid_token("wrong_audience", detail));
    }
    super::dpop::check_bound(app, parts, claims.jkt(), token, bound).await?;
    Ok(claims)
}
