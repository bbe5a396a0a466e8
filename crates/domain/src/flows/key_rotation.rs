//! Rotation of an API key: another secret, and an end for the first, without a moment in which nothing works.

use super::{Flow, FlowFailure, FlowStep, Lane};

pub(super) const FLOW: Flow = Flow {
    id: "key-rotation",
    title: "Key rotation",
    summary: "An API key gets a new secret while its programs go on working.",
    learn: &[
        "which states a secret goes through",
        "when the old secret ends, and who decides that",
        "what to do when a secret has leaked",
    ],
    lanes: &[Lane::Operator, Lane::Server, Lane::Program],
    steps: &[
        FlowStep {
            n: 1,
            from: Lane::Operator,
            to: Lane::Server,
            title: "A new secret is asked for",
            detail: "`POST /api/v1/keys/{id}/rotations` with `Idempotency-Key`: the same request again is the same rotation.",
        },
        FlowStep {
            n: 2,
            from: Lane::Server,
            to: Lane::Server,
            title: "The server makes it, pending",
            detail: "The key keeps its id, name, scopes and limits. What is stored of the secret is an HMAC under a pepper; the secret itself is \
                     stored nowhere. The old one goes on working.",
        },
        FlowStep {
            n: 3,
            from: Lane::Server,
            to: Lane::Operator,
            title: "The secret is shown once",
            detail: "If the answer gets lost, `POST /api/v1/keys/{id}/rotations/{rotation_id}/reissue` makes the pending secret anew.",
        },
        FlowStep {
            n: 4,
            from: Lane::Operator,
            to: Lane::Program,
            title: "It is delivered",
            detail: "To a keychain entry, an `.env` file, a file or a program, all or none, and read back. What became of it is told to \
                     `POST /api/v1/keys/{id}/rotations/{rotation_id}/deliveries`.",
        },
        FlowStep {
            n: 5,
            from: Lane::Program,
            to: Lane::Server,
            title: "The first use activates it",
            detail: "The service that the program calls asks `POST /api/v1/keys/verify`. From this moment the overlap runs, and \
                     the old secret is retiring.",
        },
        FlowStep {
            n: 6,
            from: Lane::Server,
            to: Lane::Server,
            title: "The old secret ends",
            detail: "When the overlap is over, or earlier by `POST /api/v1/keys/{id}/rotations/current/{step}` (`finish`). Who still uses it is told by \
                     `GET /api/v1/keys/{id}/rotations/current/stragglers`. Until then `roll-back` brings it back.",
        },
    ],
    failures: &[
        FlowFailure {
            step: 4,
            code: "delivery_failed",
            title: "A target did not take it",
            detail: "A failed delivery never costs the old secret its life.",
        },
        FlowFailure {
            step: 6,
            code: "not_drained",
            title: "Somebody still uses the old secret",
            detail: "`finish-if-drained` says when it is safe (`safe_at`).",
        },
    ],
    note: "A secret that leaked is not rotated but revoked: with `compromised` the old secret ends now, without an overlap, and programs \
           that have no new one stop.",
    practices: &[
        "Rotate by a schedule, so that it is nothing special when it matters.",
        "Give each program a key of its own; then its rotation is nobody else’s.",
        "Look who is late before you end the old secret.",
        "End a leaked secret at once, and ask afterwards.",
    ],
    see_also: &["token-life", "revocation"],
    resources: &[(
        "NIST SP 800-57, key management",
        "https://csrc.nist.gov/pubs/sp/800/57/pt1/r5/final",
    )],
};
