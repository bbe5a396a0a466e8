//! The device grant (RFC 8628): signing in where there is no browser.

use super::{Flow, FlowFailure, FlowStep, Lane};

pub(super) const FLOW: Flow = Flow {
    id: "device",
    title: "Device code",
    summary: "A television, a terminal or a machine far away is let in from a browser somewhere else.",
    learn: &[
        "which code is for the person and which for the device",
        "how often a device may ask",
        "what a person should look at before they allow it",
    ],
    lanes: &[Lane::Device, Lane::Server, Lane::Browser],
    steps: &[
        FlowStep {
            n: 1,
            from: Lane::Device,
            to: Lane::Server,
            title: "The device asks for codes",
            detail: "`POST /oauth2/device_authorization` with `client_id` and `scope`.",
        },
        FlowStep {
            n: 2,
            from: Lane::Server,
            to: Lane::Device,
            title: "The server answers with two",
            detail: "`device_code`, which the device keeps to itself, and a short `user_code` for the person; with `verification_uri`, \
                     `expires_in` (10 minutes) and `interval` (5 seconds).",
        },
        FlowStep {
            n: 3,
            from: Lane::Device,
            to: Lane::Device,
            title: "The device shows the code and the address",
            detail: "As text, always. A picture with `verification_uri_complete` is a help, not the only way.",
        },
        FlowStep {
            n: 4,
            from: Lane::Browser,
            to: Lane::Server,
            title: "The person types the code and decides",
            detail: "`GET /device` in any browser. They sign in, see which application asks, from where, for what, and allow or deny it. Five wrong \
                     codes, and none is looked up for ten minutes.",
        },
        FlowStep {
            n: 5,
            from: Lane::Device,
            to: Lane::Server,
            title: "Meanwhile the device asks again and again",
            detail: "`POST /oauth2/token` with `grant_type=urn:ietf:params:oauth:grant-type:device_code`, `device_code` and `client_id`. While nobody has \
                     decided the answer is `authorization_pending`; whoever asks too often is told `slow_down` and waits longer.",
        },
        FlowStep {
            n: 6,
            from: Lane::Server,
            to: Lane::Device,
            title: "The server answers with tokens",
            detail: "Once. A `refresh_token` comes only where `offline_access` was granted.",
        },
    ],
    failures: &[
        FlowFailure {
            step: 5,
            code: "slow_down",
            title: "Asked too often",
            detail: "The interval grows by 5 seconds.",
        },
        FlowFailure {
            step: 5,
            code: "access_denied",
            title: "The person said no",
            detail: "The device stops asking.",
        },
        FlowFailure {
            step: 5,
            code: "expired_token",
            title: "Nobody answered in time",
            detail: "The device begins anew, with new codes.",
        },
    ],
    note: "Whoever sends somebody a code can make them let in a device that is not theirs. Let people see where the request came from, and use \
           this flow only where there is no browser.",
    practices: &[
        "Prefer the authorization code flow where a browser can be opened.",
        "Keep to the interval, and back off when the network fails.",
        "Stop at any answer but `authorization_pending` and `slow_down`.",
    ],
    see_also: &["authorization-code", "refresh-token"],
    resources: &[(
        "RFC 8628, device authorization grant",
        "https://www.rfc-editor.org/rfc/rfc8628",
    )],
};
