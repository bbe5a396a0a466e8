//! The token endpoint (RFC 6749 §4.1.3, §5, §6) and revocation (RFC 7009): oauth2 builds and
//! reads the messages, our own client carries them.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;

use keywright_domain::SecretText;
use oauth2::basic::{
    BasicErrorResponse, BasicErrorResponseType, BasicRevocationErrorResponse,
    BasicTokenIntrospectionResponse, BasicTokenType,
};
use oauth2::{
    AsyncHttpClient, AuthType, AuthorizationCode, Client, ClientId, ClientSecret, EndpointNotSet,
    EndpointSet, ExtraTokenFields, HttpRequest, HttpResponse, PkceCodeVerifier, RedirectUrl,
    RefreshToken, RequestTokenError, StandardRevocableToken, StandardTokenResponse,
    TokenResponse as _, TokenUrl,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::form_urlencoded;

use super::authorization::Attempt;
use super::discovery::Metadata;
use super::error::{SignInError, tame};
use crate::http::{Answer, HttpClient};
use crate::tokens::AccessToken;

/// The ID token beside the standard members (OpenID Connect Core §3.1.3.3).
#[derive(Deserialize, Serialize)]
struct IdTokenField {
    #[serde(default, skip_serializing)]
    id_token: Option<String>,
}

impl std::fmt::Debug for IdTokenField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdTokenField(redacted)")
    }
}

impl ExtraTokenFields for IdTokenField {}

type WireTokens = StandardTokenResponse<IdTokenField, BasicTokenType>;
type TokenClient = Client<
    BasicErrorResponse,
    WireTokens,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

type Answered = Result<WireTokens, RequestTokenError<SignInError, BasicErrorResponse>>;
/// oauth2's futures, named, so that the compiler need not prove them `Send` for every lifetime.
type Sent<'a> = Pin<Box<dyn Future<Output = Answered> + Send + 'a>>;

/// Who asks, and where.
pub(crate) struct TokenEndpoint<'a> {
    pub(crate) http: &'a HttpClient,
    pub(crate) metadata: &'a Metadata,
    pub(crate) client_id: &'a str,
    /// Only where a provider insists; it proves nothing (RFC 8252 §8.5).
    pub(crate) client_secret: Option<&'a SecretText>,
}

/// What the token endpoint gave.
#[derive(Debug)]
pub(crate) struct Tokens {
    pub(crate) access_token: AccessToken,
    pub(crate) expires_in_s: Option<i64>,
    pub(crate) refresh_token: Option<SecretText>,
    pub(crate) id_token: Option<SecretText>,
    /// Absent where everything asked for was granted (RFC 6749 §5.1).
    pub(crate) scopes: Option<Vec<String>>,
    pub(crate) clock_offset_ms: Option<i64>,
}

impl TokenEndpoint<'_> {
    /// Code and verifier for tokens.
    pub(crate) async fn exchange_code(
        &self,
        code: &SecretText,
        attempt: &Attempt,
        redirect_uri: &str,
    ) -> Result<Tokens, SignInError> {
        let client = self.client()?;
        let redirect = RedirectUrl::new(redirect_uri.to_owned()).map_err(|_| {
            SignInError::InvalidRequest("The redirect address is unusable.".to_owned())
        })?;
        let carrier = Carrier::new(self.http);
        let answered: Sent<'_> = Box::pin(
            client
                .exchange_code(AuthorizationCode::new(code.expose().to_owned()))
                .set_pkce_verifier(PkceCodeVerifier::new(
                    attempt.verifier.secret().expose().to_owned(),
                ))
                .set_redirect_uri(Cow::Owned(redirect))
                .request_async(&carrier),
        );
        read_tokens(answered.await, &carrier)
    }

    /// A refresh token for fresh tokens.
    pub(crate) async fn refresh(&self, refresh_token: &SecretText) -> Result<Tokens, SignInError> {
        let client = self.client()?;
        let refresh_token = RefreshToken::new(refresh_token.expose().to_owned());
        let carrier = Carrier::new(self.http);
        let answered: Sent<'_> = Box::pin(
            client
                .exchange_refresh_token(&refresh_token)
                .request_async(&carrier),
        );
        read_tokens(answered.await, &carrier)
    }

    /// Ends a token at the issuer; `kind` is only a hint to it. oauth2 refuses plain http here even on loopback,
    /// where it is allowed to the token endpoint: so this small request is built by hand.
    pub(crate) async fn revoke(&self, token: &SecretText, kind: &str) -> Result<(), SignInError> {
        let endpoint = self
            .metadata
            .revocation_endpoint
            .as_ref()
            .ok_or(SignInError::RevocationUnsupported)?;
        let request = http::Request::post(endpoint.as_str())
            .header("Content-Type", "application/x-www-form-urlencoded")
            .header("Accept", "application/json")
            .body(self.revocation_form(token, kind).into_bytes())
            .map_err(|_| SignInError::RevocationFailed("its address is unusable".to_owned()))?;
        let answer = self.http.post(request).await.map_err(|error| {
            SignInError::RevocationFailed(error.to_string().trim_end_matches('.').to_owned())
        })?;
        match answer.status {
            200 | 204 => Ok(()),
            _ => Err(SignInError::RevocationFailed(format!(
                "it answered with {}",
                answer.describe()
            ))),
        }
    }

    fn revocation_form(&self, token: &SecretText, kind: &str) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("token", token.expose())
            .append_pair("token_type_hint", kind);
        form.append_pair("client_id", self.client_id);
        if let Some(secret) = self.client_secret {
            form.append_pair("client_secret", secret.expose());
        }
        form.finish()
    }

    fn client(&self) -> Result<TokenClient, SignInError> {
        let url = TokenUrl::new(self.metadata.token_endpoint.to_string()).map_err(|_| {
            SignInError::InvalidRequest("The token address is unusable.".to_owned())
        })?;
        let client = Client::new(ClientId::new(self.client_id.to_owned())).set_token_uri(url);
        Ok(match self.client_secret {
            None => client,
            Some(secret) => client
                .set_client_secret(ClientSecret::new(secret.expose().to_owned()))
                .set_auth_type(if self.metadata.secret_in_body {
                    AuthType::RequestBody
                } else {
                    AuthType::BasicAuth
                }),
        })
    }
}

/// Carries oauth2's requests and looks at the answers before oauth2 does.
struct Carrier {
    http: HttpClient,
    clock_offset_ms: Mutex<Option<i64>>,
}

impl Carrier {
    fn new(http: &HttpClient) -> Self {
        Self {
            http: http.clone(),
            clock_offset_ms: Mutex::new(None),
        }
    }

    async fn carry(&self, request: HttpRequest) -> Result<HttpResponse, SignInError> {
        let mut answer = self.http.post(request).await?;
        if let Ok(mut offset) = self.clock_offset_ms.lock() {
            *offset = answer.clock_offset_ms;
        }
        let status = match answer.status {
            status @ (429 | 500..=599) => return Err(SignInError::ProviderUnavailable(status)),
            _ if !answer.is_json() => {
                return Err(SignInError::InvalidTokenResponse(answer.describe()));
            }
            // GitHub reports errors with status 200.
            200 if reports_error(&answer) => 400,
            status => status,
        };
        let body = std::mem::take(&mut *answer.body);
        let response = http::Response::builder().status(status).body(body);
        response.map_err(|_| SignInError::InvalidTokenResponse("an impossible status".to_owned()))
    }
}

impl<'c> AsyncHttpClient<'c> for Carrier {
    type Error = SignInError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, SignInError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.carry(request))
    }
}

fn reports_error(answer: &Answer) -> bool {
    serde_json::from_slice::<Value>(&answer.body)
        .is_ok_and(|body| body.get("error").is_some() && body.get("access_token").is_none())
}

fn read_tokens(answered: Answered, carrier: &Carrier) -> Result<Tokens, SignInError> {
    let wire = answered.map_err(|error| match error {
        RequestTokenError::Request(error) => error,
        RequestTokenError::ServerResponse(refusal) => SignInError::ProviderRefused {
            error: tame(refusal.error().as_ref(), 60),
            description: refusal.error_description().map(|text| tame(text, 200)),
        },
        // The parser's error would quote the answer, and with it perhaps a token.
        RequestTokenError::Parse(..) => {
            SignInError::InvalidTokenResponse("JSON that is no token response".to_owned())
        }
        RequestTokenError::Other(_) => {
            SignInError::InvalidTokenResponse("an empty answer".to_owned())
        }
    })?;
    if *wire.token_type() != BasicTokenType::Bearer {
        return Err(SignInError::InvalidTokenResponse(
            "a kind of token that Keywright cannot use".to_owned(),
        ));
    }
    if wire.access_token().secret().is_empty() {
        return Err(SignInError::InvalidTokenResponse(
            "an empty access token".to_owned(),
        ));
    }
    let secret = |text: &String| SecretText::new(text.clone());
    let scopes = wire.scopes().map(|scopes| {
        // Commas are GitHub's.
        scopes
            .iter()
            .flat_map(|scope| scope.split([' ', ',']))
            .filter(|s| !s.is_empty())
            .map(str::to_owned)
            .collect()
    });
    Ok(Tokens {
        access_token: AccessToken::new(secret(wire.access_token().secret())),
        expires_in_s: wire
            .expires_in()
            .map(|life| i64::try_from(life.as_secs()).unwrap_or(i64::MAX / 4000)),
        refresh_token: wire
            .refresh_token()
            .map(|token| secret(token.secret()))
            .filter(|token| !token.expose().is_empty()),
        id_token: wire.extra_fields().id_token.as_ref().map(secret),
        scopes,
        clock_offset_ms: carrier
            .clock_offset_ms
            .lock()
            .ok()
            .and_then(|offset| *offset),
    })
}

/// `invalid_grant`: the refresh token is dead (RFC 6749 §5.2).
pub(crate) fn is_invalid_grant(error: &SignInError) -> bool {
    matches!(error, SignInError::ProviderRefused { error, .. } if error == BasicErrorResponseType::InvalidGrant.as_ref())
}
