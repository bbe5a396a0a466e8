use super::choosing::{SESSIONS_AND_TOKENS, credentials};
use super::{FLOWS, Lane, find, pieces};

/// A step as the requirements tell it: `from`, `to`, words of its detail.
type Wanted = (Lane, Lane, &'static [&'static str]);

fn is_as_wanted(id: &str, lanes: &[Lane], wanted: &[Wanted]) {
    let flow = find(id).expect("the flow is there");
    assert_eq!(flow.lanes, lanes, "{id}");
    assert_eq!(flow.steps.len(), wanted.len(), "{id}");
    for (step, (from, to, words)) in flow.steps.iter().zip(wanted) {
        assert_eq!((step.from, step.to), (*from, *to), "{id} {}", step.n);
        for word in *words {
            assert!(step.detail.contains(word), "{id} {}: {word}", step.n);
        }
    }
}

#[test]
fn ac_195_authorization_code_has_its_eight_steps() {
    use Lane::{App, Browser, Server};
    let wanted: [Wanted; 8] = [
        (Browser, App, &["password"]),
        (
            App,
            App,
            &[
                "`code_verifier`",
                "`code_challenge`",
                "SHA-256",
                "generator",
            ],
        ),
        (
            Browser,
            Server,
            &[
                "`GET /oauth2/authorize`",
                "`client_id`",
                "`redirect_uri`",
                "`code_challenge`",
                "`code_challenge_method=S256`",
                "`response_type=code`",
                "`scope=openid+profile+email`",
            ],
        ),
        (Server, Browser, &["identity provider", "comes back"]),
        (
            Server,
            App,
            &["`redirect_uri`", "`code`", "the same `state`"],
        ),
        (
            App,
            Server,
            &[
                "`POST /oauth2/token`",
                "`grant_type=authorization_code`",
                "`code`",
                "`code_verifier`",
            ],
        ),
        (
            Server,
            App,
            &[
                "`access_token`",
                "`id_token`",
                "`refresh_token`",
                "RS256",
                "JWT",
            ],
        ),
        (
            App,
            Server,
            &["`GET /oauth2/userinfo`", "`Authorization: Bearer`", "`sub`"],
        ),
    ];
    is_as_wanted("authorization-code", &[Browser, App, Server], &wanted);
}

#[test]
fn ac_195_relying_party_has_its_ten_steps() {
    use Lane::{Browser, ExternalIdp, Server};
    let wanted: [Wanted; 10] = [
        (
            Browser,
            Server,
            &[
                "`GET /rp/authorize`",
                "`idp=github`",
                "`redirect_uri=/dashboard`",
            ],
        ),
        (
            Server,
            Server,
            &["random", "database", "10 minutes", "`HttpOnly`"],
        ),
        (
            Server,
            ExternalIdp,
            &[
                "`client_id`",
                "`redirect_uri`",
                "`state`",
                "PKCE",
                "`nonce`",
            ],
        ),
        (Browser, ExternalIdp, &["provider"]),
        (
            ExternalIdp,
            Server,
            &["`GET /rp/callback/github`", "`code`", "`state`"],
        ),
        (
            Server,
            Server,
            &["cookie", "database", "`DELETE … RETURNING`", "replay"],
        ),
        (Server, ExternalIdp, &["token endpoint", "5 seconds"]),
        (Server, ExternalIdp, &["`/user`", "access token"]),
        (Server, Server, &["issuer and subject", "session"]),
        (
            Server,
            Browser,
            &["`HttpOnly`", "`Secure`", "`SameSite=Lax`", "redirect"],
        ),
    ];
    is_as_wanted("relying-party", &[Browser, Server, ExternalIdp], &wanted);
}

#[test]
fn ac_195_refresh_token_has_its_four_steps() {
    use Lane::{App, Server};
    let wanted: [Wanted; 4] = [
        (App, App, &["an hour", "15 minutes"]),
        (
            App,
            Server,
            &[
                "`POST /oauth2/token`",
                "`grant_type=refresh_token`",
                "`refresh_token`",
            ],
        ),
        (
            Server,
            Server,
            &["digest", "the old one is used up", "a new one is issued"],
        ),
        (
            Server,
            App,
            &["`access_token`", "`refresh_token`", "keychain before"],
        ),
    ];
    is_as_wanted("refresh-token", &[App, Server], &wanted);
}

#[test]
fn s4_03_the_life_of_a_token_has_its_five_steps() {
    use Lane::{Api, App, Server};
    let wanted: [Wanted; 5] = [
        (App, Server, &["`POST /oauth2/token`"]),
        (Server, Server, &["Who asks", "scopes"]),
        (Server, App, &["`exp`", "signature", "keeps no copy"]),
        (App, App, &["Never", "keychain"]),
        (
            App,
            Api,
            &[
                "`Authorization: Bearer`",
                "by itself",
                "signature",
                "If one bit changes",
            ],
        ),
    ];
    is_as_wanted("token-life", &[App, Server, Api], &wanted);
}

/// The source draws seven nodes in a row: user, app, authorization server, consent, code, token, API. Those who
/// act are lanes here, and what passes between them is what steps say, in that order.
#[test]
fn s4_20_who_acts_has_a_lane_and_what_passes_has_a_step() {
    let signing_in = find("authorization-code").expect("the flow is there");
    let using = find("token-life").expect("the flow is there");
    let lanes = [Lane::Browser, Lane::App, Lane::Server];
    assert!(lanes.iter().all(|lane| signing_in.lanes.contains(lane)));
    assert!(using.lanes.contains(&Lane::Api));
    let said = |words: &str| {
        let mut steps = signing_in.steps.iter();
        let step = steps.find(|step| step.detail.contains(words));
        step.map_or_else(|| panic!("no step says {words}"), |step| step.n)
    };
    let order = [
        said("allow or deny"),
        said("To `redirect_uri` with `code`"),
        said("`access_token` and `id_token`"),
    ];
    assert!(order.is_sorted_by(|one, other| one < other), "{order:?}");
    let last = using.steps.last().expect("it has steps");
    assert_eq!(last.to, Lane::Api);
    assert!(using.see_also.contains(&"refresh-token"));
}

#[test]
fn ac_195_steps_are_numbered_and_stay_in_their_lanes() {
    for flow in &FLOWS {
        let id = flow.id;
        for (at, step) in flow.steps.iter().enumerate() {
            assert_eq!(usize::from(step.n), at + 1, "{id}");
            assert!(flow.lanes.contains(&step.from), "{id} {}", step.n);
            assert!(flow.lanes.contains(&step.to), "{id} {}", step.n);
            assert!(!step.title.is_empty() && !step.detail.is_empty(), "{id}");
        }
        // Nobody has a lane and no part.
        for lane in flow.lanes {
            let takes_part = |lane: &Lane| {
                let mut steps = flow.steps.iter();
                steps.any(|step| step.from == *lane || step.to == *lane)
            };
            assert!(takes_part(lane), "{id}: {lane:?}");
        }
        for failure in flow.failures {
            let steps = 1..=u8::try_from(flow.steps.len()).expect("few");
            assert!(steps.contains(&failure.step), "{id}: {}", failure.code);
        }
        let order = flow.failures.iter().map(|failure| failure.step);
        assert!(order.is_sorted_by(|a, b| a <= b), "{id}");
    }
    // What live mode must mark has words: AC-005, AC-008, AC-051, AC-085.
    let words = [
        ("authorization-code", 5, "state_mismatch"),
        ("authorization-code", 4, "access_denied"),
        ("authorization-code", 6, "invalid_grant"),
        ("refresh-token", 3, "invalid_grant"),
    ];
    for (id, step, code) in words {
        let flow = find(id).expect("the flow is there");
        assert!(flow.failure(step, code).is_some(), "{id} {step} {code}");
    }
}

#[test]
fn s1_36_s0_58_every_flow_has_a_note_practices_and_neighbours() {
    for flow in &FLOWS {
        assert!(
            !flow.note.is_empty() && flow.practices.len() >= 3,
            "{}",
            flow.id
        );
        assert!(!flow.learn.is_empty() && !flow.resources.is_empty());
        assert!(!flow.see_also.is_empty(), "{}", flow.id);
        for id in flow.see_also {
            assert!(find(id).is_some() && *id != flow.id, "{}: {id}", flow.id);
        }
        let texts = [flow.note, flow.summary]
            .into_iter()
            .chain(flow.steps.iter().flat_map(|step| [step.title, step.detail]))
            .chain(flow.practices.iter().chain(flow.learn).copied())
            .chain(flow.failures.iter().flat_map(|one| [one.title, one.detail]));
        for text in texts {
            assert_eq!(text.matches('`').count() % 2, 0, "{text}");
            assert!(!text.contains("  "), "{text}");
        }
    }
}

#[test]
fn s3_64_s4_04_the_tree_and_the_table() {
    let found = credentials();
    assert_eq!(found.len(), 5);
    for credential in &found {
        assert!(find(credential.flow).is_some(), "{}", credential.name);
    }
    let key = found.iter().find(|one| one.name == "An API key");
    let key = key.expect("API keys are an answer");
    assert!(key.why.contains("services") && key.why.contains("command lines"));
    let rows = SESSIONS_AND_TOKENS.map(|row| row[0]);
    for row in ["State", "Revoke", "Scaling", "Transport", "Best for"] {
        assert!(rows.contains(&row), "{row}");
    }
}

#[test]
fn code_is_between_backticks() {
    let found: Vec<_> = pieces("`GET /x` with `a` and b").collect();
    assert_eq!(
        found,
        [
            (true, "GET /x"),
            (false, " with "),
            (true, "a"),
            (false, " and b")
        ]
    );
}
