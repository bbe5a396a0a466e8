//! The refresh token (RFC 6749 §6, RFC 9700 §4.14): staying signed in without asking anybody.

use super::{Flow, FlowFailure, FlowStep, Lane};

/// The numbers of the steps, for who records what happened.
pub mod step {
    /// The access token comes to its end.
    pub const DUE: u8 = 1;
    /// The refresh token is sent.
    pub const SEND: u8 = 2;
    /// The server looks at it and rotates it.
    pub const ROTATE: u8 = 3;
    /// The new tokens come and take the old ones’ place.
    pub const REPLACE: u8 = 4;
}

pub(super) const FLOW: Flow = Flow {
    id: "refresh-token",
    title: "Refresh token",
    summary: "An app stays signed in: it gets new access tokens without asking the person again.",
    learn: &[
        "why access tokens are short and refresh tokens rotate",
        "how a stolen refresh token gives itself away",
        "in which order a client stores and uses what it gets",
    ],
    lanes: &[Lane::App, Lane::Server],
    steps: &[
        FlowStep {
            n: step::DUE,
            from: Lane::App,
            to: Lane::App,
            title: "The access token comes to its end",
            detail: "It lives for 15 minutes unless the server is told otherwise (`tokens.access_s`, at most an hour). The app renews it in the \
                     background at four fifths of its life, or a minute before its end.",
        },
        FlowStep {
            n: step::SEND,
            from: Lane::App,
            to: Lane::Server,
            title: "The app sends the refresh token",
            detail: "`POST /oauth2/token` with `grant_type=refresh_token`, `refresh_token` and `client_id`. One process and one window at a time: they \
                     hold a lock, and read the keychain after they got it.",
        },
        FlowStep {
            n: step::ROTATE,
            from: Lane::Server,
            to: Lane::Server,
            title: "The server checks and rotates it",
            detail: "It looks for the token’s digest: known, this client’s, not expired, its family alive. Then one atomic compare-and-set: the old one is \
                     used up, a new one is issued. The one before gets the same successor for 10 seconds, in case the answer was lost.",
        },
        FlowStep {
            n: step::REPLACE,
            from: Lane::Server,
            to: Lane::App,
            title: "The app gets both new and replaces the old",
            detail: "A new `access_token` and a new `refresh_token`. The app writes the refresh token to the keychain before anybody gets the \
                     access token: a crash in between loses nothing.",
        },
    ],
    failures: &[
        FlowFailure {
            step: step::SEND,
            code: "network_error",
            title: "The server could not be reached",
            detail: "Nothing is deleted. The app tries again, with longer pauses each time.",
        },
        FlowFailure {
            step: step::ROTATE,
            code: "invalid_grant",
            title: "The refresh token was refused",
            detail: "It was used twice, revoked, or is too old. One that comes again after its grace was copied: the server revokes the whole family, \
                     with the access tokens, and writes `grant.refresh_reuse` into the audit trail. The app deletes its entry and asks for a sign-in.",
        },
        FlowFailure {
            step: step::REPLACE,
            code: "subject_mismatch",
            title: "The new ID token is somebody else’s",
            detail: "The access token is not handed out.",
        },
    ],
    note: "Rotation is an alarm: of two parties with the same refresh token one comes second, and then neither goes on.",
    practices: &[
        "Store the new refresh token first, then use the access token.",
        "Refresh once at a time, over all processes that share the token.",
        "Delete a refresh token for `invalid_grant` only; every other failure may pass.",
        "Ask for `offline_access` only where you need it.",
    ],
    see_also: &["authorization-code", "revocation", "token-life"],
    resources: &[
        (
            "RFC 6749 §6, refreshing an access token",
            "https://www.rfc-editor.org/rfc/rfc6749#section-6",
        ),
        (
            "RFC 9700 §4.14, refresh token protection",
            "https://www.rfc-editor.org/rfc/rfc9700#section-4.14",
        ),
    ],
};
