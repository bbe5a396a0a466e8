//! Adding a passkey (WebAuthn §7.1): options and answer, for the page of ways to sign in. Whoever calls
//! has checked the session, its CSRF token and that the person proved themselves lately.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywright_registry::people::NewPasskey;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::assertion::decode;
use super::attestation::attested;
use super::challenge::{Challenge, LIFE_MS, Purpose};
use super::{Fault, authenticator_data, client_data, public_key, refused, rp_id, unavailable};
use crate::browser_session::SignedIn;
use crate::http::Cookies;
use crate::problem::Problem;
use crate::server::App;

/// Ways that WebAuthn §5.8.4 names; others are left out.
const TRANSPORTS: [&str; 6] = ["usb", "nfc", "ble", "smart-card", "hybrid", "internal"];
/// Most passkeys of one person.
const MOST: usize = 50;

/// What the authenticator made.
#[derive(Deserialize)]
pub(crate) struct Made {
    state: String,
    name: String,
    client_data: String,
    attestation_object: String,
    #[serde(default)]
    transports: Vec<String>,
}

/// What the browser asks an authenticator to make.
///
/// # Errors
/// 404 where there are no passkeys.
pub(crate) async fn options(
    app: &App,
    cookies: &Cookies,
    current: &SignedIn,
) -> Result<Json, Problem> {
    let rp_id = rp_id(&app.settings).ok_or_else(unavailable)?;
    let own = app.registry.list_passkeys(&current.user.id).await?;
    if own.len() >= MOST {
        let detail = "there are 50 passkeys already: remove one first";
        return Err(Problem::bad_request("too_many_passkeys", detail));
    }
    let challenge =
        Challenge::new(app, cookies, Some(current), Purpose::Add).ok_or_else(refused)?;
    let known: Vec<Json> = own
        .iter()
        .map(|one| {
            let transports: Vec<&str> = one.transports.split_whitespace().collect();
            let id = URL_SAFE_NO_PAD.encode(&one.credential_id);
            json!({"type": "public-key", "id": id, "transports": transports})
        })
        .collect();
    let algorithms: Vec<Json> = public_key::ALGORITHMS
        .iter()
        .map(|alg| json!({"type": "public-key", "alg": alg}))
        .collect();
    let email = current.user.email.as_ref().map(|email| email.as_str());
    let user = &current.user;
    let public_key = json!({
        "rp": {"id": rp_id, "name": app.settings.site_name},
        "user": {
            "id": URL_SAFE_NO_PAD.encode(&user.id),
            "name": email.unwrap_or(&user.name),
            "displayName": user.name,
        },
        "challenge": challenge.text,
        "pubKeyCredParams": algorithms,
        "timeout": LIFE_MS,
        "excludeCredentials": known,
        "authenticatorSelection": {
            "residentKey": "required",
            "requireResidentKey": true,
            "userVerification": "required",
        },
        "attestation": "none",
    });
    Ok(json!({"publicKey": public_key, "state": challenge.seal(app)}))
}

/// Takes what was made.
///
/// # Errors
/// `passkey_refused`; 409 for a credential that is known.
pub(crate) async fn add(
    app: &App,
    cookies: &Cookies,
    current: &SignedIn,
    made: &Made,
) -> Result<(), Problem> {
    let rp_id = rp_id(&app.settings).ok_or_else(unavailable)?;
    let (credential_id, public_key) =
        check(app, cookies, current, &rp_id, made)
            .await
            .map_err(|Fault(why)| {
                tracing::info!(why, "a new passkey was not accepted");
                refused()
            })?;
    let transports: Vec<&str> = made
        .transports
        .iter()
        .map(String::as_str)
        .filter(|one| TRANSPORTS.contains(one))
        .take(TRANSPORTS.len())
        .collect();
    let (counter, public_key) = public_key;
    let new = NewPasskey {
        credential_id,
        user_id: current.user.id.clone(),
        public_key,
        sign_count: counter,
        transports: transports.join(" "),
        name: made.name.clone(),
    };
    let actor = current.actor();
    Ok(app.registry.add_passkey(&actor, &new).await?)
}

/// The credential's id, its counter and its key.
type Attested = (Vec<u8>, (i64, Vec<u8>));

/// Checks what a browser made (WebAuthn §7.1).
async fn check(
    app: &App,
    cookies: &Cookies,
    current: &SignedIn,
    rp_id: &str,
    made: &Made,
) -> Result<Attested, Fault> {
    let challenge = Challenge::open(app, cookies, Some(current), Purpose::Add, &made.state)?;
    let part = |text: &str| decode(text).ok_or(Fault("answer_malformed"));
    let client_data = part(&made.client_data)?;
    let origin = app.settings.origin();
    client_data::check(&client_data, "webauthn.create", &challenge.text, origin)?;
    let bytes = attested(&part(&made.attestation_object)?)?;
    let data = authenticator_data::check(&bytes, rp_id)?;
    let (id, key) = data.credential.ok_or(Fault("credential_missing"))?;
    public_key::read(&key)?;
    challenge.use_up(app).await?;
    Ok((id, (data.counter, key)))
}
