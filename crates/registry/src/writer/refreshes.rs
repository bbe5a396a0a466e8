//! Refresh tokens of a group: read for all of them at once and written in four statements. As for
//! keys ([`super::ahead`]), everything is read after the row of `heads` was locked, and what a use
//! case of the group writes is taken out of what was read ahead.

use std::collections::HashMap;

use keywright_domain::people::{Sealed, TokenDigest};

use super::Unit;
use crate::people::grants::Grant;
use crate::store::people::grants::{self as rows, TokenRow};
use crate::{RegistryError, store};

/// A token that is followed by another.
#[derive(Clone, Debug)]
pub(crate) struct Rotated {
    /// The one that was presented.
    pub(crate) presented: TokenDigest,
    /// The one before it, whose successor nobody needs any more.
    pub(crate) parent: Option<TokenDigest>,
    /// The one that follows.
    pub(crate) successor: TokenDigest,
    pub(crate) sealed_successor: Sealed,
    pub(crate) grant_id: String,
    pub(crate) idle_expires_at: i64,
    pub(crate) network: String,
}

/// What was read and is still as it was read; none where there is none.
#[derive(Default)]
pub(super) struct ReadAhead {
    tokens: HashMap<TokenDigest, Option<TokenRow>>,
    grants: HashMap<String, Option<Grant>>,
}

impl Unit {
    /// Reads what several use cases want.
    pub(super) async fn read_tokens_ahead(
        &mut self,
        tokens: &[TokenDigest],
    ) -> Result<(), RegistryError> {
        let found = rows::find_tokens(&mut self.connection, tokens).await?;
        let mut ids: Vec<String> = found.iter().map(|(_, row)| row.grant_id.clone()).collect();
        ids.sort_unstable();
        ids.dedup();
        let grants = rows::find_all(&mut self.connection, &ids).await?;
        let ahead = &mut self.tokens_ahead;
        ahead.tokens = tokens.iter().map(|token| (*token, None)).collect();
        for (token, row) in found {
            ahead.tokens.insert(token, Some(row));
        }
        ahead.grants = ids.into_iter().map(|id| (id, None)).collect();
        for grant in grants {
            ahead.grants.insert(grant.id.clone(), Some(grant));
        }
        Ok(())
    }

    /// A refresh token.
    pub(crate) async fn refresh_token(
        &mut self,
        token: &TokenDigest,
    ) -> Result<Option<TokenRow>, RegistryError> {
        if let Some(row) = self.tokens_ahead.tokens.get(token) {
            return Ok(row.clone());
        }
        self.flush_rotated().await?;
        rows::find_token(&mut self.connection, token).await
    }

    /// A grant.
    pub(crate) async fn grant(&mut self, id: &str) -> Result<Option<Grant>, RegistryError> {
        if let Some(grant) = self.tokens_ahead.grants.get(id) {
            return Ok(grant.clone());
        }
        self.flush_rotated().await?;
        rows::find(&mut self.connection, id).await
    }

    /// Whether a person is disabled or gone.
    pub(crate) async fn user_is_disabled(&mut self, id: &str) -> Result<bool, RegistryError> {
        let known = self.remembered(|rows| rows.users.get(id).map(|user| user.disabled_at));
        let disabled_at = match known {
            Some(known) => Some(known),
            None => store::people::users::find(&mut self.connection, id)
                .await?
                .map(|user| user.disabled_at),
        };
        Ok(disabled_at.is_none_or(|at| at.is_some()))
    }

    /// Whether a client is disabled or gone.
    pub(crate) async fn client_is_disabled(&mut self, id: &str) -> Result<bool, RegistryError> {
        let known = self.remembered(|rows| {
            let known = rows.clients.get(id)?;
            Some(known.client.disabled_at)
        });
        let disabled_at = match known {
            Some(known) => Some(known),
            None => store::people::clients::find(&mut self.connection, id)
                .await?
                .map(|client| client.disabled_at),
        };
        Ok(disabled_at.is_none_or(|at| at.is_some()))
    }

    /// Puts a token behind another: at once, or with those of the group.
    pub(crate) async fn rotate_token(&mut self, rotated: Rotated) -> Result<(), RegistryError> {
        self.wrote = true;
        let ahead = &mut self.tokens_ahead;
        ahead.tokens.remove(&rotated.presented);
        // Its successor is not the newest any more.
        if let Some(parent) = &rotated.parent {
            ahead.tokens.remove(parent);
        }
        ahead.tokens.remove(&rotated.successor);
        ahead.grants.remove(&rotated.grant_id);
        self.rotated.push(rotated);
        if self.grouped {
            Ok(())
        } else {
            self.flush_rotated().await
        }
    }

    /// Uses a token without putting another behind it: it, and when it is too idle (Unix ms); its grant, when
    /// it was used and where from.
    pub(crate) async fn keep_token(
        &mut self,
        token: (&TokenDigest, i64),
        used: (&str, i64, String),
    ) -> Result<(), RegistryError> {
        self.wrote = true;
        self.tokens_ahead.tokens.remove(token.0);
        self.tokens_ahead.grants.remove(used.0);
        rows::keep_token(&mut self.connection, token, used).await
    }

    /// Writes what waits.
    pub(crate) async fn flush_rotated(&mut self) -> Result<(), RegistryError> {
        let rotated = std::mem::take(&mut self.rotated);
        if rotated.is_empty() {
            return Ok(());
        }
        let written = rows::rotate_tokens(&mut self.connection, &rotated, self.now).await;
        // Others of the group were told to wait for these rows: none of it may be committed.
        self.wrote |= written.is_err();
        written
    }
}
