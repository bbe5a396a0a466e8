//! The code for tokens, and the tokens for a person. The tokens end here: they are neither kept nor
//! given to anybody (S67).

use keywright_domain::SecretText;
use keywright_domain::id_token::{Expected, LEEWAY_S, is_subject};
use keywright_jose::UncheckedIdToken;
use keywright_jose::numeric_date::seconds;
use keywright_registry::people::IdentityClaims;
use serde_json::{Map, Value};

use super::discovery::Metadata;
use super::failure::{Failure, tame};
use super::presets::{Kind, Provider, TokenAuth};
use super::profile;
use crate::server::App;

/// What was agreed when the browser was sent.
pub(super) struct Sent<'a> {
    /// `nonce`.
    pub(super) nonce: &'a SecretText,
    /// `code_verifier`.
    pub(super) verifier: &'a SecretText,
    /// `redirect_uri`, as it was sent.
    pub(super) redirect_uri: &'a str,
    /// The person had to prove themselves after this moment (Unix ms).
    pub(super) proven_since: Option<i64>,
}

/// Who came.
pub(super) struct Came {
    /// As the provider says.
    pub(super) claims: IdentityClaims,
    /// When the person proved themselves there (Unix ms), where the provider says it. Signed: GitHub says
    /// nothing, and others need not.
    pub(super) proven_at: Option<i64>,
}

/// Exchanges a code, and finds out who came.
///
/// # Errors
/// [`Failure`].
pub(super) async fn who(
    app: &App,
    provider: &Provider,
    metadata: &Metadata,
    code: &SecretText,
    sent: &Sent<'_>,
) -> Result<Came, Failure> {
    let http = &app.rp.http;
    let tokens = redeem(app, provider, metadata, code, sent).await?;
    let text = |name: &str| tokens.get(name).and_then(Value::as_str);
    let unusable = |what: &str| Failure::provider("idp_tokens_unusable", what);
    let access_token = text("access_token")
        .filter(|token| !token.is_empty())
        .map(|token| SecretText::new(token.to_owned()))
        .ok_or_else(|| unusable("there is no access token"))?;
    if !text("token_type").is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")) {
        return Err(unusable("the access token is of another type"));
    }
    if provider.kind == Kind::GitHub {
        let claims = profile::from_github(http, metadata, provider, &access_token).await?;
        return Ok(Came {
            claims,
            proven_at: None,
        });
    }
    let id_token = text("id_token").ok_or_else(|| unusable("there is no ID token"))?;
    let id_token = SecretText::new(id_token.to_owned());
    let unchecked = UncheckedIdToken::parse(id_token.expose())?;
    let jwks_uri = metadata
        .jwks_uri
        .as_ref()
        .ok_or_else(|| unusable("there are no keys"))?;
    let now = app.now();
    let key = app
        .rp
        .keys
        .find(
            http,
            jwks_uri,
            unchecked.key_id.as_deref(),
            unchecked.algorithm,
            now,
        )
        .await?;
    let expected = Expected {
        issuer: &provider.rule,
        client_id: &provider.client_id,
        nonce: Some(sent.nonce),
        access_token: None,
        now_s: now.div_euclid(1000),
    };
    let claims = unchecked.verify(&key, expected, &access_token)?.claims;
    let proven_at = check_proven(&claims, sent.proven_since, now.div_euclid(1000))?;
    let who = profile::from_id_token(http, metadata, provider, claims, &access_token).await?;
    if !is_subject(&who.subject) {
        return Err(unusable("there is no subject"));
    }
    Ok(Came {
        claims: who,
        proven_at,
    })
}

/// When the proof was given, if the provider says it (`auth_time`, Unix ms). Where a new one was asked for
/// and the provider says when it was given, that must be new. One that does not say signs in all the same,
/// and proves nothing by it; so does one that names a moment which is still to come.
fn check_proven(
    claims: &Map<String, Value>,
    since: Option<i64>,
    now_s: i64,
) -> Result<Option<i64>, Failure> {
    let at = claims.get("auth_time").and_then(seconds);
    let at = at.filter(|at| *at <= now_s.saturating_add(LEEWAY_S));
    let said = at.map(|at| at.saturating_mul(1000));
    let (Some(since), Some(at)) = (since, at) else {
        return Ok(said);
    };
    if at.saturating_add(LEEWAY_S) >= since.div_euclid(1000) {
        return Ok(said);
    }
    let happened = "You were to prove anew who you are, and the provider did not ask you";
    Err(Failure::new("idp_proof_too_old", happened).with_advice("Sign out there, and try again."))
}

async fn redeem(
    app: &App,
    provider: &Provider,
    metadata: &Metadata,
    code: &SecretText,
    sent: &Sent<'_>,
) -> Result<Map<String, Value>, Failure> {
    let (form, basic) = request(provider, metadata, code, sent);
    let basic = basic.as_ref().map(|(id, secret)| (id.as_str(), secret));
    let answer = app
        .rp
        .http
        .post_form(&metadata.token_endpoint, form, basic)
        .await?;
    let object = match serde_json::from_slice(&answer.body) {
        Ok(Value::Object(object)) => object,
        _ => Map::new(),
    };
    // GitHub says what is wrong with status 200.
    if let Some(error) = object.get("error").and_then(Value::as_str) {
        let detail = format!("the token endpoint says {}", tame(error, 60));
        return Err(Failure::provider("idp_refused_code", detail));
    }
    if answer.status != 200 {
        let detail = format!("the token endpoint answers with status {}", answer.status);
        return Err(Failure::provider("idp_refused_code", detail));
    }
    Ok(object)
}

/// The form, and what goes into the header.
fn request(
    provider: &Provider,
    metadata: &Metadata,
    code: &SecretText,
    sent: &Sent<'_>,
) -> (String, Option<(String, SecretText)>) {
    let method = provider.extra.token_auth.unwrap_or(metadata.token_auth);
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "authorization_code")
        .append_pair("code", code.expose())
        .append_pair("redirect_uri", sent.redirect_uri)
        .append_pair("code_verifier", sent.verifier.expose());
    // Both halves are form-encoded before they go into the header (RFC 6749 §2.3.1).
    let encode =
        |text: &str| -> String { url::form_urlencoded::byte_serialize(text.as_bytes()).collect() };
    let basic = match (&provider.secret, method) {
        (Some(secret), TokenAuth::ClientSecretBasic) => Some((
            encode(&provider.client_id),
            SecretText::new(encode(secret.expose())),
        )),
        (Some(secret), TokenAuth::ClientSecretPost) => {
            form.append_pair("client_id", &provider.client_id)
                .append_pair("client_secret", secret.expose());
            None
        }
        (None, _) => {
            form.append_pair("client_id", &provider.client_id);
            None
        }
    };
    (form.finish(), basic)
}
