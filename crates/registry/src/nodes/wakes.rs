//! Which changes the other nodes are told of at once: those that take something away. A hint only;
//! what it says is read from the log. It costs the database a lock at the commit, so what can wait
//! for the next look at the log (issues, uses, grants) is not told.

use keywright_domain::audit::AuditAction;

/// What a hint says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wake {
    /// The newest change with it; 0 for none.
    pub(crate) version: i64,
    /// Whether access tokens, sessions or grants ended.
    pub(crate) denials: bool,
}

impl Wake {
    /// The hint for a transaction with these events; none if others need not hurry.
    pub(crate) fn of(actions: impl IntoIterator<Item = AuditAction>, version: i64) -> Option<Self> {
        let (mut keys, mut denials) = (false, false);
        for action in actions {
            keys |= restricts_keys(action);
            denials |= ends_access(action);
        }
        (keys || denials).then_some(Self {
            version: if keys { version } else { 0 },
            denials,
        })
    }

    /// The text that is sent.
    pub(crate) fn payload(self) -> String {
        let denials = if self.denials { " denials" } else { "" };
        format!("{}{denials}", self.version)
    }

    /// Reads a text that came. Of one that is not ours, everything is looked at.
    pub(crate) fn read(payload: &str) -> Self {
        let (version, denials) = match payload.split_once(' ') {
            Some((version, rest)) => (version, rest == "denials"),
            None => (payload, false),
        };
        match version.parse() {
            Ok(version) => Self { version, denials },
            Err(_) => Self {
                version: i64::MAX,
                denials: true,
            },
        }
    }

    /// Both of two hints.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            version: self.version.max(other.version),
            denials: self.denials || other.denials,
        }
    }
}

/// Whether a key could be let through before that is refused, or could do more, after it.
fn restricts_keys(action: AuditAction) -> bool {
    use AuditAction as A;
    matches!(
        action,
        A::ApiKeyRotated
            | A::ApiKeyRevoked
            | A::ApiKeyChanged
            | A::ApiKeyDisabled
            | A::ApiKeyExposed
            | A::ApiKeyPromoted
            | A::SecretPromoted
            | A::SecretReissued
            | A::SecretRevoked
            | A::RotationCancelled
            | A::RotationRolledBack
            | A::RotationFinished
            | A::PrincipalChanged
            | A::PrincipalDisabled
            | A::PrincipalKeysRevoked
            | A::PolicySet
            | A::PolicyRemoved
            | A::UserDisabled
            | A::UserDeleted
            | A::UserRolesChanged
            | A::RoleDefined
            | A::RoleDeleted
            | A::RegistryRestored
    )
}

/// Whether access tokens may have ended before their time.
fn ends_access(action: AuditAction) -> bool {
    use AuditAction as A;
    matches!(
        action,
        A::UserDisabled
            | A::UserDeleted
            | A::UserRolesChanged
            | A::PasswordChanged
            | A::SecondFactorChanged
            | A::SessionEnded
            | A::SessionsEnded
            | A::ClientDisabled
            | A::ClientRemoved
            | A::ClientTokensEnded
            | A::ClientSecretRotated
            | A::ConsentRevoked
            | A::CodeReplayed
            | A::RefreshReused
            | A::GrantRevoked
            | A::AccessTokenDenied
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_something_away_is_told_and_what_can_wait_is_not() {
        use AuditAction as A;
        let quiet = [A::ApiKeyIssued, A::SecretFirstUsed, A::GrantRefreshed];
        assert_eq!(Wake::of(quiet, 7), None);
        let loud = Wake::of([A::ApiKeyIssued, A::ApiKeyRevoked], 7);
        assert_eq!(loud.map(Wake::payload).as_deref(), Some("7"));
        let both = Wake::of([A::UserDisabled], 8);
        assert_eq!(both.map(Wake::payload).as_deref(), Some("8 denials"));
        let denials = Wake::of([A::SessionEnded], 9);
        assert_eq!(denials.map(Wake::payload).as_deref(), Some("0 denials"));
    }

    #[test]
    fn a_hint_reads_back_and_a_strange_one_wakes_all() {
        for wake in [
            Wake {
                version: 0,
                denials: true,
            },
            Wake {
                version: 41,
                denials: false,
            },
            Wake {
                version: i64::MAX,
                denials: true,
            },
        ] {
            assert_eq!(Wake::read(&wake.payload()), wake);
        }
        let strange = Wake::read("'; DROP TABLE nodes");
        assert!(strange.denials && strange.version == i64::MAX);
        let sum = Wake::read("3").and(Wake::read("0 denials"));
        assert_eq!(
            sum,
            Wake {
                version: 3,
                denials: true
            }
        );
    }
}
