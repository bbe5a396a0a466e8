//! `grant_type=authorization_code` (RFC 6749 §4.1.3, RFC 7636 §4.5).

use axum::response::Response;
use keywright_domain::SecretText;
use keywright_domain::audit::Actor;
use keywright_domain::people::{EndReason, GrantRefusal, TokenDigest};
use keywright_domain::pkce::{PkceVerifier, random_token};
use keywright_registry::people::{CodeOutcome, CodeRequest};

use super::Request;
use crate::oauth2::access_token::new_jti;
use crate::oauth2::resource;
use crate::oauth2::tokens::{self, Granted};
use crate::problem::OAuthError;
use crate::sessions;

pub(super) async fn grant(request: Request<'_>) -> Result<Response, OAuthError> {
    let (app, params) = (request.app, request.params);
    let code = SecretText::new(params.require("code")?.to_owned());
    let redirect_uri = params.require("redirect_uri")?.to_owned();
    let code_challenge = match params.get("code_verifier") {
        Some(text) => Some(challenge(text)?),
        None => None,
    };
    let asked = params.get("resource");
    resource::read(app, asked)?;
    let refresh_token = random_token(&mut rand::rng());
    let access_jti = new_jti();
    let outcome = app
        .registry
        .redeem_code(&CodeRequest {
            digest: TokenDigest::of(&code),
            client_id: request.client.id.clone(),
            redirect_uri,
            code_challenge,
            dpop_jkt: request.jkt.clone(),
            refresh_token: TokenDigest::of(&refresh_token),
            access_jti: access_jti.clone(),
            access_expires_at: app.now() + app.settings.access_ms,
            lives: app.settings.refresh,
            user_agent: request.peer.user_agent.clone(),
            network: request.peer.network(),
        })
        .await?;
    let (code, grant) = match outcome {
        CodeOutcome::Redeemed { code, grant } => (code, grant),
        CodeOutcome::Replayed { grant_id } => {
            // What the first use gave is denied from now on, here too.
            sessions::catch_up(app).await?;
            let client = &request.client.id;
            tracing::warn!(client, ?grant_id, "an authorization code came twice");
            return Err(refused(GrantRefusal::Unknown));
        }
        CodeOutcome::Refused(refusal) => return Err(refused(refusal)),
    };
    if let Err(error) = resource::check_within(app, grant.resource.as_deref(), asked) {
        // The code is used up, and what it gave is given to nobody.
        let actor = Actor::person(&request.client.id);
        app.registry
            .revoke_grant(&actor, &grant.id, EndReason::Revoked)
            .await?;
        return Err(error);
    }
    let granted = Granted {
        client: request.client,
        user_id: &grant.user_id,
        grant_id: Some(&grant.id),
        session_id: grant.session_id.as_deref(),
        scopes: &grant.scopes,
        resource: grant.resource.as_deref(),
        jkt: request.jkt.as_deref(),
        access_jti,
        refresh_token: code.offline.then_some(refresh_token),
        authenticated_at: Some(code.authenticated_at),
        acr: Some(&code.acr),
        amr: Some(&code.amr),
        nonce: code.nonce.as_deref(),
    };
    tokens::answer(app, granted).await
}

fn challenge(verifier: &str) -> Result<String, OAuthError> {
    PkceVerifier::parse(verifier.to_owned())
        .map(|verifier| verifier.challenge())
        .map_err(|_| {
            let text = "code_verifier has 43 to 128 unreserved characters";
            OAuthError::new("invalid_request", text)
        })
}

/// One text for all: what exactly is wrong is in the audit trail, not for who tries codes.
fn refused(refusal: GrantRefusal) -> OAuthError {
    let text = "the code is not good, or not for this request";
    OAuthError::new(refusal.oauth_error(), text)
}
