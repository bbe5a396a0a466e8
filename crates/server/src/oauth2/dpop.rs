//! Proof of possession (RFC 9449): the twelve checks of §4.3, and memory of proofs that were used.
//! A proof is young by its `iat`, or by a nonce of ours where the client's clock is wrong. Nonces are
//! made of the time and the master key, so that every node knows them. A server with an embedded database has the
//! memory in its process alone: its nonces end with it, and so do the proofs without one (`own_seconds`).

mod form;
pub(crate) mod own_seconds;
#[cfg(test)]
pub(crate) mod tests;

use axum::extract::OriginalUri;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywright_domain::people::Client;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::client_jws::{self, ClientJws};
use super::used::Used;
use crate::nodes;
use crate::problem::{OAuthError, Problem};
use crate::server::App;

/// Algorithms of proofs, as a challenge names them.
const ALGS: &str = "ES256 EdDSA PS256 RS256";
/// How old a proof may be, in seconds.
const OLDEST_S: i64 = 60;
/// How far a client's clock may be ahead, in seconds.
const AHEAD_S: i64 = 10;
/// One nonce is given out for so long, and good for as long again.
const NONCE_S: i64 = 150;

/// A good proof, which is good for one use.
#[derive(Clone, Debug)]
pub(crate) struct Proof {
    /// Thumbprint of its key.
    pub(crate) jkt: String,
    alg: String,
    jti: String,
    /// When it ends, in Unix ms: its own, whenever it is shown.
    until: i64,
}

impl Proof {
    /// Refuses a proof by an algorithm that its client may not use: FAPI 2.0 Security Profile §5.4.1 forbids
    /// PKCS #1 v1.5.
    ///
    /// # Errors
    /// `invalid_dpop_proof`.
    pub(crate) fn check_algorithm(&self, client: &Client) -> Result<(), OAuthError> {
        if client.settings.fapi && self.alg == "RS256" {
            return Err(invalid(
                "FAPI 2.0 forbids RS256: sign with ES256, EdDSA or PS256",
            ));
        }
        Ok(())
    }

    /// Refuses one that this node knows as used, and remembers nothing: what costs nothing to make
    /// must not fill our memory.
    ///
    /// # Errors
    /// `invalid_dpop_proof`.
    pub(crate) fn check_unused(&self, app: &App, used: &Used) -> Result<(), OAuthError> {
        if used.knows(&self.jkt, &self.jti, self.until, app.now()) {
            return Err(used_already());
        }
        Ok(())
    }

    /// Uses it up, on every node, for as long as it would be good. In memory alone where there is one node: a
    /// process that is started after this one does not take it.
    ///
    /// # Errors
    /// `invalid_dpop_proof` for one that was used, or where nothing more can be remembered.
    pub(crate) async fn use_up(&self, app: &App, used: &Used) -> Result<(), OAuthError> {
        let (jkt, jti, until) = (&self.jkt, &self.jti, self.until);
        let is_first = used.first_time(jkt, jti, until, app.now())
            && (!app.registry.is_shared()
                || nodes::first_proof(app, "dpop", jkt, jti, until).await);
        if is_first {
            Ok(())
        } else {
            Err(used_already())
        }
    }
}

fn used_already() -> OAuthError {
    invalid("this DPoP proof was used already")
}

/// Checks the `DPoP` header of a request, if it has one, but not yet whether it was used before: see
/// [`Proof`]. `path` is below the base path (`/oauth2/token`). `access_token`: the token that came with
/// it, for `ath`.
///
/// # Errors
/// `invalid_dpop_proof`, `use_dpop_nonce`.
pub(crate) async fn read(
    app: &App,
    headers: &HeaderMap,
    method: &Method,
    path: &str,
    access_token: Option<&str>,
) -> Result<Option<Proof>, OAuthError> {
    let mut proofs = headers.get_all("dpop").iter();
    // 1: one header, no more.
    let proof = match (proofs.next(), proofs.next()) {
        (None, _) => return Ok(None),
        (Some(proof), None) => proof.to_str().unwrap_or(""),
        _ => return Err(invalid("there is more than one DPoP proof")),
    };
    let now = app.now();
    // 2 and 3: a signed token with what must be there.
    let jws = ClientJws::read(proof).ok_or_else(|| invalid("the DPoP proof is no signed token"))?;
    // 4, 5 and 7 as well: its type, and a public key of the right kind.
    let form = form::read(&jws.header, &jws.claims).map_err(invalid)?;
    let jwk = form.jwk;
    // 6: the signature, which is the key's and of its kind.
    if !jws.is_signed_by(jwk) {
        return Err(invalid("the signature of the DPoP proof is not its key's"));
    }
    let jkt = client_jws::thumbprint(jwk).ok_or_else(|| invalid("the key cannot be used"))?;
    // 8 and 9: this request.
    if form.htm != method.as_str() {
        return Err(invalid("the DPoP proof is for another method"));
    }
    if !form::is_same_address(form.htu, &app.settings.url(path)) {
        return Err(invalid("the DPoP proof is for another address"));
    }
    // 10: our nonce, where there is one.
    let nonce = form.nonce;
    let period = nonce.and_then(|nonce| period_of(app, nonce, now));
    if nonce.is_some() && period.is_none() {
        return Err(use_nonce(app, now, "use the nonce of this answer"));
    }
    // 12: this access token.
    if let Some(token) = access_token {
        let hash = URL_SAFE_NO_PAD.encode(Sha256::digest(token));
        if form.ath != Some(hash.as_str()) {
            return Err(invalid("the DPoP proof is for another access token"));
        }
    }
    // 11: made just now. With our nonce, that says so, and no clock has to be right. Last, so that it is
    // the only fault: clients try again with a nonce after `use_dpop_nonce` alone (§8).
    let age = (now / 1000).saturating_sub(form.iat);
    if nonce.is_none() && !(-AHEAD_S..=OLDEST_S).contains(&age) {
        let text = "the DPoP proof is too old or from the future: use the nonce of this answer";
        return Err(use_nonce(app, now, text));
    }
    // And by nobody used of whom we know nothing: a process before this one.
    if nonce.is_none() && !app.registry.is_shared() && !own_seconds::has(app, form.iat).await {
        let text = "the server was started a moment ago: use the nonce of this answer";
        return Err(use_nonce(app, now, text));
    }
    // And never twice. Its end is the proof's own and not counted from now: by it is told whether its use may have
    // been forgotten.
    let end_s = match period {
        Some(period) => period.saturating_add(2).saturating_mul(NONCE_S),
        None => form.iat.saturating_add(OLDEST_S + 1),
    };
    Ok(Some(Proof {
        jkt,
        alg: jws.alg.clone(),
        jti: form.jti.to_owned(),
        until: end_s.saturating_mul(1000),
    }))
}

/// The same, and uses the proof up: for requests whose access token was checked before. Returns the
/// thumbprint of the proof's key.
///
/// # Errors
/// `invalid_dpop_proof`, `use_dpop_nonce`.
async fn check(
    app: &App,
    headers: &HeaderMap,
    method: &Method,
    path: &str,
    access_token: Option<&str>,
) -> Result<Option<String>, OAuthError> {
    let Some(proof) = read(app, headers, method, path, access_token).await? else {
        return Ok(None);
    };
    proof.use_up(app, &app.oauth2.extensions.proofs).await?;
    Ok(Some(proof.jkt))
}

/// A bound token needs a proof of its key, and is no bearer token (RFC 9449 §7.1). `jkt`: what the
/// token is bound to.
///
/// # Errors
/// 401 with the challenge that says what to send.
pub(crate) async fn check_bound(
    app: &App,
    parts: &Parts,
    jkt: Option<&str>,
    token: &str,
    by_dpop: bool,
) -> Result<(), Problem> {
    let (Some(jkt), true) = (jkt, by_dpop) else {
        return match (jkt, by_dpop) {
            (None, false) => Ok(()),
            _ => Err(refused(
                "invalid_token",
                "send a bound access token with the DPoP scheme, and any other as a bearer token",
                None,
            )),
        };
    };
    let uri = parts
        .extensions
        .get::<OriginalUri>()
        .map_or(&parts.uri, |original| &original.0);
    let base = app.settings.base_path.as_str();
    let path = uri.path().strip_prefix(base).unwrap_or(uri.path());
    match check(app, &parts.headers, &parts.method, path, Some(token)).await {
        Ok(Some(own)) if own == jkt => Ok(()),
        Ok(Some(_)) => Err(refused(
            "invalid_token",
            "this access token is bound to another key",
            None,
        )),
        Ok(None) => Err(refused(
            "invalid_dpop_proof",
            "this access token is bound to a key: send a proof",
            None,
        )),
        Err(error) => Err(refused(error.error, &error.description, error.dpop_nonce)),
    }
}

fn refused(error: &str, detail: &str, nonce: Option<Box<str>>) -> Problem {
    let challenge = format!("DPoP error=\"{error}\", algs=\"{ALGS}\"");
    let code = if error == "use_dpop_nonce" {
        "use_dpop_nonce"
    } else {
        "invalid_dpop_proof"
    };
    let mut problem = Problem::new(StatusCode::UNAUTHORIZED, code, detail);
    problem.challenge = Some(challenge.into_boxed_str());
    problem.dpop_nonce = nonce;
    problem
}

fn invalid(text: &str) -> OAuthError {
    OAuthError::new("invalid_dpop_proof", text)
}

/// RFC 9449 §8, §9: the same again, with this nonce. `now`: Unix ms.
fn use_nonce(app: &App, now: i64, text: &str) -> OAuthError {
    let mut error = OAuthError::new("use_dpop_nonce", text);
    error.dpop_nonce = Some(nonce_at(app, now / 1000 / NONCE_S).into());
    error
}

fn nonce_at(app: &App, period: i64) -> String {
    let period = period.to_be_bytes();
    let own = &app.oauth2.extensions.process;
    // Whoever knows which proofs were used knows the nonces: all nodes of a database, or this process.
    let tag = if app.registry.is_shared() {
        app.secrets.tag(&[b"dpop nonce", &period])
    } else {
        app.secrets.tag(&[b"dpop nonce", &period, own])
    };
    URL_SAFE_NO_PAD.encode(&tag[..16])
}

/// When a nonce of ours was given out; none for any other, and for one that is good no more.
fn period_of(app: &App, nonce: &str, now: i64) -> Option<i64> {
    let period = now / 1000 / NONCE_S;
    [period, period - 1]
        .into_iter()
        .find(|period| bool::from(nonce_at(app, *period).as_bytes().ct_eq(nonce.as_bytes())))
}
