//! `GET /rp/authorize` and its alias `/auth/signIn/{provider}`: a browser is sent to an identity provider
//! (S0-29 to S0-36, S2-16).

use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use keywright_domain::people::TokenDigest;
use keywright_domain::pkce::{CHALLENGE_METHOD, PkceVerifier, random_token};
use keywright_registry::people::{NewLogin, NewSignIn};
use url::Url;

use super::failure::Failure;
use super::kept::Kept;
use super::presets::{Kind, Provider};
use super::{Face, load};
use crate::http::cookies::{self, Name};
use crate::http::local_path::LocalPath;
use crate::http::{Cookies, Params, Peer, close_names};
use crate::server::App;
use crate::sign_in::{self, Asked};

/// Where whoever names no target goes: a page that is there, which `/` need not be.
pub(super) const HOME: &str = "/account";
/// Where to go afterwards, as `/rp/authorize` calls it (C-32).
const RP_TARGET: &str = "redirect_uri";
/// The same, as `/auth/signIn/{provider}` calls it (C-17).
const AUTH_TARGET: &str = "redirectTo";
/// S0-34.
const LIFETIME_MS: i64 = 600_000;

/// `GET /rp/authorize?idp=&redirect_uri=`.
pub(super) async fn authorize(
    State(app): State<App>,
    cookies: Cookies,
    peer: Peer,
    RawQuery(query): RawQuery,
) -> Response {
    let query = query.unwrap_or_default();
    let asked = read(&query, RP_TARGET);
    let idp = asked.as_ref().ok().and_then(|asked| asked.idp.clone());
    begin(&app, &cookies, &peer, Face::Rp, idp, asked).await
}

/// `GET /auth/signIn/{provider}?redirectTo=`.
pub(super) async fn alias(
    State(app): State<App>,
    cookies: Cookies,
    peer: Peer,
    Path(idp): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let query = query.unwrap_or_default();
    let asked = read(&query, AUTH_TARGET);
    begin(&app, &cookies, &peer, Face::Auth, Some(idp), asked).await
}

struct AskedFor {
    idp: Option<String>,
    target: Option<String>,
    login_hint: Option<String>,
    again: bool,
}

fn read(query: &str, target: &str) -> Result<AskedFor, Failure> {
    let params = Params::parse(query).map_err(|error| {
        Failure::new("repeated_parameter", "This address is not right")
            .with_detail(error.to_string())
    })?;
    // Whoever ends elsewhere than they asked for would not know why (AC-119): a typing error is named, and so is
    // the name that the other face has for it.
    let targets = [RP_TARGET, AUTH_TARGET];
    let mut names = params.iter().map(|(name, _)| name);
    let foreign = names.find(|name| targets.contains(name) && *name != target);
    let typed = close_names::meant(&params, &targets).map(|(name, _)| name);
    if let Some(name) = typed.or_else(|| foreign.map(str::to_owned)) {
        let advice = format!("The parameter {name} is not known here: did you mean {target}?");
        return Err(
            Failure::new("unknown_parameter", "This address is not right").with_advice(advice),
        );
    }
    let text = |name: &str| params.get(name).map(str::to_owned);
    Ok(AskedFor {
        idp: text("idp"),
        target: text(target),
        login_hint: text("login_hint").filter(|hint| hint.len() <= 254),
        again: params.get("again").is_some(),
    })
}

async fn begin(
    app: &App,
    cookies: &Cookies,
    peer: &Peer,
    face: Face,
    idp: Option<String>,
    asked: Result<AskedFor, Failure>,
) -> Response {
    let mut again = sign_in::path(app, &app.settings.path(HOME), Asked::default());
    let result = async {
        let asked = asked?;
        let idp = idp.ok_or_else(Failure::unknown_provider)?;
        let target = local_target(app, peer, &idp, asked.target.as_deref()).await;
        again = sign_in::path(app, &target, Asked::default());
        let trip = Trip {
            idp: &idp,
            target: &target,
            user_id: None,
            login_hint: asked.login_hint.as_deref(),
            again: asked.again,
        };
        send(app, cookies, peer, face, &trip).await
    };
    match result.await {
        Ok((url, headers)) => {
            let location = [
                (header::LOCATION, url.as_str()),
                (header::CACHE_CONTROL, "no-store"),
            ];
            // 303 and 302 are the same for a GET; this is the one that S13 names.
            (StatusCode::SEE_OTHER, headers, location).into_response()
        }
        Err(failure) => failure.page(app, &again, HeaderMap::new()),
    }
}

/// Where the browser goes in the end: the person's own page in place of what leads elsewhere, and that
/// is written down (AC-075).
pub(super) async fn local_target(app: &App, peer: &Peer, idp: &str, asked: Option<&str>) -> String {
    let home = app.settings.path(HOME);
    let Some(asked) = asked else { return home };
    if let Some(path) = LocalPath::parse(asked) {
        return path.as_str().to_owned();
    }
    tracing::warn!(provider = %idp, "a sign-in was to end at another site");
    if app
        .rp
        .starts
        .check(peer.address, "target", app.now())
        .is_ok()
    {
        app.rp.starts.count(peer.address, "target", app.now());
        let attempt = NewSignIn {
            user_id: None,
            identifier: String::new(),
            method: idp.chars().take(40).collect(),
            failure: Some("redirect_refused".to_owned()),
            network: peer.network(),
            user_agent: peer.user_agent.clone(),
            session_id: None,
            device: None,
        };
        if let Err(error) = app.registry.record_sign_in(&attempt).await {
            tracing::error!(code = error.code(), "a refused target was not written down");
        }
    }
    home
}

/// A browser's way to a provider and back.
pub(super) struct Trip<'a> {
    /// Which provider.
    pub(super) idp: &'a str,
    /// A path of ours.
    pub(super) target: &'a str,
    /// Who is signed in, and wants to link.
    pub(super) user_id: Option<&'a str>,
    /// What the person is called where they come from.
    pub(super) login_hint: Option<&'a str>,
    /// They prove it anew there.
    pub(super) again: bool,
}

/// Remembers the trip, and says where the browser goes and which cookies it takes.
///
/// # Errors
/// [`Failure`].
pub(super) async fn send(
    app: &App,
    cookies: &Cookies,
    peer: &Peer,
    face: Face,
    trip: &Trip<'_>,
) -> Result<(Url, HeaderMap), Failure> {
    let now = app.now();
    if let Err(waits) = app.rp.starts.check(peer.address, "start", now) {
        let happened = "There were too many sign-ins from here";
        let mut failure = Failure::new("rate_limited", happened)
            .with_status(StatusCode::TOO_MANY_REQUESTS)
            .with_advice(format!("Wait {} seconds, then try again.", waits.seconds));
        failure.retry_after_s = Some(waits.seconds);
        return Err(failure);
    }
    app.rp.starts.count(peer.address, "start", now);
    let provider = load(app, trip.idp).await?;
    let metadata = app.rp.metadata.find(&app.rp.http, &provider, now).await?;
    let state = random_token(&mut rand::rng());
    let nonce = random_token(&mut rand::rng());
    let verifier = PkceVerifier::generate(&mut rand::rng());
    // Two tabs share one, so that neither ends the other's trip; each trip has a state of its own.
    let browser = cookies.token(&app.settings, Name::Login);
    app.registry
        .start_login(&NewLogin {
            state: TokenDigest::of(&state),
            browser: TokenDigest::of(&browser),
            provider_id: provider.id.clone(),
            nonce: nonce.expose().to_owned(),
            sealed_verifier: Kept::of(&verifier, trip.again).seal(app),
            redirect_to: trip.target.to_owned(),
            user_id: trip.user_id.map(str::to_owned),
            lifetime_ms: LIFETIME_MS,
        })
        .await?;
    let mut url = metadata.authorization_endpoint.clone();
    {
        let mut query = url.query_pairs_mut();
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", &provider.client_id)
            .append_pair("redirect_uri", &face.callback(app, &provider.id))
            .append_pair("scope", &provider.scope())
            .append_pair("state", state.expose())
            .append_pair("code_challenge", &verifier.challenge())
            .append_pair("code_challenge_method", CHALLENGE_METHOD);
        more(&provider, nonce.expose(), trip, |name, value| {
            query.append_pair(name, value);
        });
    }
    let mut headers = HeaderMap::new();
    let cookie = cookies::set(
        &app.settings,
        Name::Login,
        &browser,
        Some(LIFETIME_MS / 1000),
    );
    headers.append(header::SET_COOKIE, cookie);
    Ok((url, headers))
}

/// What differs between kinds.
fn more(provider: &Provider, nonce: &str, trip: &Trip<'_>, mut append: impl FnMut(&str, &str)) {
    match (provider.kind, trip.login_hint) {
        (Kind::GitHub, Some(hint)) => append("login", hint),
        (_, Some(hint)) => append("login_hint", hint),
        (_, None) => {}
    }
    if provider.kind != Kind::GitHub {
        append("nonce", nonce);
    }
    if trip.again {
        // OpenID Connect Core §3.1.2.1. GitHub has only the choice of an account, Facebook a word of its own;
        // `max_age` makes the others say when the person proved it, and that is looked at.
        match provider.kind {
            Kind::GitHub => append("prompt", "select_account"),
            Kind::Facebook => append("auth_type", "reauthenticate"),
            _ => {
                append("prompt", "login");
                append("max_age", "0");
            }
        }
    }
    if let Some(domain) = &provider.extra.hosted_domain {
        append("hd", domain);
    }
}
