//! Revocation (RFC 7009): an app gives back what it was given.

use super::{Flow, FlowFailure, FlowStep, Lane};

pub(super) const FLOW: Flow = Flow {
    id: "revocation",
    title: "Signing out and revoking",
    summary: "An app signs out: its tokens end at the server, not only on the device.",
    learn: &[
        "what ends with a refresh token",
        "who hears of it soon, and who when the token expires",
        "what stays: the session of the browser",
    ],
    lanes: &[Lane::App, Lane::Server, Lane::Api],
    steps: &[
        FlowStep {
            n: 1,
            from: Lane::App,
            to: Lane::App,
            title: "The person signs out",
            detail: "The app takes the refresh token from the keychain. If the server cannot be reached, the local part happens all the same, and \
                     the person is told.",
        },
        FlowStep {
            n: 2,
            from: Lane::App,
            to: Lane::Server,
            title: "The app gives the token back",
            detail: "`POST /oauth2/revoke` with `token`, `token_type_hint=refresh_token` and `client_id`.",
        },
        FlowStep {
            n: 3,
            from: Lane::Server,
            to: Lane::Server,
            title: "The server ends the whole grant",
            detail: "The client proves who it is first. Then the family of the refresh token ends, with its access tokens, and the audit \
                     trail says so. A token that is unknown is answered with 200 as well: nothing can be tried out here.",
        },
        FlowStep {
            n: 4,
            from: Lane::Server,
            to: Lane::Api,
            title: "Who asks learns it",
            detail: "This server’s API and `POST /oauth2/introspect` refuse the access tokens from now on: this node at once, the others \
                     within a second, three at most. A service that verifies offline takes them until they expire.",
        },
        FlowStep {
            n: 5,
            from: Lane::App,
            to: Lane::App,
            title: "The app forgets",
            detail: "The keychain entry is deleted, the access token is wiped from memory. The browser’s session is another thing: \
                     `GET /oauth2/end_session` ends that.",
        },
    ],
    failures: &[
        FlowFailure {
            step: 2,
            code: "revocation_failed",
            title: "The server could not be told",
            detail: "The device forgets everything; the sign-in can be ended at `/account` of the server.",
        },
        FlowFailure {
            step: 3,
            code: "invalid_client",
            title: "The client is not who it says",
            detail: "Nothing ends. 401.",
        },
    ],
    note: "Deleting a token is not revoking it: a copy goes on working.",
    practices: &[
        "Revoke the refresh token; it takes the access tokens with it.",
        "Never let a sign-out fail because the network does.",
        "Show people what has access, and let them end it: `/account` does.",
    ],
    see_also: &["refresh-token", "token-life", "authorization-code"],
    resources: &[
        (
            "RFC 7009, token revocation",
            "https://www.rfc-editor.org/rfc/rfc7009",
        ),
        (
            "RFC 7662, token introspection",
            "https://www.rfc-editor.org/rfc/rfc7662",
        ),
        (
            "OpenID Connect RP-Initiated Logout 1.0",
            "https://openid.net/specs/openid-connect-rpinitiated-1_0.html",
        ),
    ],
};
