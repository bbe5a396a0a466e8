//! The authorization request (RFC 6749 §4.1.1 and what came after): read and checked in one place, for
//! the endpoint and for requests that are pushed (RFC 9126).

pub(crate) mod acr;
pub(crate) mod claims;

use keywright_domain::people::{Client, OAuthScopes};
use keywright_domain::pkce::CHALLENGE_METHOD;

use self::acr::AcrWish;
use super::{id_token, resource};
use crate::http::Params;
use crate::problem::OAuthError;
use crate::server::App;

/// What we read of a request; everything else is ignored (S7).
pub(crate) const PARAMETERS: [&str; 17] = [
    "client_id",
    "redirect_uri",
    "response_type",
    "response_mode",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "resource",
    "dpop_jkt",
    "prompt",
    "max_age",
    "login_hint",
    "id_token_hint",
    "acr_values",
    "claims",
];
/// Ways to answer, besides the usual one.
const FORM_POST: &str = "form_post";
/// All of them.
pub(crate) const RESPONSE_MODES: [&str; 2] = ["query", FORM_POST];
/// A request has to fit into an address of ours while the person signs in.
const LONGEST: usize = 5_000;
const LONGEST_STATE: usize = 2_000;
const LONGEST_NONCE: usize = 1_000;

/// A request that may be answered at its redirect URI.
#[derive(Clone, Debug)]
pub(crate) struct AuthorizationRequest {
    /// What it asks for, or the client's default.
    pub(crate) scopes: OAuthScopes,
    /// Whether a refresh token is given.
    pub(crate) offline: bool,
    /// Echoed in the ID token.
    pub(crate) nonce: Option<String>,
    /// S256.
    pub(crate) code_challenge: Option<String>,
    /// RFC 8707; none for our own API.
    pub(crate) resource: Option<String>,
    /// RFC 9449 §10.
    pub(crate) dpop_jkt: Option<String>,
    /// `prompt`.
    pub(crate) prompt: Prompt,
    /// Seconds since the person proved who they are.
    pub(crate) max_age: Option<i64>,
    /// What the person is called where they come from.
    pub(crate) login_hint: Option<String>,
    /// Who has to sign in, by `id_token_hint` or the `sub` claim.
    pub(crate) subject: Option<String>,
    /// At which level.
    pub(crate) acr: Option<AcrWish>,
}

/// `prompt` (OpenID Connect Core §3.1.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prompt {
    /// No page at all.
    pub(crate) none: bool,
    /// The person proves anew who they are.
    pub(crate) login: bool,
    /// The person is asked again.
    pub(crate) consent: bool,
    /// The person says which account it is.
    pub(crate) select_account: bool,
}

impl Prompt {
    /// Values that we know.
    pub(crate) const VALUES: [&'static str; 4] = ["none", "login", "consent", "select_account"];

    fn read(text: &str) -> Result<Self, OAuthError> {
        let mut prompt = Self::default();
        let mut values = 0;
        for value in text.split(' ').filter(|value| !value.is_empty()) {
            values += 1;
            match value {
                "none" => prompt.none = true,
                "login" => prompt.login = true,
                "consent" => prompt.consent = true,
                "select_account" => prompt.select_account = true,
                _ => return Err(invalid("prompt has an unknown value")),
            }
        }
        // S41.
        if prompt.none && values > 1 {
            return Err(invalid("prompt=none goes with no other value"));
        }
        Ok(prompt)
    }
}

/// Where the answer goes, once it may go there.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// As the request said it: one of the client's, but for a loopback port.
    pub(crate) redirect_uri: String,
    /// Returned unmodified (S12).
    pub(crate) state: Option<String>,
    /// By a form that the browser posts, and not in the address (OAuth 2.0 Form Post Response Mode).
    pub(crate) by_form: bool,
}

impl Target {
    /// The one place that decides whether an answer may be sent anywhere (S4).
    ///
    /// # Errors
    /// What is wrong, for a page or a pushed request; never to be sent to the address.
    pub(crate) fn read(client: &Client, params: &Params) -> Result<Self, &'static str> {
        let redirect_uri = params
            .get("redirect_uri")
            .ok_or("the request names no redirect_uri")?;
        if !client.allows_redirect(redirect_uri) {
            return Err("the redirect_uri is not one of this application's addresses");
        }
        let state = params.get("state").map(str::to_owned);
        Ok(Self {
            redirect_uri: redirect_uri.to_owned(),
            state: state.filter(|state| state.len() <= LONGEST_STATE),
            by_form: params.get("response_mode") == Some(FORM_POST) && takes_forms(redirect_uri),
        })
    }
}

/// Reads what may be answered at the redirect URI, good or bad. `pushed`: the client proved itself
/// when it sent this.
///
/// # Errors
/// [`OAuthError`], for the redirect URI.
pub(crate) fn read(
    app: &App,
    client: &Client,
    params: &Params,
    pushed: bool,
) -> Result<AuthorizationRequest, OAuthError> {
    refuse_by_name(params)?;
    if !client.may_use("authorization_code") {
        let text = "this client may not use authorization codes";
        return Err(OAuthError::new("unauthorized_client", text));
    }
    if client.settings.fapi && !pushed {
        return Err(invalid("this client has to push its requests (FAPI 2.0)"));
    }
    match params.get("response_type") {
        Some("code") => {}
        Some(_) => {
            let text = "response_type is code";
            return Err(OAuthError::new("unsupported_response_type", text));
        }
        None => return Err(invalid("response_type is missing")),
    }
    match params.get("response_mode") {
        None | Some("query") => {}
        Some(FORM_POST) if takes_forms(params.get("redirect_uri").unwrap_or("")) => {}
        Some(FORM_POST) => return Err(invalid("form_post needs an http or https redirect_uri")),
        Some(_) => return Err(invalid("response_mode is query or form_post")),
    }
    check_lengths(params)?;
    let mut scopes = read_scopes(client, params.get("scope"))?;
    let may_refresh = client.may_use("refresh_token");
    if scopes.contains("offline_access") && !may_refresh {
        scopes = without_offline(&scopes);
    }
    let wanted = match params.get("claims").filter(|_| scopes.contains("openid")) {
        Some(text) => claims::read(text)?,
        None => claims::Wanted::default(),
    };
    // A claim is given by its scope: what is asked for by name is shown and remembered like one.
    let named = wanted.scopes.as_slice().iter();
    let named: Vec<_> = named
        .filter(|scope| client.settings.scopes.contains(scope))
        .cloned()
        .collect();
    scopes = scopes.union(&OAuthScopes::parse(&named.join(" ")).unwrap_or_default());
    let acr = wanted.acr.or_else(|| {
        let values = params.get("acr_values")?;
        Some(AcrWish::voluntary(values))
    });
    Ok(AuthorizationRequest {
        offline: scopes.contains("offline_access"),
        nonce: params.get("nonce").map(str::to_owned),
        code_challenge: read_challenge(client, params)?,
        resource: resource::read(app, params.get("resource"))?,
        dpop_jkt: read_thumbprint(params.get("dpop_jkt"))?,
        prompt: Prompt::read(params.get("prompt").unwrap_or(""))?,
        max_age: read_max_age(params.get("max_age"))?,
        login_hint: params
            .get("login_hint")
            .map(|hint| hint.chars().take(320).collect()),
        subject: read_subject(app, client, params, wanted.subject)?,
        acr,
        scopes,
    })
}

/// Checks a pushed request as the authorization endpoint would (S57).
///
/// # Errors
/// [`OAuthError`].
pub(crate) async fn check_pushed(
    app: &App,
    client: &Client,
    params: &Params,
) -> Result<(), OAuthError> {
    if params.get("request_uri").is_some() {
        return Err(invalid("a pushed request has no request_uri"));
    }
    if params.get("client_id").is_some_and(|id| id != client.id) {
        return Err(invalid("client_id is another client's"));
    }
    Target::read(client, params).map_err(invalid)?;
    read(app, client, params, true).map(|_| ())
}

/// The parameters that we read, as form-encoded text.
pub(crate) fn encode(client: &Client, params: &Params) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("client_id", &client.id);
    for name in PARAMETERS.into_iter().filter(|name| *name != "client_id") {
        if let Some(value) = params.get(name) {
            form.append_pair(name, value);
        }
    }
    form.finish()
}

/// Browsers post forms to sites, and not to programs that registered a scheme of their own.
fn takes_forms(redirect_uri: &str) -> bool {
    redirect_uri.starts_with("https://") || redirect_uri.starts_with("http://")
}

fn invalid(text: &str) -> OAuthError {
    OAuthError::new("invalid_request", text)
}

/// What we do not support is refused by its own name (OpenID Connect Core §3.1.2.6).
fn refuse_by_name(params: &Params) -> Result<(), OAuthError> {
    for (name, error) in [
        ("request", "request_not_supported"),
        ("request_uri", "request_uri_not_supported"),
        ("registration", "registration_not_supported"),
    ] {
        if params.get(name).is_some() {
            let text = format!("{name} is not supported here");
            return Err(OAuthError::new(error, text));
        }
    }
    Ok(())
}

fn check_lengths(params: &Params) -> Result<(), OAuthError> {
    let read = params
        .iter()
        .filter(|(name, _)| PARAMETERS.contains(name))
        .fold(
            url::form_urlencoded::Serializer::new(String::new()),
            |mut form, (name, value)| {
                form.append_pair(name, value);
                form
            },
        )
        .finish();
    if read.len() > LONGEST {
        return Err(invalid("the request is too long"));
    }
    let longer = |name: &str, most: usize| params.get(name).is_some_and(|text| text.len() > most);
    if longer("state", LONGEST_STATE) {
        return Err(invalid("state is too long"));
    }
    if longer("nonce", LONGEST_NONCE) {
        return Err(invalid("nonce is too long"));
    }
    Ok(())
}

fn read_scopes(client: &Client, asked: Option<&str>) -> Result<OAuthScopes, OAuthError> {
    let Some(asked) = asked else {
        return Ok(client.settings.scopes.clone());
    };
    let bad = |text: &str| OAuthError::new("invalid_scope", text);
    let scopes = OAuthScopes::parse(asked).ok_or_else(|| bad("scope has a bad character"))?;
    if !client.settings.scopes.contains_all(&scopes) {
        return Err(bad("this client is not registered for one of these scopes"));
    }
    Ok(scopes)
}

/// What a client gets that may not refresh.
pub(crate) fn without_offline(scopes: &OAuthScopes) -> OAuthScopes {
    let rest: Vec<_> = scopes
        .as_slice()
        .iter()
        .filter(|scope| *scope != "offline_access")
        .cloned()
        .collect();
    OAuthScopes::parse(&rest.join(" ")).unwrap_or_default()
}

/// S8: S256 only, and always where the client has to (AC-050).
fn read_challenge(client: &Client, params: &Params) -> Result<Option<String>, OAuthError> {
    let challenge = params.get("code_challenge");
    match (challenge, params.get("code_challenge_method")) {
        (None, None) if !client.settings.require_pkce => Ok(None),
        (None, _) => Err(invalid("code_challenge is missing (RFC 7636)")),
        (Some(challenge), Some(CHALLENGE_METHOD)) if is_digest(challenge) => {
            Ok(Some(challenge.to_owned()))
        }
        (Some(_), Some(CHALLENGE_METHOD)) => Err(invalid("code_challenge is no SHA-256")),
        (Some(_), _) => Err(invalid("code_challenge_method is S256")),
    }
}

/// 32 bytes as base64url.
fn is_digest(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    text.len() == 43 && text.bytes().all(allowed)
}

fn read_thumbprint(text: Option<&str>) -> Result<Option<String>, OAuthError> {
    match text {
        Some(text) if !is_digest(text) => Err(invalid("dpop_jkt is no thumbprint")),
        other => Ok(other.map(str::to_owned)),
    }
}

fn read_max_age(text: Option<&str>) -> Result<Option<i64>, OAuthError> {
    let Some(text) = text else { return Ok(None) };
    let digits = text.len() <= 10 && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(seconds) if digits => Ok(Some(seconds)),
        _ => Err(invalid("max_age is a number of seconds")),
    }
}

fn read_subject(
    app: &App,
    client: &Client,
    params: &Params,
    claimed: Option<String>,
) -> Result<Option<String>, OAuthError> {
    let Some(token) = params.get("id_token_hint") else {
        return Ok(claimed);
    };
    let hint = id_token::read_hint(app, token)
        .ok()
        .filter(|hint| hint.aud == client.id)
        .ok_or_else(|| invalid("id_token_hint is no ID token of ours for this client"))?;
    if claimed.is_some_and(|claimed| claimed != hint.sub) {
        return Err(invalid("id_token_hint and the sub claim name two people"));
    }
    Ok(Some(hint.sub))
}
