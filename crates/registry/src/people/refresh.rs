//! Refresh: each token is used once and followed by another. The one just before may come again for
//! a moment and gives the same successor; anything else ends the family (RFC 9700 §4.14.2).

use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::people::{
    EndReason, GrantRefusal, OAuthScopes, RefreshFacts, RefreshLives, RefreshVerdict, Sealed,
    TokenDigest,
};

use super::foreign;
use super::grants::{self, Grant};
use crate::writer::{Rotated, Unit, Wants};
use crate::{LocalRegistry, RegistryError};

/// A token request with a refresh token, from a client that has proven itself.
#[derive(Clone, Debug)]
pub struct RefreshRequest {
    /// Of the token.
    pub presented: TokenDigest,
    /// Of the one that follows.
    pub successor: TokenDigest,
    /// The one that follows, sealed with a key that the caller makes from the presented token: for
    /// an honest retry, and readable by nobody who has only this database.
    pub sealed_successor: Sealed,
    /// Who asks.
    pub client_id: String,
    /// Thumbprint of the DPoP proof's key, if there is one.
    pub dpop_jkt: Option<String>,
    /// Less than what was granted; none for all of it.
    pub scopes: Option<OAuthScopes>,
    /// How long refresh tokens live.
    pub lives: RefreshLives,
    /// Whether the token is followed by another. Without that it stays good, and `successor` is for nothing.
    pub rotate: bool,
    /// Where from.
    pub network: String,
}

/// What becomes of a refresh request.
#[derive(Clone, Debug)]
pub enum RefreshOutcome {
    /// The successor that the request brought is the token now.
    Rotated {
        /// The grant.
        grant: Box<Grant>,
        /// What the access token allows.
        scopes: OAuthScopes,
    },
    /// The token that came stays good.
    Kept {
        /// The grant.
        grant: Box<Grant>,
        /// What the access token allows.
        scopes: OAuthScopes,
    },
    /// An honest retry: the successor of the first time is still the token.
    Replayed {
        /// The grant.
        grant: Box<Grant>,
        /// What the access token allows.
        scopes: OAuthScopes,
        /// The successor of the first time.
        sealed_successor: Sealed,
    },
    /// It was used before: the family is revoked.
    Reused {
        /// The grant.
        grant: Box<Grant>,
    },
    /// Nothing is given, nothing changed.
    Refused(GrantRefusal),
}

impl LocalRegistry {
    /// Rotates a refresh token, or uses it without.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written; what is wrong with the token is an outcome.
    pub async fn refresh_grant(
        &self,
        request: &RefreshRequest,
    ) -> Result<RefreshOutcome, RegistryError> {
        let wants = Wants {
            refresh: Some(request.presented),
            ..Wants::default()
        };
        self.write_grouped(request.clone(), wants, |unit, request| {
            Box::pin(refresh(unit, request))
        })
        .await
    }
}

async fn refresh(
    unit: &mut Unit,
    request: &RefreshRequest,
) -> Result<RefreshOutcome, RegistryError> {
    let now = unit.now();
    let actor = Actor::person(&request.client_id).at_text(&request.network);
    let Some(token) = unit.refresh_token(&request.presented).await? else {
        return Ok(RefreshOutcome::Refused(GrantRefusal::Unknown));
    };
    let Some(grant) = unit.grant(&token.grant_id).await? else {
        return Ok(RefreshOutcome::Refused(GrantRefusal::Expired));
    };
    let facts = RefreshFacts {
        client: (&grant.client_id, &request.client_id),
        dpop_jkt: (grant.dpop_jkt.as_deref(), request.dpop_jkt.as_deref()),
        rotated_at: token.rotated_at,
        successor_is_current: token.successor_is_current,
        idle_expires_at: token.idle_expires_at,
        expires_at: grant.expires_at,
        revoked: grant.revoked_at.is_some(),
        user_disabled: unit.user_is_disabled(&grant.user_id).await?,
        client_disabled: unit.client_is_disabled(&grant.client_id).await?,
        scopes: (&grant.scopes, request.scopes.as_ref()),
        grace_ms: request.lives.grace_ms,
    };
    let verdict = facts.judge(now);
    let scopes = request
        .scopes
        .clone()
        .unwrap_or_else(|| grant.scopes.clone());
    match (verdict, token.sealed_successor) {
        (RefreshVerdict::Rotate, _) if !request.rotate => {
            let idle_expires_at = now.saturating_add(request.lives.idle_ms);
            let token = (&request.presented, idle_expires_at);
            let used = (&*grant.id, now, foreign(&request.network));
            unit.keep_token(token, used).await?;
            let action = AuditAction::GrantRefreshed;
            unit.audit(&actor, grants::about_grant(action, &grant, "refreshed"));
            Ok(RefreshOutcome::Kept {
                grant: Box::new(grant),
                scopes,
            })
        }
        (RefreshVerdict::Rotate, _) => {
            unit.rotate_token(Rotated {
                presented: request.presented,
                parent: token.parent,
                successor: request.successor,
                sealed_successor: request.sealed_successor.clone(),
                grant_id: grant.id.clone(),
                idle_expires_at: now.saturating_add(request.lives.idle_ms),
                network: foreign(&request.network),
            })
            .await?;
            let action = AuditAction::GrantRefreshed;
            unit.audit(&actor, grants::about_grant(action, &grant, "refreshed"));
            Ok(RefreshOutcome::Rotated {
                grant: Box::new(grant),
                scopes,
            })
        }
        (RefreshVerdict::Replay, Some(sealed_successor)) => {
            let action = AuditAction::GrantRefreshed;
            unit.audit(
                &actor,
                grants::about_grant(action, &grant, "refreshed again by a retry"),
            );
            Ok(RefreshOutcome::Replayed {
                grant: Box::new(grant),
                scopes,
                sealed_successor,
            })
        }
        (RefreshVerdict::Reuse | RefreshVerdict::Replay, _) => {
            let action = AuditAction::RefreshReused;
            // What was rotated before in this group is part of what ends.
            unit.flush_rotated().await?;
            grants::revoke(unit, &actor, &grant, EndReason::Reuse, action).await?;
            Ok(RefreshOutcome::Reused {
                grant: Box::new(grant),
            })
        }
        (RefreshVerdict::Refuse(refusal), _) => {
            let verb = format!("not refreshed: {}", refusal.code());
            let mut event = grants::about_grant(AuditAction::RefreshRefused, &grant, &verb);
            event.details.push(("reason", refusal.code().to_owned()));
            unit.audit(&actor, event);
            Ok(RefreshOutcome::Refused(refusal))
        }
    }
}
