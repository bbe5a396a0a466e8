//! `GET /rp/callback/{idp}` and its alias `/auth/callback/{provider}`: a browser comes back (S0-39 to
//! S0-50, S2-17). The state is taken before anything else is looked at: whoever comes second finds
//! nothing.

use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use keywright_domain::SecretText;
use keywright_domain::people::linking::LinkRefusal;
use keywright_domain::people::{PeopleError, RoleName, TokenDigest};
use keywright_registry::people::{IdentityOutcome, LoginOutcome, LoginTransaction, NewSignIn};

use super::authorize::HOME;
use super::discovery::Metadata;
use super::exchange::{self, Came, Sent};
use super::failure::{Failure, tame};
use super::kept::Kept;
use super::link::WAYS;
use super::presets::Provider;
use super::{Face, load};
use crate::account::guard;
use crate::browser_session::{self, ACR_ONE, Found, Proof};
use crate::http::cookies::Name;
use crate::http::{Cookies, Params, Peer, once_more};
use crate::notices::people::tell_of_new_identity;
use crate::server::App;
use crate::settings::SignUp;
use crate::sign_in::{self, Asked};

/// A sign-in at somebody else's: how many factors they asked for is their word, and not relied on.
const AMR: &str = "fed";

/// `GET /rp/callback/{idp}`.
pub(super) async fn callback(
    State(app): State<App>,
    cookies: Cookies,
    peer: Peer,
    Path(idp): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    come_back(&app, &headers, &cookies, &peer, Face::Rp, &idp, query).await
}

/// `GET /auth/callback/{provider}`.
pub(super) async fn alias(
    State(app): State<App>,
    cookies: Cookies,
    peer: Peer,
    Path(idp): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    come_back(&app, &headers, &cookies, &peer, Face::Auth, &idp, query).await
}

async fn come_back(
    app: &App,
    headers: &HeaderMap,
    cookies: &Cookies,
    peer: &Peer,
    face: Face,
    idp: &str,
    query: Option<String>,
) -> Response {
    let start = sign_in::path(app, &app.settings.path(HOME), Asked::default());
    let query = query.unwrap_or_default();
    // Whoever links an identity needs their session.
    if let Some(hop) = once_more::hop(app, headers, &face.callback(app, idp), &query) {
        return hop;
    }
    let taken = take(app, cookies, idp, &query).await;
    let (provider, params, login) = match taken {
        Ok(taken) => taken,
        Err(failure) => return failure.page(app, &start, HeaderMap::new()),
    };
    // The cookie that binds trips to this browser stays: another tab's trip may be on its way. Without an open
    // state it is worth nothing, and it goes by itself.
    let mut headers = HeaderMap::new();
    match finish(app, cookies, peer, face, &provider, &params, &login).await {
        Ok(more) => {
            for cookie in more.get_all(header::SET_COOKIE) {
                headers.append(header::SET_COOKIE, cookie.clone());
            }
            let target = [
                (header::LOCATION, login.redirect_to.as_str()),
                (header::CACHE_CONTROL, "no-store"),
            ];
            (StatusCode::SEE_OTHER, headers, target).into_response()
        }
        Err(failure) => {
            write_down(app, peer, idp, &failure).await;
            let again = if login.user_id.is_some() {
                login.redirect_to.clone()
            } else {
                sign_in::path(app, &login.redirect_to, Asked::default())
            };
            failure.page(app, &again, headers)
        }
    }
}

/// The transaction, once, of this browser and this provider.
async fn take(
    app: &App,
    cookies: &Cookies,
    idp: &str,
    query: &str,
) -> Result<(Provider, Params, LoginTransaction), Failure> {
    let params = Params::parse(query).map_err(|error| {
        Failure::new("repeated_parameter", "The provider's answer is not right")
            .with_detail(error.to_string())
    })?;
    let provider = load(app, idp).await?;
    let state = params
        .secret("state")
        .ok_or_else(|| Failure::new("state_missing", "This is no answer to a sign-in of yours"))?;
    let browser = cookies.get(&app.settings, Name::Login).map(TokenDigest::of);
    let outcome = app
        .registry
        .finish_login(&TokenDigest::of(&state), browser.as_ref(), idp)
        .await?;
    match outcome {
        LoginOutcome::Returned(login) => Ok((provider, params, *login)),
        other => {
            let happened = match other {
                LoginOutcome::Unknown => "This sign-in is over, or took too long",
                _ => "This is no answer to a sign-in of yours",
            };
            let code = other.code().unwrap_or("state_unknown");
            Err(Failure::new(code, happened))
        }
    }
}

async fn finish(
    app: &App,
    cookies: &Cookies,
    peer: &Peer,
    face: Face,
    provider: &Provider,
    params: &Params,
    login: &LoginTransaction,
) -> Result<HeaderMap, Failure> {
    let metadata = app
        .rp
        .metadata
        .find(&app.rp.http, provider, app.now())
        .await?;
    check_issuer(provider, &metadata, params.get("iss"))?;
    if let Some(error) = params.get("error") {
        return Err(refused_there(provider, error, params));
    }
    let code = params
        .secret("code")
        .ok_or_else(|| Failure::provider("code_missing", "neither code nor error came"))?;
    let kept = Kept::open(app, &login.sealed_verifier)
        .ok_or_else(|| Failure::new("state_unknown", "This sign-in is over"))?;
    let sent = Sent {
        nonce: &SecretText::new(login.nonce.clone()),
        verifier: &kept.verifier,
        proven_since: kept.again.then_some(login.created_at),
        redirect_uri: &face.callback(app, &provider.id),
    };
    let current = match browser_session::find(app, cookies, peer).await? {
        Found::SignedIn(current) => Some(current),
        _ => None,
    };
    // Whoever wanted to link must still be the one who is signed in here, and proven lately: the trip
    // may have begun before.
    if let Some(user_id) = &login.user_id {
        let same = current.as_deref().filter(|one| one.user.id == *user_id);
        let Some(same) = same else {
            let happened = "You are not signed in any more as the person who wanted to link";
            return Err(Failure::new("session_changed", happened));
        };
        if guard::lately(app, same).await?.is_err() {
            let happened = "It is too long ago that you proved who you are";
            return Err(Failure::new("fresh_sign_in_required", happened)
                .with_status(StatusCode::FORBIDDEN)
                .with_advice("Sign in once more, then link it again."));
        }
    }
    let Came { claims, proven_at } = exchange::who(app, provider, &metadata, &code, &sent).await?;
    let roles = sign_up_roles(app)?;
    let outcome = app
        .registry
        .accept_identity(&claims, login.user_id.as_deref(), roles.as_deref())
        .await?;
    let user_id = match &outcome {
        IdentityOutcome::SignedIn(id)
        | IdentityOutcome::Linked(id)
        | IdentityOutcome::Created(id) => id.clone(),
        IdentityOutcome::UserDisabled => {
            let happened = PeopleError::UserDisabled;
            return Err(Failure::new(happened.code(), "This account is disabled")
                .with_status(StatusCode::FORBIDDEN)
                .with_advice("Ask whoever runs this site."));
        }
        IdentityOutcome::Refused(refusal) => return Err(refused_here(provider, *refusal)),
    };
    if matches!(outcome, IdentityOutcome::Linked(_)) {
        tell_of_new_identity(app, &user_id, &provider.name, peer).await;
    }
    if login.user_id.is_some() {
        return Ok(HeaderMap::new());
    }
    let identifier = claims
        .email
        .as_ref()
        .map_or(claims.subject.as_str(), |email| email.as_str());
    let trip = Finished {
        again: kept.again,
        proven_at,
        is_new: matches!(outcome, IdentityOutcome::Created(_)),
    };
    let proof = Proof {
        amr: AMR,
        acr: ACR_ONE,
        method: &provider.id,
        identifier,
        proven_at: trip
            .counts(app, provider, &user_id, &login.redirect_to)
            .await?,
    };
    // The session of the same person goes on: what applications were given in it stays good. A trip on which
    // nobody was to be asked adds nothing to it, neither trust nor a moment.
    let current = current.as_deref();
    if !kept.again && current.is_some_and(|current| current.user.id == user_id) {
        return Ok(HeaderMap::new());
    }
    Ok(sign_in::finish_session(app, cookies, peer, current, &user_id, &proof).await?)
}

/// What is known of a trip that ended well.
struct Finished {
    /// The provider was to ask the person anew.
    again: bool,
    /// When it says that it asked them (Unix ms).
    proven_at: Option<i64>,
    /// There is an account of theirs since this moment.
    is_new: bool,
}

impl Finished {
    /// The moment for which the trip counts as a proof of who sits there; none if it does not. Without the
    /// provider's word on when it asked, and signed, it does not: whoever has a password or a passkey here
    /// proves that instead, and is told so where they are on the way to something that needs it. For people
    /// who have neither, that they were to be asked anew has to do, since nothing better is to be had. An
    /// account that began just now has nothing yet that could be taken.
    async fn counts(
        &self,
        app: &App,
        provider: &Provider,
        user_id: &str,
        target: &str,
    ) -> Result<Option<i64>, Failure> {
        if self.proven_at.is_some() {
            return Ok(self.proven_at);
        }
        if self.is_new {
            return Ok(Some(app.now()));
        }
        if !self.again {
            return Ok(None);
        }
        let user = app.registry.find_user(user_id).await?;
        let has_own = user.has_password || !app.registry.list_passkeys(user_id).await?.is_empty();
        if !has_own {
            return Ok(Some(app.now()));
        }
        let path = target.split('?').next().unwrap_or(target);
        let needs_proof = [WAYS, "/rp/link"].map(|place| app.settings.path(place));
        if needs_proof
            .iter()
            .any(|place| path.starts_with(place.as_str()))
        {
            let name = &provider.name;
            let happened = format!("{name} does not say that you proved who you are just now");
            return Err(Failure::new("fresh_sign_in_required", &happened)
                .with_status(StatusCode::FORBIDDEN)
                .with_advice(
                    "Go back and use your password or your passkey of this site. If you know it no longer, \
                     ask whoever runs this site for a link to choose another password.",
                ));
        }
        Ok(None)
    }
}

/// RFC 9207: an answer from elsewhere is refused, and so is one without `iss` where the provider said
/// that it always sends it (S63).
fn check_issuer(
    provider: &Provider,
    metadata: &Metadata,
    iss: Option<&str>,
) -> Result<(), Failure> {
    let good = match iss {
        Some(iss) => provider.rule.accepts_response(iss),
        None => !metadata.answers_carry_iss,
    };
    if good {
        return Ok(());
    }
    let happened = "The answer comes from another provider than the one you chose";
    Err(Failure::new("issuer_mismatch", happened).with_detail(tame(iss.unwrap_or("none"), 120)))
}

fn refused_there(provider: &Provider, error: &str, params: &Params) -> Failure {
    let said = params.get("error_description").unwrap_or("");
    let detail = format!("{}: {}", tame(error, 60), tame(said, 200));
    if error == "access_denied" {
        let happened = format!("You did not allow the sign-in at {}", provider.name);
        return Failure::new("idp_access_denied", &happened).with_detail(detail);
    }
    let happened = format!("{} could not sign you in", provider.name);
    let mut failure = Failure::new("idp_error", &happened).with_detail(detail);
    let said = if said.is_empty() { error } else { said };
    failure.advice = format!(
        "It says: “{}”. Start again from the sign-in page.",
        tame(said, 200)
    );
    failure
}

fn refused_here(provider: &Provider, refusal: LinkRefusal) -> Failure {
    let name = &provider.name;
    let (status, happened, advice) = match refusal {
        LinkRefusal::IdentityInUse => (
            StatusCode::CONFLICT,
            format!("This {name} account is linked to somebody else here"),
            format!("Choose another account at {name}, or remove the link there first."),
        ),
        LinkRefusal::SignInToLink => (
            StatusCode::CONFLICT,
            "Somebody has an account here with the same e-mail address".to_owned(),
            format!(
                "If that is you, sign in first and link {name} on your page, under “Ways to sign in”."
            ),
        ),
        LinkRefusal::SignUpClosed => (
            StatusCode::FORBIDDEN,
            "You have no account here yet".to_owned(),
            "Accounts are made by invitation: ask whoever runs this site.".to_owned(),
        ),
    };
    Failure::new(refusal.code(), &happened)
        .with_status(status)
        .with_advice(advice)
}

/// Roles of people who are new here; none where strangers cannot come.
fn sign_up_roles(app: &App) -> Result<Option<Vec<RoleName>>, Failure> {
    match &app.settings.sign_up {
        SignUp::Invited => Ok(None),
        SignUp::ByProvider(roles) => {
            let names: Result<Vec<_>, PeopleError> =
                roles.iter().map(|role| RoleName::new(role)).collect();
            let names = names.map_err(|_| {
                Failure::new("role_not_found", "New accounts cannot be made now")
                    .with_detail("sign_up.provider_roles names no role")
            })?;
            Ok(Some(names))
        }
    }
}

/// A trip that came to nothing is part of the history. It counts against nobody's account: whose it
/// would have been is not known.
async fn write_down(app: &App, peer: &Peer, idp: &str, failure: &Failure) {
    app.operations.metrics.count_sign_in(idp, false);
    let attempt = NewSignIn {
        user_id: None,
        identifier: String::new(),
        method: idp.to_owned(),
        failure: Some(failure.code.to_owned()),
        network: peer.network(),
        user_agent: peer.user_agent.clone(),
        session_id: None,
        device: None,
    };
    if let Err(error) = app.registry.record_sign_in(&attempt).await {
        tracing::error!(code = error.code(), "a failed sign-in was not written down");
    }
}
