//! The relying party: the server asks somebody else who a person is (OpenID Connect, OAuth 2.0).

use super::{Flow, FlowFailure, FlowStep, Lane};

pub(super) const FLOW: Flow = Flow {
    id: "relying-party",
    title: "Signing in with another provider",
    summary: "A person signs in to the Keywright server with GitHub, Google or any OpenID provider.",
    learn: &[
        "how one browser is bound to one sign-in",
        "why a state can be used once only",
        "when two identities become one person",
    ],
    lanes: &[Lane::Browser, Lane::Server, Lane::ExternalIdp],
    steps: &[
        FlowStep {
            n: 1,
            from: Lane::Browser,
            to: Lane::Server,
            title: "The browser asks for a provider",
            detail: "`GET /rp/authorize` with `idp=github` and `redirect_uri=/dashboard`. The provider must be configured. `redirect_uri` must be a \
                     path of this server; anything that leads elsewhere is written down and replaced by the person’s own page.",
        },
        FlowStep {
            n: 2,
            from: Lane::Server,
            to: Lane::Server,
            title: "The server makes a state",
            detail: "32 random bytes. Their digest goes to the database with the target, the nonce and the sealed verifier, for 10 minutes. \
                     A second secret, a cookie that is `HttpOnly`, binds this browser to it.",
        },
        FlowStep {
            n: 3,
            from: Lane::Server,
            to: Lane::ExternalIdp,
            title: "The browser is sent to the provider",
            detail: "A redirect with `client_id`, `redirect_uri` and `state`, and more than was asked for: PKCE with `code_challenge_method=S256`, and \
                     `nonce` for OpenID providers. Each provider has a `redirect_uri` of its own, so that one cannot answer for another.",
        },
        FlowStep {
            n: 4,
            from: Lane::Browser,
            to: Lane::ExternalIdp,
            title: "The person signs in there",
            detail: "On the provider’s own pages. Neither password nor second factor come near this server.",
        },
        FlowStep {
            n: 5,
            from: Lane::ExternalIdp,
            to: Lane::Server,
            title: "The provider sends the browser back",
            detail: "`GET /rp/callback/github` with `code` and `state`.",
        },
        FlowStep {
            n: 6,
            from: Lane::Server,
            to: Lane::Server,
            title: "The server checks and uses up the state",
            detail: "Against both: the cookie of this browser and the row of the database, by one atomic `DELETE … RETURNING`. A replay finds nothing, \
                     and so does another browser.",
        },
        FlowStep {
            n: 7,
            from: Lane::Server,
            to: Lane::ExternalIdp,
            title: "The server exchanges the code",
            detail: "A POST to the provider’s token endpoint with `code` and `code_verifier`, within 5 seconds, without following redirects, and never to \
                     an address of an inner network.",
        },
        FlowStep {
            n: 8,
            from: Lane::Server,
            to: Lane::ExternalIdp,
            title: "The server reads who it is",
            detail: "GitHub’s user API (`/user`) with the access token; of OpenID providers the ID token, whose signature, `iss`, `aud` and `nonce` are \
                     checked, and userinfo. The provider’s token is not kept.",
        },
        FlowStep {
            n: 9,
            from: Lane::Server,
            to: Lane::Server,
            title: "The server finds or makes the person, and a session",
            detail: "By issuer and subject. By e-mail only where the provider verified it and you trust its word. The session gets a new id at each \
                     sign-in, so that nobody can have planted one.",
        },
        FlowStep {
            n: 10,
            from: Lane::Server,
            to: Lane::Browser,
            title: "The server sets the cookie and leads on",
            detail: "The session cookie is `HttpOnly`, `Secure` and `SameSite=Lax`; its name begins with `__Host-` over https. Then a redirect to the \
                     target of step 1.",
        },
    ],
    failures: &[
        FlowFailure {
            step: 1,
            code: "provider_not_found",
            title: "This provider is not configured",
            detail: "An error page; nobody is sent anywhere.",
        },
        FlowFailure {
            step: 4,
            code: "idp_access_denied",
            title: "The person declined there",
            detail: "Nothing was kept here. They may try again, or sign in another way.",
        },
        FlowFailure {
            step: 6,
            code: "state_unknown",
            title: "The state is unknown, used up, or too old",
            detail: "No token request was sent. The person starts again.",
        },
        FlowFailure {
            step: 6,
            code: "state_mismatch",
            title: "The state is another browser’s",
            detail: "Somebody was sent an answer that is not theirs. It is refused, and that browser’s own sign-in goes on.",
        },
        FlowFailure {
            step: 9,
            code: "sign_up_closed",
            title: "Nobody here knows this person",
            detail: "Unless the server lets a provider’s people in by themselves, they need an invitation.",
        },
    ],
    note: "The server is the app here: what the authorization code flow is between an app and this server happens once more between this server and \
           the provider.",
    practices: &[
        "Register `URL/rp/callback/ID` at the provider, for each provider its own.",
        "Trust a provider’s word on e-mail addresses only if it verifies them.",
        "Give people a second way in before they need it.",
        "Ask the provider for as little as you need: who it is.",
    ],
    see_also: &["authorization-code", "token-life"],
    resources: &[
        (
            "OpenID Connect Core 1.0",
            "https://openid.net/specs/openid-connect-core-1_0.html",
        ),
        (
            "RFC 9700, OAuth 2.0 security",
            "https://www.rfc-editor.org/rfc/rfc9700",
        ),
        (
            "RFC 6265, cookies",
            "https://www.rfc-editor.org/rfc/rfc6265",
        ),
    ],
};
