//! Authorization code with PKCE (RFC 6749 §4.1, RFC 7636): how an app signs a person in.

use super::{Flow, FlowFailure, FlowStep, Lane};

/// The numbers of the steps, for who records what happened.
pub mod step {
    /// Somebody presses “Sign in”.
    pub const LOGIN: u8 = 1;
    /// Verifier and challenge are made.
    pub const PKCE: u8 = 2;
    /// The browser is sent to the authorization endpoint.
    pub const AUTHORIZE: u8 = 3;
    /// The person signs in and agrees there.
    pub const PERSON: u8 = 4;
    /// The browser comes back with the answer.
    pub const ANSWER: u8 = 5;
    /// Code and verifier are sent to the token endpoint.
    pub const EXCHANGE: u8 = 6;
    /// The tokens come and are checked.
    pub const TOKENS: u8 = 7;
    /// Who it was is read and kept.
    pub const USERINFO: u8 = 8;
}

pub(super) const FLOW: Flow = Flow {
    id: "authorization-code",
    title: "Authorization code with PKCE",
    summary: "A person signs in to an app with their browser. The app never sees the password.",
    learn: &[
        "what travels by the browser, and what goes to the server directly",
        "why a stolen code is worth nothing without its verifier",
        "what `state`, `nonce` and `iss` protect",
    ],
    lanes: &[Lane::Browser, Lane::App, Lane::Server],
    steps: &[
        FlowStep {
            n: step::LOGIN,
            from: Lane::Browser,
            to: Lane::App,
            title: "The person presses Login",
            detail: "Nothing is asked of the person here: the app has no field for a password. A desktop app binds a port of \
                     this machine first, `http://127.0.0.1:PORT/callback`, so that the answer has somewhere to arrive.",
        },
        FlowStep {
            n: step::PKCE,
            from: Lane::App,
            to: Lane::App,
            title: "The app makes verifier and challenge",
            detail: "`code_verifier` is 256 bits from the system’s generator, fresh for each attempt. `code_challenge` is the \
                     base64url of its SHA-256. The verifier stays in memory; the challenge may be seen.",
        },
        FlowStep {
            n: step::AUTHORIZE,
            from: Lane::Browser,
            to: Lane::Server,
            title: "The browser is sent to the server",
            detail: "`GET /oauth2/authorize` with `client_id`, `redirect_uri`, `response_type=code`, `code_challenge`, \
                     `code_challenge_method=S256`, `scope=openid+profile+email`, `state` and `nonce`. `redirect_uri` must be \
                     registered, byte for byte; of a loopback address only the port may differ. `plain` is refused.",
        },
        FlowStep {
            n: step::PERSON,
            from: Lane::Server,
            to: Lane::Browser,
            title: "The server shows its sign-in page",
            detail: "The person proves who they are: by password, passkey, or an identity provider (the relying party flow \
                     runs here, and comes back to this request). Then they see which application asks for what, and allow or deny it.",
        },
        FlowStep {
            n: step::ANSWER,
            from: Lane::Server,
            to: Lane::App,
            title: "The server redirects back with a code",
            detail: "To `redirect_uri` with `code`, the same `state`, and `iss`. The code is good for a minute and once. The app looks at \
                     `state` first: an answer without the right one is ignored, and the sign-in goes on waiting.",
        },
        FlowStep {
            n: step::EXCHANGE,
            from: Lane::App,
            to: Lane::Server,
            title: "The app exchanges the code",
            detail: "`POST /oauth2/token` with `grant_type=authorization_code`, `code`, `redirect_uri`, `client_id` and \
                     `code_verifier`. The server hashes the verifier and compares it with the challenge of step 3.",
        },
        FlowStep {
            n: step::TOKENS,
            from: Lane::Server,
            to: Lane::App,
            title: "The server answers with tokens",
            detail: "`access_token` and `id_token` are JWTs signed with RS256 (the keys: `GET /oauth2/jwks.json`). `refresh_token` is a \
                     random text that means nothing outside the server; it comes where `offline_access` was granted. The app checks the ID \
                     token: signature, `iss`, `aud`, `exp`, `nonce`, `at_hash`.",
        },
        FlowStep {
            n: step::USERINFO,
            from: Lane::App,
            to: Lane::Server,
            title: "The app asks who it is (optional)",
            detail: "`GET /oauth2/userinfo` with `Authorization: Bearer` and the access token. Its `sub` must be the ID token’s. \
                     Then the refresh token goes to the keychain and the account is there.",
        },
    ],
    failures: &[
        FlowFailure {
            step: step::AUTHORIZE,
            code: "browser_open_failed",
            title: "No browser could be opened",
            detail: "The sign-in waits on: the link can be copied, and the answer pasted.",
        },
        FlowFailure {
            step: step::AUTHORIZE,
            code: "discovery_failed",
            title: "The issuer does not describe itself",
            detail: "Without its endpoints there is nowhere to send the browser.",
        },
        FlowFailure {
            step: step::PERSON,
            code: "access_denied",
            title: "The person declined",
            detail: "The answer carries `error=access_denied` with the right `state`, and ends the sign-in at once. Nothing was stored.",
        },
        FlowFailure {
            step: step::PERSON,
            code: "login_timeout",
            title: "Nobody answered in time",
            detail: "The port is closed. A later answer finds nobody.",
        },
        FlowFailure {
            step: step::PERSON,
            code: "login_cancelled",
            title: "The sign-in was cancelled",
            detail: "Here, or by a newer one for the same account.",
        },
        FlowFailure {
            step: step::ANSWER,
            code: "state_mismatch",
            title: "An answer with another state",
            detail: "It was ignored: no token request was sent, and the sign-in went on waiting for its own answer.",
        },
        FlowFailure {
            step: step::ANSWER,
            code: "issuer_mismatch",
            title: "The answer came from another provider",
            detail: "`iss` is not the issuer that was asked (RFC 9207). The code was not used.",
        },
        FlowFailure {
            step: step::EXCHANGE,
            code: "invalid_grant",
            title: "Code and verifier do not belong together",
            detail: "Or the code was used or is too old. The server has burned it: the right verifier would be refused now as well.",
        },
        FlowFailure {
            step: step::TOKENS,
            code: "invalid_signature",
            title: "The ID token is not the issuer’s",
            detail: "Nothing was kept, and the refresh token was given back.",
        },
        FlowFailure {
            step: step::USERINFO,
            code: "subject_mismatch",
            title: "The profile is somebody else’s",
            detail: "Nothing was kept, and the refresh token was given back.",
        },
    ],
    note: "The browser carries only what may be seen: a challenge, a state, a code. Everything that is worth stealing goes between app and \
           server directly.",
    practices: &[
        "Use the system’s browser, never a view inside the app: there a person cannot tell whose page it is.",
        "Make verifier, `state` and `nonce` anew for each attempt.",
        "Compare `state` before you look at anything else, and go on waiting if it is another one.",
        "Register each `redirect_uri` exactly. No patterns.",
        "Keep access tokens in memory and refresh tokens in the system’s keychain.",
    ],
    see_also: &["refresh-token", "relying-party", "revocation"],
    resources: &[
        (
            "RFC 6749, OAuth 2.0",
            "https://www.rfc-editor.org/rfc/rfc6749",
        ),
        ("RFC 7636, PKCE", "https://www.rfc-editor.org/rfc/rfc7636"),
        (
            "RFC 8252, OAuth 2.0 for native apps",
            "https://www.rfc-editor.org/rfc/rfc8252",
        ),
        (
            "OpenID Connect Core 1.0",
            "https://openid.net/specs/openid-connect-core-1_0.html",
        ),
    ],
};
