//! The life of an access token, from the sign-in to the last request.

use super::{Flow, FlowFailure, FlowStep, Lane};

pub(super) const FLOW: Flow = Flow {
    id: "token-life",
    title: "The life of an access token",
    summary: "Where a token comes from, where it is kept, and how a service knows that it is good without asking anybody.",
    learn: &[
        "what a signature proves, and what it cannot know",
        "which parts a JWT has",
        "how early an access token can end",
    ],
    lanes: &[Lane::App, Lane::Server, Lane::Api],
    steps: &[
        FlowStep {
            n: 1,
            from: Lane::App,
            to: Lane::Server,
            title: "The person signs in",
            detail: "By the authorization code flow, which ends at `POST /oauth2/token`.",
        },
        FlowStep {
            n: 2,
            from: Lane::Server,
            to: Lane::Server,
            title: "The server checks everything",
            detail: "Who asks, for which person, which scopes they hold now. A role taken away shrinks the next token.",
        },
        FlowStep {
            n: 3,
            from: Lane::Server,
            to: Lane::App,
            title: "The server issues a signed token",
            detail: "Three parts of base64url with dots between: header (`alg`, `kid`, `typ: at+jwt`), claims (`iss`, `sub`, `aud`, `exp`, `scope`, `jti`), \
                     signature. The server keeps no copy of it.",
        },
        FlowStep {
            n: 4,
            from: Lane::App,
            to: Lane::App,
            title: "The app keeps it in memory",
            detail: "Never in an address, a log, a file, or the web view. Only the refresh token rests in the keychain.",
        },
        FlowStep {
            n: 5,
            from: Lane::App,
            to: Lane::Api,
            title: "It goes with each request",
            detail: "`Authorization: Bearer`. The service verifies it by itself, with the keys of `GET /oauth2/jwks.json`: signature, `iss`, `aud`, `exp`, `typ`, \
                     scope. If one bit changes, the token is refused.",
        },
    ],
    failures: &[
        FlowFailure {
            step: 5,
            code: "invalid_token",
            title: "Expired, changed, or for somebody else",
            detail: "401 with `WWW-Authenticate`. The app refreshes once and tries again.",
        },
        FlowFailure {
            step: 5,
            code: "insufficient_scope",
            title: "Good, and not for this",
            detail: "403. Another token of the same person would not help.",
        },
    ],
    note: "A service that verifies offline learns of a revocation when the token expires. This server’s own API and `POST /oauth2/introspect` \
           refuse it at once.",
    practices: &[
        "Accept the algorithms you expect; never the one that the token names.",
        "Check `aud`: a token for another service is not for you.",
        "Do not read access tokens in the app. They are for the service.",
        "Keep lives short, and ask the server where a revocation must count at once.",
    ],
    see_also: &["refresh-token", "revocation"],
    resources: &[
        (
            "RFC 7519, JSON Web Token",
            "https://www.rfc-editor.org/rfc/rfc7519",
        ),
        (
            "RFC 9068, JWT access tokens",
            "https://www.rfc-editor.org/rfc/rfc9068",
        ),
        (
            "RFC 8725, JWT best practices",
            "https://www.rfc-editor.org/rfc/rfc8725",
        ),
    ],
};
