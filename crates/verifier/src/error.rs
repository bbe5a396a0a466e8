//! What can be wrong. Nothing here ever holds a token or a part of one.

use thiserror::Error;

/// The verifier cannot be made of this.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SetupError {
    /// Not `https://host[:port][/path]`, or plain http to another machine.
    #[error("the issuer must be an https address without query or fragment (http on this machine)")]
    Issuer,
    /// Without an audience every token of the issuer would be good here.
    #[error("the audience must not be empty")]
    Audience,
    /// What this service shows for itself is empty, or no header's text.
    #[error("the credential must be a root key or an access token")]
    Credential,
    /// No TLS, or no trust store.
    #[error("secure connections cannot be set up: {0}")]
    Connections(String),
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    /// No signed token at all.
    #[error("the token is malformed")]
    Malformed,
    /// A signed token of another kind, such as an ID token.
    #[error("the token is no access token")]
    WrongUse,
    /// An algorithm that is not the key's, or none.
    #[error("the token is signed in a way that is not allowed")]
    AlgorithmNotAllowed,
    /// The issuer has no such key.
    #[error("the token is signed by an unknown key")]
    UnknownKey,
    /// The signature is not the key's.
    #[error("the signature is wrong")]
    InvalidSignature,
    /// Another issuer.
    #[error("the token is of another issuer")]
    IssuerMismatch,
    /// For another service.
    #[error("the token is for another service")]
    WrongAudience,
    /// A claim that every access token has.
    #[error("a claim is missing")]
    ClaimMissing,
    /// Past its end.
    #[error("the token has ended")]
    Expired,
    /// Before its beginning.
    #[error("the token is not good yet")]
    NotYetValid,
    /// The issuer says that it is not active: revoked, ended, or never its own.
    #[error("the token was revoked or has ended")]
    Revoked,
    /// Bound to a key (RFC 9449), and so not good as a bearer token.
    #[error("the token is bound to a key and no bearer token")]
    Bound,
    /// The issuer cannot be asked now. Nobody is let through.
    #[error("the issuer cannot be asked now")]
    Unavailable,
}

impl TokenError {
    /// Stable code, the same that a Keywright server uses.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed => "token_malformed",
            Self::WrongUse => "wrong_token_use",
            Self::AlgorithmNotAllowed => "alg_not_allowed",
            Self::UnknownKey => "unknown_key",
            Self::InvalidSignature => "invalid_signature",
            Self::IssuerMismatch => "issuer_mismatch",
            Self::WrongAudience => "wrong_audience",
            Self::ClaimMissing => "claim_missing",
            Self::Expired => "token_expired",
            Self::NotYetValid => "token_not_yet_valid",
            Self::Revoked => "token_revoked",
            Self::Bound => "token_bound",
            Self::Unavailable => "issuer_unavailable",
        }
    }
}
