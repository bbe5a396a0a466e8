//! What is over goes, oldest first and so many at a time: each statement seeks in an index.

use sqlx::AnyConnection;

use crate::RegistryError;

/// Deletes up to `limit` rows of a kind that ended before `before`. Returns how many.
pub(crate) async fn prune(
    connection: &mut AnyConnection,
    what: Pruned,
    before: i64,
    limit: i64,
) -> Result<u64, RegistryError> {
    let done = sqlx::query(what.sql())
        .bind(before)
        .bind(limit)
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Pruned {
    Codes,
    DeviceCodes,
    PushedRequests,
    Logins,
    Denials,
    RefreshTokens,
    ClientSecrets,
    Grants,
    SessionClients,
    Sessions,
    SignIns,
    Invitations,
}

impl Pruned {
    fn sql(self) -> &'static str {
        match self {
            Self::Codes => {
                "DELETE FROM authorization_codes WHERE digest IN (SELECT digest FROM \
                 authorization_codes WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)"
            }
            Self::DeviceCodes => {
                "DELETE FROM device_codes WHERE digest IN (SELECT digest FROM device_codes \
                 WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)"
            }
            Self::PushedRequests => {
                "DELETE FROM pushed_requests WHERE digest IN (SELECT digest FROM pushed_requests \
                 WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)"
            }
            Self::Logins => {
                "DELETE FROM login_transactions WHERE state_digest IN (SELECT state_digest FROM \
                 login_transactions WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)"
            }
            Self::Denials => {
                "DELETE FROM denials WHERE (kind, value) IN (SELECT kind, value FROM denials \
                 WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)"
            }
            Self::RefreshTokens => {
                "DELETE FROM refresh_tokens WHERE digest IN (SELECT digest FROM refresh_tokens \
                 WHERE idle_expires_at <= $1 ORDER BY idle_expires_at LIMIT $2)"
            }
            Self::ClientSecrets => {
                "DELETE FROM client_secrets WHERE id IN (SELECT id FROM client_secrets \
                 WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)"
            }
            Self::Grants => {
                "DELETE FROM grants WHERE id IN (SELECT id FROM grants \
                 WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)"
            }
            Self::SessionClients => {
                "DELETE FROM session_clients WHERE session_id IN (SELECT id FROM sessions \
                 WHERE ended_at IS NOT NULL AND ended_at <= $1 ORDER BY ended_at, id LIMIT $2)"
            }
            Self::Sessions => {
                "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions \
                 WHERE ended_at IS NOT NULL AND ended_at <= $1 ORDER BY ended_at, id LIMIT $2)"
            }
            Self::SignIns => {
                "DELETE FROM sign_ins WHERE id IN (SELECT id FROM sign_ins \
                 WHERE at <= $1 ORDER BY at, id LIMIT $2)"
            }
            Self::Invitations => {
                "DELETE FROM invitations WHERE id IN (SELECT id FROM invitations \
                 WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)"
            }
        }
    }
}
