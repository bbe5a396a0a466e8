//! What a request comes to: a sign-in, a question, a refusal, or a code.

use axum::response::Response;
use keywright_domain::SecretText;
use keywright_domain::people::{CLOCKS_APART_MS, Client, ClientType, TokenDigest};
use keywright_domain::pkce::random_token;
use keywright_registry::RegistryError;
use keywright_registry::people::NewCode;

use super::{Parked, Stopped, redirect};
use crate::browser_session::{self, Found, SignedIn};
use crate::http::{Cookies, Peer};
use crate::oauth2::authorization_request::acr::AcrWish;
use crate::oauth2::authorization_request::{AuthorizationRequest, Target};
use crate::oauth2::consent;
use crate::problem::OAuthError;
use crate::server::App;
use crate::sign_in::{self, Asked};

const MINUTE_MS: i64 = 60_000;

/// One request that is being answered.
pub(crate) struct Run<'a> {
    pub(crate) app: &'a App,
    pub(crate) client: &'a Client,
    pub(crate) target: &'a Target,
    pub(crate) request: &'a AuthorizationRequest,
    pub(crate) parked: Parked,
}

impl Run<'_> {
    /// Answers. `consented`: what the person just said on the consent page.
    pub(crate) async fn answer(
        &self,
        peer: &Peer,
        cookies: &Cookies,
        consented: Option<bool>,
    ) -> Result<Response, Stopped> {
        let prompt = self.request.prompt;
        let signed_in = match browser_session::find(self.app, cookies, peer).await? {
            Found::SignedIn(signed_in) => signed_in,
            _ if prompt.none => return Err(self.refuse("login_required", "nobody is signed in")),
            _ => return Ok(self.to_sign_in(None, self.wants_a_new_sign_in())),
        };
        let proven = self.parked.was_answered_by(&signed_in);
        if !proven && self.wants_proof(&signed_in) {
            if prompt.none {
                return Err(self.refuse("login_required", "the sign-in has to be a new one"));
            }
            return Ok(self.to_sign_in(Some(&signed_in), true));
        }
        if let Some(subject) = &self.request.subject
            && *subject != signed_in.user.id
        {
            // Whoever just signed in is another person: asking again would ask for ever.
            if prompt.none || proven {
                return Err(self.refuse("login_required", "another person is signed in"));
            }
            return Ok(self.to_sign_in(Some(&signed_in), true));
        }
        if let Some(answer) = self.step_up(&signed_in, proven)? {
            return Ok(answer);
        }
        match consented {
            Some(false) => return Err(self.refuse("access_denied", "the person said no")),
            Some(true) => self.remember(&signed_in).await?,
            None if self.needs_consent(&signed_in).await? => {
                if prompt.none {
                    return Err(self.refuse("consent_required", "the person has to be asked"));
                }
                return Ok(consent::page(self, &signed_in, cookies));
            }
            None => {}
        }
        self.give_code(&signed_in).await
    }

    /// Whether a sign-in has to be a new one wherever it happens: a provider that knows its person still
    /// has to ask them (OpenID Connect Core §3.1.2.1).
    fn wants_a_new_sign_in(&self) -> bool {
        let prompt = self.request.prompt;
        prompt.login || prompt.select_account || self.request.max_age.is_some()
    }

    /// Whether this sign-in is too old, or the request wants a new one.
    fn wants_proof(&self, signed_in: &SignedIn) -> bool {
        let prompt = self.request.prompt;
        let age = self.app.now() - signed_in.session.authenticated_at;
        // Of one from the future nobody can say how old it is: a clock was put back since.
        let too_old = |seconds: i64| {
            seconds == 0 || !(-CLOCKS_APART_MS..=seconds.saturating_mul(1000)).contains(&age)
        };
        prompt.login || prompt.select_account || self.request.max_age.is_some_and(too_old)
    }

    /// The level that is asked for (RFC 9470 §5): a second proof, or a refusal where it cannot be had.
    fn step_up(&self, signed_in: &SignedIn, proven: bool) -> Result<Option<Response>, Stopped> {
        let Some(wish) = &self.request.acr else {
            return Ok(None);
        };
        if wish.is_met_by(&signed_in.session.acr) {
            return Ok(None);
        }
        let unmet = "unmet_authentication_requirements";
        match wish.needed() {
            None if wish.essential => Err(self.refuse(unmet, "this level is not known here")),
            None => Ok(None),
            Some(_) if self.request.prompt.none && wish.essential => {
                Err(self.refuse(unmet, "the person has to prove more"))
            }
            Some(_) if self.request.prompt.none => Ok(None),
            // They were asked and came back with less: what is only wished for is let go.
            Some(_) if proven && wish.essential => {
                Err(self.refuse(unmet, "the person did not prove enough"))
            }
            Some(_) if proven => Ok(None),
            // A step up goes on in the session that is there.
            Some(_) => Ok(Some(self.to_sign_in(Some(signed_in), false))),
        }
    }

    /// `again`: whoever is signed in proves it anew, or says that they are somebody else.
    fn to_sign_in(&self, signed_in: Option<&SignedIn>, again: bool) -> Response {
        let digest = signed_in.map(|signed_in| &signed_in.digest);
        let parked = self.parked.sent_to_sign_in(self.app, digest);
        let wish = self.request.acr.as_ref();
        let asked = Asked {
            login_hint: self.request.login_hint.as_deref(),
            again,
            two_factors: wish
                .and_then(AcrWish::needed)
                .is_some_and(|level| level > 0),
        };
        let return_to = parked.resume_path(self.app);
        redirect::see_other(&sign_in::path(self.app, &return_to, asked))
    }

    async fn needs_consent(&self, signed_in: &SignedIn) -> Result<bool, RegistryError> {
        if self.request.prompt.consent || self.may_be_anybody() {
            return Ok(true);
        }
        // What was allowed for one resource is not allowed for another (RFC 8707).
        let resource = self.request.resource.as_deref();
        let known = self
            .app
            .registry
            .find_consented_scopes(&signed_in.user.id, &self.client.id, resource)
            .await?;
        Ok(!known.is_some_and(|scopes| scopes.contains_all(&self.request.scopes)))
    }

    /// Whether nothing says that it is the program which was allowed: a public client whose answers go to a
    /// program on the person's device, where any program may listen, and a page of another site that led
    /// here. The program itself opens the browser (RFC 8252 §8.6; why this far: decision 38).
    fn may_be_anybody(&self) -> bool {
        let is_native = !self.target.redirect_uri.starts_with("https://");
        let is_public = self.client.settings.client_type == ClientType::Public;
        self.parked.linked && is_public && is_native
    }

    async fn remember(&self, signed_in: &SignedIn) -> Result<(), RegistryError> {
        let actor = signed_in.actor();
        let (user_id, client_id) = (&signed_in.user.id, &self.client.id);
        let (scopes, resource) = (&self.request.scopes, self.request.resource.as_deref());
        self.app
            .registry
            .give_consent(&actor, user_id, client_id, resource, scopes)
            .await
            .map(|_| ())
    }

    /// How long a code is good (ms): FAPI 2.0 Security Profile §5.3.2.1 allows a minute, whatever is set.
    fn code_life(&self) -> i64 {
        let set = self.app.settings.code_ms;
        if self.client.settings.fapi {
            set.min(MINUTE_MS)
        } else {
            set
        }
    }

    async fn give_code(&self, signed_in: &SignedIn) -> Result<Response, Stopped> {
        let code: SecretText = random_token(&mut rand::rng());
        let (request, session) = (self.request, &signed_in.session);
        let acr = match &request.acr {
            Some(wish) => wish.said_of(&session.acr),
            None => &session.acr,
        };
        let new = NewCode {
            digest: TokenDigest::of(&code),
            client_id: self.client.id.clone(),
            user_id: signed_in.user.id.clone(),
            session_id: Some(session.id.clone()),
            redirect_uri: self.target.redirect_uri.clone(),
            scopes: request.scopes.clone(),
            nonce: request.nonce.clone(),
            code_challenge: request.code_challenge.clone(),
            dpop_jkt: request.dpop_jkt.clone(),
            resource: request.resource.clone(),
            authenticated_at: session.authenticated_at,
            acr: acr.to_owned(),
            amr: session.amr.clone(),
            offline: request.offline,
            lifetime_ms: self.code_life(),
        };
        let actor = signed_in.actor();
        self.app.registry.issue_code(&actor, &new).await?;
        Ok(redirect::code(self.app, self.target, code.expose()))
    }

    fn refuse(&self, error: &'static str, text: &str) -> Stopped {
        Stopped::Sent(Box::new(self.target.clone()), OAuthError::new(error, text))
    }
}
