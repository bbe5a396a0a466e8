//! Signing in, and stepping up, by a passkey (WebAuthn §7.2): two JSON endpoints for the script.

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywright_domain::audit::Actor;
use keywright_domain::people::PeopleError;
use keywright_registry::RegistryError;
use keywright_registry::people::{Passkey, PasskeyUse};
use serde::Deserialize;
use serde_json::json;

use super::authenticator_data;
use super::challenge::{Challenge, LIFE_MS, Purpose};
use super::{Fault, client_data, public_key, refused, rp_id, sha256, unavailable};
use crate::browser_session::{ACR_TWO, MaybeSignedIn, Proof, SignedIn};
use crate::http::{Cookies, Peer, csrf};
use crate::problem::Problem;
use crate::server::App;
use crate::sign_in::{finish, password};

/// Below the base path.
pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/sign-in/passkey/options", post(options))
        .route("/sign-in/passkey", post(answer))
}

/// What the browser asks its authenticators for. No list of credentials: it would tell who has one.
async fn options(
    State(app): State<App>,
    cookies: Cookies,
    MaybeSignedIn(current): MaybeSignedIn,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let rp_id = rp_id(&app.settings).ok_or_else(unavailable)?;
    let current = current.as_deref();
    check_csrf(&app, &headers, &cookies, current)?;
    let challenge = Challenge::new(&app, &cookies, current, Purpose::Use).ok_or_else(refused)?;
    let public_key = json!({
        "challenge": challenge.text,
        "rpId": rp_id,
        "timeout": LIFE_MS,
        "userVerification": "required",
        "allowCredentials": [],
    });
    let body = json!({"publicKey": public_key, "state": challenge.seal(&app)});
    Ok(Json(body).into_response())
}

pub(super) fn check_csrf(
    app: &App,
    headers: &HeaderMap,
    cookies: &Cookies,
    current: Option<&SignedIn>,
) -> Result<(), Problem> {
    let sid = current.map(|current| current.session.id.as_str());
    csrf::check(&app.settings, &app.secrets, headers, cookies, sid, None)
}

#[derive(Deserialize)]
struct Answer {
    state: String,
    id: String,
    client_data: String,
    authenticator_data: String,
    signature: String,
    user_handle: Option<String>,
    return_to: Option<String>,
}

async fn answer(
    State(app): State<App>,
    peer: Peer,
    cookies: Cookies,
    MaybeSignedIn(current): MaybeSignedIn,
    headers: HeaderMap,
    body: Result<Json<Answer>, JsonRejection>,
) -> Result<Response, Problem> {
    let rp_id = rp_id(&app.settings).ok_or_else(unavailable)?;
    let current = current.as_deref();
    check_csrf(&app, &headers, &cookies, current)?;
    let sources = &app.sign_in.sources;
    sources.check(&app, peer.address, "").await?;
    let Json(answer) = body.map_err(|_| refused())?;
    match accept(&app, &cookies, current, &rp_id, &answer).await? {
        Ok((user_id, amr)) => {
            let user = app.registry.find_user(&user_id).await?;
            let identifier = user.email.as_ref().map_or("", |email| email.as_str());
            let proof = Proof {
                amr,
                acr: ACR_TWO,
                method: "passkey",
                identifier,
                proven_at: Some(app.now()),
            };
            let headers = finish::session(&app, &cookies, &peer, current, &user_id, &proof).await?;
            let to = finish::return_to(&app, answer.return_to.as_deref());
            Ok((headers, Json(json!({"location": to}))).into_response())
        }
        Err(Fault(why)) => {
            sources.count(&app, peer.address, "").await;
            // Nobody's account waits for this: a credential id is no secret.
            password::record_failure(&app, &peer, None, "", "passkey", why).await?;
            Err(refused())
        }
    }
}

/// Checks an answer. Whose it is, and in which way they proved it (RFC 8176).
async fn accept(
    app: &App,
    cookies: &Cookies,
    current: Option<&SignedIn>,
    rp_id: &str,
    answer: &Answer,
) -> Result<Result<(String, &'static str), Fault>, Problem> {
    let challenge = match Challenge::open(app, cookies, current, Purpose::Use, &answer.state) {
        Ok(challenge) => challenge,
        Err(fault) => return Ok(Err(fault)),
    };
    let Some(id) = decode(&answer.id) else {
        return Ok(Err(Fault("credential_id_malformed")));
    };
    let passkey = match app.registry.find_passkey(&id).await {
        Ok(passkey) => passkey,
        Err(RegistryError::People(PeopleError::PasskeyNotFound)) => {
            return Ok(Err(Fault("credential_unknown")));
        }
        Err(error) => return Err(error.into()),
    };
    let origin = app.settings.origin();
    let data = match check(answer, &passkey, &challenge.text, origin, rp_id) {
        Ok(data) => data,
        Err(fault) => return Ok(Err(fault)),
    };
    let user = app.registry.find_user(&passkey.user_id).await?;
    if user.disabled_at.is_some() {
        return Ok(Err(Fault("user_disabled")));
    }
    if let Err(fault) = challenge.use_up(app).await {
        return Ok(Err(fault));
    }
    let actor = Actor::person(&user.id);
    let used = app.registry.use_passkey(&actor, &id, data.counter).await?;
    if used == PasskeyUse::Suspect {
        return Ok(Err(Fault("counter_backwards")));
    }
    let amr = if data.is_synced {
        "swk user mfa"
    } else {
        "hwk user mfa"
    };
    Ok(Ok((user.id.clone(), amr)))
}

fn check(
    answer: &Answer,
    passkey: &Passkey,
    challenge: &str,
    origin: &str,
    rp_id: &str,
) -> Result<authenticator_data::AuthenticatorData, Fault> {
    let part = |text: &str| decode(text).ok_or(Fault("answer_malformed"));
    if let Some(handle) = &answer.user_handle
        && part(handle)? != passkey.user_id.as_bytes()
    {
        return Err(Fault("user_handle_mismatch"));
    }
    let client_data = part(&answer.client_data)?;
    client_data::check(&client_data, "webauthn.get", challenge, origin)?;
    let mut signed = part(&answer.authenticator_data)?;
    let data = authenticator_data::check(&signed, rp_id)?;
    signed.extend(sha256(&client_data));
    public_key::read(&passkey.public_key)?
        .verify_sig(&signed, &part(&answer.signature)?)
        .map_err(|_| Fault("signature_wrong"))?;
    Ok(data)
}

pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}
