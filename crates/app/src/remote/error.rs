//! What a registry on a server can say, and what the way there can: each with a stable code. Refusals
//! have the codes that the registry of this device has for the same thing.

use serde_json::Value;
use thiserror::Error;

use crate::AppError;
use crate::http::HttpError;
use crate::sign_in::{SignInError, tame};

/// Why a call to a registry on a server brought nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RemoteError {
    /// Plain http to another machine, or a certificate that nobody here trusts (AC-156).
    #[error("{host} is not reached safely: {detail}.")]
    InsecureEndpoint {
        /// Who.
        host: String,
        /// Why.
        detail: &'static str,
    },
    /// Nothing was sent, or the server cannot answer now: nothing was changed there, except by a call
    /// that can be repeated without harm.
    #[error("The registry at {host} cannot be reached: {detail}.")]
    Offline {
        /// Who.
        host: String,
        /// What went wrong, in a few words.
        detail: String,
    },
    /// It answers, and has a fault: asked for something else it may do better.
    #[error("The registry at {host} could not do it: it answered with status {status}.")]
    Faulty {
        /// Who.
        host: String,
        /// 5xx.
        status: u16,
    },
    /// Sent, and no answer came: it may have been done.
    #[error("{0} did not answer, so whether it was done is not known.")]
    OutcomeUnknown(String),
    /// 429.
    #[error("{host} takes no more requests for now.")]
    Busy {
        /// Who.
        host: String,
    },
    /// Something else answers there.
    #[error("{0} does not answer as a Keywright server.")]
    NotKeywright(String),
    /// A 404 without a word of the registry's: nobody there knows such a request.
    #[error("{0} does not know this request.")]
    NoSuchRoute(String),
    /// The person's role or this sign-in does not allow it (AC-158).
    #[error("The server does not allow this: {0}.")]
    NotAllowed(String),
    /// A rule of the registry.
    #[error("{detail}")]
    Refused {
        /// 4xx.
        status: u16,
        /// The registry's code.
        code: &'static str,
        /// Its words: foreign text, capped, printable.
        detail: String,
    },
    /// A refusal with a code that this version does not know.
    #[error("The server refused ({code}): {detail}")]
    Unknown {
        /// 4xx.
        status: u16,
        /// The server's code.
        code: String,
        /// Its words: foreign text, capped, printable.
        detail: String,
    },
    /// The file for revocations that wait cannot be written: it was not queued.
    #[error("the revocation could not be written down: {0}")]
    QueueNotWritten(String),
    /// Somebody wanted to take it back, and it was carried out meanwhile.
    #[error("this revocation does not wait any more: the server was asked for it meanwhile")]
    NoLongerWaits,
    /// More revocations wait than anybody has keys to revoke in a hurry.
    #[error("{0} revocations wait already")]
    QueueFull(usize),
    /// No keys to move, or too many for one go.
    #[error("between 1 and {most} keys are moved at once, not {0}", most = super::promotion::MOST)]
    NotSoMany(usize),
}

/// Codes of the registry that come over the wire as they are.
const KNOWN: &[&str] = &[
    "canary_with_scopes",
    "changed_meanwhile",
    "cron_never_fires",
    "fixed_at_issue",
    "idempotency_key_reused",
    "invalid_canary",
    "invalid_character",
    "invalid_client_secret",
    "invalid_credits",
    "invalid_cron",
    "invalid_cursor",
    "invalid_environment",
    "invalid_interval",
    "invalid_jitter",
    "invalid_limit",
    "invalid_max_age",
    "invalid_metadata",
    "invalid_mode",
    "invalid_name",
    "invalid_network",
    "invalid_note",
    "invalid_origin",
    "invalid_owner",
    "invalid_prefix",
    "invalid_requirement",
    "invalid_schedule",
    "invalid_scope",
    "invalid_tag",
    "invalid_window",
    "key_not_found",
    "key_promoted",
    "key_revoked",
    "never_valid",
    "no_rotation",
    "nobody_delivers",
    "not_drained",
    "out_of_bounds",
    "owner_not_found",
    "policy_violation",
    "prefix_reserved",
    "reason_required",
    "reason_too_long",
    "rotation_already_done",
    "rotation_in_progress",
    "rotation_not_found",
    "schedule_not_found",
    "scope_exceeds_creator",
    "scope_not_publishable",
    "scope_required",
    "too_late_to_roll_back",
    "unknown_kid",
    "unknown_scope",
    "unknown_time_zone",
];

impl RemoteError {
    /// Of a request that brought no answer. `repeatable`: doing it twice does no harm.
    pub(super) fn of_way(error: HttpError, repeatable: bool) -> Self {
        match error {
            HttpError::InsecureEndpoint(host) => Self::InsecureEndpoint {
                host,
                detail: "it does not use https",
            },
            HttpError::Network {
                host,
                certificate: true,
                ..
            } => Self::InsecureEndpoint {
                host,
                detail: "its certificate is not trusted on this computer",
            },
            HttpError::Network {
                host, sent: true, ..
            } if !repeatable => Self::OutcomeUnknown(host),
            HttpError::Network { host, detail, .. } => Self::Offline { host, detail },
            HttpError::UnexpectedRedirect { host, .. } | HttpError::ResponseTooLarge(host) => {
                Self::NotKeywright(host)
            }
            other @ (HttpError::ExtraCa { .. } | HttpError::Setup(_)) => Self::Offline {
                host: "this server".to_owned(),
                detail: other.to_string().trim_end_matches('.').to_owned(),
            },
        }
    }

    /// Of a problem (RFC 9457) with a code; none for a document without one.
    pub(super) fn of_problem(status: u16, problem: &Value) -> Option<Self> {
        let text = |name: &str| problem.get(name).and_then(Value::as_str);
        let code = text("code")?;
        let detail = tame(text("detail").unwrap_or("no reason given"), 300);
        if status == 403 && matches!(code, "insufficient_scope" | "person_required") {
            return Some(Self::NotAllowed(detail));
        }
        Some(match KNOWN.iter().find(|known| **known == code) {
            Some(code) => Self::Refused {
                status,
                code,
                detail,
            },
            None => Self::Unknown {
                status,
                code: tame(code, 60),
                detail,
            },
        })
    }

    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::InsecureEndpoint { .. } => "insecure_endpoint",
            Self::Offline { .. } | Self::Faulty { .. } => "registry_offline",
            Self::OutcomeUnknown(_) => "commit_unknown",
            Self::Busy { .. } => "rate_limited",
            Self::NotKeywright(_) | Self::NoSuchRoute(_) => "not_keywright_server",
            Self::NotAllowed(_) => "insufficient_scope",
            Self::Refused { code, .. } => code,
            Self::Unknown { .. } => "server_refused",
            Self::QueueNotWritten(_) => "revocation_not_queued",
            Self::NoLongerWaits => "revocation_not_waiting",
            Self::QueueFull(_) => "revocation_queue_full",
            Self::NotSoMany(_) => "invalid_selection",
        }
    }

    /// What a person can do.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self.code() {
            "insecure_endpoint" => {
                "Use the server's https address. If your organisation has its own certificate authority, add its PEM file under Settings, Extra certificates."
            }
            "registry_offline" => {
                "What you see may be old. Keys can be revoked meanwhile: that takes effect once the server answers. Everything else waits for it."
            }
            "commit_unknown" => "Reload the list to see whether it was done.",
            "rate_limited" => "Wait a moment, then try again.",
            "not_keywright_server" => {
                "Check the server's address and any proxy in between. An older server needs this version, and a newer one may need a newer app."
            }
            "insufficient_scope" => {
                "Ask an administrator of the server for a role that allows it. If you have one, sign in again and allow the access to keys."
            }
            "changed_meanwhile" => "Look at it as it is now, and change it again.",
            "revocation_not_waiting" => "Look at the key: it may be revoked now.",
            "key_not_found" | "invalid_cursor" => "Reload the list: it has changed since.",
            "rotation_already_done" => {
                "Its secret is not stored and cannot be shown again. Rotate once more to get another."
            }
            _ => return None,
        })
    }

    /// Whether the same call may work later.
    #[must_use]
    pub fn retryable(&self) -> bool {
        matches!(
            self,
            Self::Offline { .. }
                | Self::Faulty { .. }
                | Self::Busy { .. }
                | Self::NotKeywright(_)
                | Self::NoSuchRoute(_)
                | Self::QueueNotWritten(_)
        )
    }
}

/// Whether the server could not be asked: then what was known is shown, and a revocation waits.
pub(crate) fn is_offline(error: &AppError) -> bool {
    matches!(
        error,
        AppError::Remote(RemoteError::Offline { .. } | RemoteError::Faulty { .. })
    )
}

/// Whether the server itself says that there is no such thing (RFC 9110 §15.5.5, §15.5.11).
pub(super) fn is_gone(error: &AppError) -> bool {
    matches!(
        error,
        AppError::Remote(
            RemoteError::Refused {
                status: 404 | 410,
                ..
            } | RemoteError::Unknown {
                status: 404 | 410,
                ..
            }
        )
    )
}

/// Whether what was said before is not to be shown any more: it is gone, or not this person's to see now.
pub(super) fn takes_back(error: &AppError) -> bool {
    is_gone(error)
        || matches!(
            error,
            AppError::Remote(
                RemoteError::NotAllowed(_)
                    | RemoteError::Refused { status: 403, .. }
                    | RemoteError::Unknown { status: 403, .. }
            )
        )
}

/// Whether nobody there knows such a request: an older server.
pub(super) fn is_older(error: &AppError) -> bool {
    is_gone(error) || matches!(error, AppError::Remote(RemoteError::NoSuchRoute(_)))
}

/// A sign-in that could not be renewed because its server did not answer is the server being away.
pub(super) fn of_credentials(error: AppError) -> AppError {
    match error {
        AppError::SignIn(SignInError::Http(error)) => RemoteError::of_way(error, true).into(),
        AppError::SignIn(
            error @ (SignInError::NetworkError | SignInError::ProviderUnavailable(_)),
        ) => RemoteError::Offline {
            host: "the server".to_owned(),
            detail: error.to_string().trim_end_matches('.').to_owned(),
        }
        .into(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn network(certificate: bool, sent: bool) -> HttpError {
        HttpError::Network {
            host: "https://kw.example".into(),
            detail: "no connection".into(),
            certificate,
            sent,
        }
    }

    #[test]
    fn ac_156_a_bad_certificate_and_plain_http_are_insecure() {
        let plain = HttpError::InsecureEndpoint("http://kw.example".into());
        for error in [network(true, false), plain] {
            let error = RemoteError::of_way(error, true);
            assert_eq!(error.code(), "insecure_endpoint");
            assert!(!is_offline(&error.into()), "nothing is shown from memory");
        }
    }

    #[test]
    fn ac_152_only_what_was_surely_not_done_is_offline() {
        let code = |sent, repeatable| RemoteError::of_way(network(false, sent), repeatable).code();
        assert_eq!(code(false, false), "registry_offline");
        assert_eq!(code(true, true), "registry_offline");
        assert_eq!(code(true, false), "commit_unknown");
    }

    #[test]
    fn refusals_keep_the_registrys_codes_and_foreign_ones_are_named() {
        let of = |status, code: &str| {
            let problem = json!({ "code": code, "detail": "because\u{202e} of\n this" });
            RemoteError::of_problem(status, &problem)
        };
        let known = of(409, "key_revoked").expect("a refusal");
        assert_eq!(
            (known.code(), known.to_string().as_str()),
            ("key_revoked", "because of this")
        );
        let other = of(418, "teapot").expect("a refusal");
        assert_eq!(other.code(), "server_refused");
        assert!(other.to_string().contains("teapot"));
        assert_eq!(
            of(403, "insufficient_scope").expect("a refusal").code(),
            "insufficient_scope"
        );
        assert_eq!(
            RemoteError::of_problem(400, &json!({ "detail": "x" })),
            None
        );
    }
}
