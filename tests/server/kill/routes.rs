//! Every route that changes something, and the use case that is killed in it, or why its killing cannot matter.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::cases;
use crate::server::harness::ServerProcess;

/// Whether a route is struck.
enum Killed {
    /// By this case of [`cases`], which cannot leave it out.
    In(&'static str),
    /// And why not.
    Not(&'static str),
}
use Killed::{In, Not};

type Row = (&'static str, &'static str, Killed);

/// What the API's description has.
const API: &[Row] = &[
    ("POST", "/api/v1/keys", In("issue of a key")),
    (
        "POST",
        "/api/v1/keys/verify",
        Not(
            "it writes uses alone, of which less than a second may be lost (tests/registry/crash.rs)",
        ),
    ),
    ("PATCH", "/api/v1/keys/{id}", In("change of a key")),
    (
        "POST",
        "/api/v1/keys/{id}/revoke",
        In("revocation of a key"),
    ),
    ("POST", "/api/v1/keys/{id}/disable", In("switch of a key")),
    ("POST", "/api/v1/keys/{id}/enable", In("switch of a key")),
    (
        "POST",
        "/api/v1/keys/{id}/rotations",
        In("rotation of a key"),
    ),
    (
        "POST",
        "/api/v1/keys/{id}/rotations/current/{step}",
        In("end of an overlap"),
    ),
    (
        "POST",
        "/api/v1/keys/{id}/rotations/current/finish-if-drained",
        In("end of a drained overlap"),
    ),
    (
        "POST",
        "/api/v1/keys/{id}/rotations/{rotation_id}/deliveries",
        In("report of a delivery"),
    ),
    (
        "POST",
        "/api/v1/keys/{id}/rotations/{rotation_id}/reissue",
        In("reissue"),
    ),
    (
        "POST",
        "/api/v1/keys/{id}/secrets/{kid}/revoke",
        In("one secret of a key"),
    ),
    ("PUT", "/api/v1/keys/{id}/schedule", In("schedule")),
    ("DELETE", "/api/v1/keys/{id}/schedule", In("schedule")),
    ("POST", "/api/v1/keys/{id}/schedule/{step}", In("schedule")),
    ("POST", "/api/v1/keys/{id}/preview", Not("it reads")),
    ("POST", "/api/v1/keys/preview", Not("it reads")),
    (
        "POST",
        "/api/v1/keys/{id}/end-copy",
        Not("the write of a revocation, of a key that was promoted"),
    ),
    ("POST", "/api/v1/owners", In("service")),
    ("PATCH", "/api/v1/owners/{id}", In("service")),
    ("POST", "/api/v1/owners/{id}/disable", In("service")),
    ("POST", "/api/v1/owners/{id}/enable", In("service")),
    (
        "POST",
        "/api/v1/owners/{id}/revoke-keys",
        In("all keys of an owner"),
    ),
    ("PUT", "/api/v1/scopes", In("scope")),
    ("DELETE", "/api/v1/scopes/{name}", In("scope")),
    ("PUT", "/api/v1/policies/{environment}", In("policy")),
    (
        "DELETE",
        "/api/v1/policies/{environment}",
        In("removal of a policy"),
    ),
    ("POST", "/api/v1/audit/checkpoints", In("checkpoint")),
    ("POST", "/api/v1/alerts/{id}/seen", In("alert and notices")),
    ("POST", "/api/v1/notices/read", In("alert and notices")),
    ("POST", "/api/v1/notices/{id}/read", In("alert and notices")),
    ("POST", "/api/v1/hygiene/campaigns", In("campaign")),
    (
        "POST",
        "/api/v1/hygiene/campaigns/{id}/questions/{key_id}",
        In("campaign"),
    ),
    (
        "POST",
        "/api/v1/hygiene/campaigns/{id}/cancel",
        In("campaign"),
    ),
    ("POST", "/api/v1/import", In("import")),
    (
        "POST",
        "/api/v1/promotions/offers",
        Not("nothing is kept of an offer: it is sealed into the answer"),
    ),
    ("POST", "/api/v1/promotions", In("promotion")),
    (
        "POST",
        "/api/v1/promotions/bundles",
        Not("it reads; what it writes is an event of the trail"),
    ),
    ("POST", "/api/v1/promotions/left", In("promotion")),
    ("POST", "/api/v1/bulk", In("many keys at once")),
    ("POST", "/api/v1/bulk/{id}/cancel", In("cancellation")),
    ("POST", "/api/v1/operations/{id}/cancel", In("cancellation")),
    (
        "POST",
        "/api/v1/sessions/revoke-others",
        In("one's own sessions"),
    ),
    (
        "POST",
        "/api/v1/sessions/revoke-all",
        In("one's own sessions"),
    ),
    ("DELETE", "/api/v1/sessions/{id}", In("one's own sessions")),
    (
        "DELETE",
        "/api/v1/applications/{client_id}",
        In("one's own sessions"),
    ),
    ("POST", "/api/v1/users", In("people")),
    ("PATCH", "/api/v1/users/{id}", In("people")),
    ("DELETE", "/api/v1/users/{id}", In("people")),
    ("POST", "/api/v1/users/{id}/disable", In("disabling")),
    ("POST", "/api/v1/users/{id}/enable", In("person")),
    (
        "POST",
        "/api/v1/users/{id}/password-reset",
        In("password reset"),
    ),
    ("PUT", "/api/v1/users/{id}/roles", In("roles")),
    (
        "POST",
        "/api/v1/users/{id}/sessions/revoke-all",
        In("person"),
    ),
    (
        "DELETE",
        "/api/v1/users/{id}/sessions/{session_id}",
        In("person"),
    ),
    ("PUT", "/api/v1/roles/{name}", In("roles")),
    ("DELETE", "/api/v1/roles/{name}", In("roles")),
    ("POST", "/api/v1/invitations", In("invitation of somebody")),
    (
        "DELETE",
        "/api/v1/invitations/{id}",
        In("invitation of somebody"),
    ),
    (
        "PUT",
        "/api/v1/identity-providers/{id}",
        In("identity provider"),
    ),
    (
        "DELETE",
        "/api/v1/identity-providers/{id}",
        In("identity provider"),
    ),
    ("POST", "/api/v1/clients", In("client")),
    (
        "PATCH",
        "/api/v1/clients/{id}",
        In("a client's way to prove itself"),
    ),
    ("DELETE", "/api/v1/clients/{id}", In("client")),
    ("POST", "/api/v1/clients/{id}/disable", In("client")),
    ("POST", "/api/v1/clients/{id}/enable", In("client")),
    (
        "POST",
        "/api/v1/clients/{id}/rotate-secret",
        In("secret of a client"),
    ),
    (
        "POST",
        "/api/v1/clients/{id}/revoke-tokens",
        In("tokens of a client"),
    ),
    (
        "POST",
        "/api/v1/registration-tokens",
        In("registration token"),
    ),
    (
        "DELETE",
        "/api/v1/registration-tokens/{id}",
        In("registration token"),
    ),
    ("POST", "/api/v1/webhooks", In("webhook and its messages")),
    ("PATCH", "/api/v1/webhooks/{id}", In("webhook")),
    ("DELETE", "/api/v1/webhooks/{id}", In("webhook")),
    ("POST", "/api/v1/webhooks/{id}/rotate-secret", In("webhook")),
    (
        "POST",
        "/api/v1/webhooks/{id}/test",
        In("webhook and its messages"),
    ),
    (
        "POST",
        "/api/v1/webhooks/{id}/deliveries/{delivery}/redeliver",
        In("webhook and its messages"),
    ),
    (
        "POST",
        "/api/v1/webhooks/{id}/deliveries/redeliver",
        In("webhook and its messages"),
    ),
    ("POST", "/auth/signOut", In("end of a session")),
    ("POST", "/auth/login", In("login of a browser client")),
    ("POST", "/auth/refresh", In("refresh of a browser client")),
];

/// Pages, sign-in and OAuth: what the sources have besides.
const PAGES: &[Row] = &[
    (
        "POST",
        "/account/api-keys/questions/{campaign}/{key}",
        Not("the write of POST /api/v1/hygiene/campaigns/{id}/questions/{key_id}"),
    ),
    (
        "POST",
        "/account/api-keys/{id}/revoke",
        Not("the write of POST /api/v1/keys/{id}/revoke"),
    ),
    (
        "POST",
        "/account/applications/{client_id}/remove",
        Not("the write of DELETE /api/v1/applications/{client_id}"),
    ),
    (
        "POST",
        "/account/end-everything",
        Not("the write of POST /api/v1/sessions/revoke-all"),
    ),
    ("POST", "/account/end-others", In("end of other sessions")),
    (
        "POST",
        "/account/sessions/{id}/end",
        Not("the write of DELETE /api/v1/sessions/{id}"),
    ),
    (
        "POST",
        "/account/sign-in/codes/confirm",
        In("one-time codes"),
    ),
    (
        "POST",
        "/account/sign-in/codes/remove",
        In("one-time codes"),
    ),
    (
        "POST",
        "/account/sign-in/identities/unlink",
        Not("one row is removed; what is left signs in as before"),
    ),
    ("POST", "/account/sign-in/passkeys", In("passkey")),
    (
        "POST",
        "/account/sign-in/passkeys/options",
        Not("a challenge: nothing is kept but that it was used"),
    ),
    ("POST", "/account/sign-in/passkeys/remove", In("passkey")),
    (
        "POST",
        "/account/sign-in/passkeys/rename",
        Not("a name for people"),
    ),
    (
        "POST",
        "/account/sign-in/password",
        In("change of a password"),
    ),
    (
        "POST",
        "/account/sign-in/recovery-codes",
        In("recovery codes"),
    ),
    ("POST", "/device", In("approval of a device")),
    (
        "POST",
        "/found-key",
        Not("killed in tests/server/webhooks.rs"),
    ),
    ("POST", "/github/secret-scanning", In("report of GitHub")),
    ("POST", "/invitations/{token}", In("invitation")),
    ("POST", "/logout", Not("the write of POST /auth/signOut")),
    ("POST", "/oauth2/authorize/consent", In("consent and code")),
    (
        "POST",
        "/oauth2/device_authorization",
        Not("a code that nobody knows yet: the device asks again"),
    ),
    (
        "POST",
        "/oauth2/end_session",
        Not("its page, or the write of its confirmation"),
    ),
    (
        "POST",
        "/oauth2/end_session/confirm",
        In("end of a session by a client"),
    ),
    ("POST", "/oauth2/introspect", Not("it reads")),
    ("POST", "/oauth2/register", In("registration of a client")),
    (
        "PUT",
        "/oauth2/register/{id}",
        Not("the write of PATCH /api/v1/clients/{id}"),
    ),
    (
        "DELETE",
        "/oauth2/register/{id}",
        Not("the write of POST /api/v1/clients/{id}/disable"),
    ),
    ("POST", "/oauth2/revoke", In("revocation of a token")),
    ("POST", "/oauth2/userinfo", Not("it reads")),
    ("POST", "/password-reset/{token}", In("password reset")),
    (
        "POST",
        "/rp/link",
        Not("it goes to another provider, whose answer is killed"),
    ),
    (
        "POST",
        "/set-up",
        Not("a set-up that was cut off is gone through again, and takes up what is there"),
    ),
    ("POST", "/sign-in", In("sign-in")),
    ("POST", "/sign-in/code", In("step-up")),
    (
        "POST",
        "/sign-in/passkey",
        Not("a sign-in by another proof, written as that by a password"),
    ),
    (
        "POST",
        "/sign-in/passkey/options",
        Not("a challenge: nothing is kept but that it was used"),
    ),
];

/// Routes that are made by a function or named by a constant: the same cases strike the first four, the others
/// are read.
const BY_NAME: [&str; 6] = ["endpoint()", "SET_UP", "PATH", "OPENID", "PAGE", "_PAGE"];

/// Whether a path is one of a template.
fn fits(template: &str, path: &str) -> bool {
    let (mut one, mut other) = (template.split('/'), path.split('/'));
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (Some(part), Some(_)) if part.starts_with('{') => {}
            (Some(part), Some(given)) if part == given => {}
            _ => return false,
        }
    }
}

/// A table that says that a case strikes a route says what it did.
pub(super) fn ensure_struck(
    cases: &[cases::One],
    struck: &BTreeSet<(String, String)>,
) -> Result<()> {
    for (method, template, killed) in API.iter().chain(PAGES) {
        let In(name) = killed else { continue };
        if cases.iter().all(|(case, ..)| case != name) {
            continue;
        }
        let mut all = struck.iter();
        let was = all.any(|(own, path)| own == method && fits(template, path));
        ensure!(was, "{name} never struck {method} {template}: {struck:?}");
    }
    Ok(())
}

const METHODS: [&str; 4] = ["post", "put", "patch", "delete"];

/// `.route("…", …post(…))` of the server's sources, but of the API.
fn pages_in(folder: &Path, found: &mut BTreeSet<(String, String)>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, name) = (
            entry.path(),
            entry.file_name().to_string_lossy().into_owned(),
        );
        if path.is_dir() {
            if name != "tests" {
                pages_in(&path, found)?;
            }
            continue;
        }
        if !name.ends_with(".rs") || name.contains("test") {
            continue;
        }
        for part in fs::read_to_string(&path)?.split(".route(").skip(1) {
            let part = part.trim_start();
            // `route()` of something else; and some read the sources for routes, as this does.
            if part.starts_with(')') || part.starts_with("\")") {
                continue;
            }
            let mut depth = 1;
            let end = part.find(|letter| {
                depth += i32::from(letter == '(') - i32::from(letter == ')');
                depth == 0
            });
            let call = &part[..end.context("no end")?];
            let route = call.strip_prefix('"').and_then(|rest| rest.split_once('"'));
            let Some((route, handlers)) = route.filter(|_| !call.contains("endpoint()")) else {
                // Nothing is changed by those that only read.
                if !["post(", "put(", "patch(", "delete(", "any("]
                    .iter()
                    .any(|way| call.contains(way))
                    && call.contains("get(")
                {
                    continue;
                }
                let known = BY_NAME.iter().any(|name| call.contains(name));
                ensure!(known, "{}: which route is {call}", path.display());
                continue;
            };
            // Gateways ask there with any method, and nothing changes.
            if route.starts_with("/api/v1/") || route.starts_with("/verify") {
                continue;
            }
            for method in METHODS {
                if handlers.contains(&format!("{method}(")) {
                    found.insert((method.to_uppercase(), route.to_owned()));
                }
            }
        }
    }
    Ok(())
}

fn ensure_same(rows: &[Row], routes: &BTreeSet<(String, String)>) -> Result<()> {
    let mut named = BTreeSet::new();
    for (method, path, _) in rows {
        let is_new = named.insert(((*method).to_owned(), (*path).to_owned()));
        ensure!(is_new, "{method} {path} is there twice");
    }
    let missing: Vec<_> = routes.difference(&named).collect();
    ensure!(missing.is_empty(), "nobody is killed in {missing:#?}");
    let gone: Vec<_> = named.difference(routes).collect();
    ensure!(gone.is_empty(), "there is no {gone:#?}");
    Ok(())
}

#[tokio::test]
async fn ac_153_every_route_that_changes_something_is_killed_or_says_why_not() -> Result<()> {
    let server = ServerProcess::start().await?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let described = client.get(server.at("/api/openapi.json")).send().await?;
    let described: Value = serde_json::from_str(&described.text().await?)?;
    let paths = described["paths"].as_object().context("no paths")?;
    let mut routes = BTreeSet::new();
    for (path, item) in paths {
        for method in item.as_object().context("no operations")?.keys() {
            if METHODS.contains(&method.as_str()) {
                routes.insert((method.to_uppercase(), path.clone()));
            }
        }
    }
    ensure_same(API, &routes)?;
    let mut pages = BTreeSet::new();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/server/src");
    pages_in(&sources, &mut pages)?;
    pages.retain(|(_, path)| routes.iter().all(|(_, described)| described != path));
    ensure_same(PAGES, &pages)?;
    // A case that is named is one, and a reason says something.
    let known: BTreeSet<&str> = cases::every().map(|(name, ..)| *name).collect();
    for (method, path, killed) in API.iter().chain(PAGES) {
        match killed {
            In(name) => ensure!(known.contains(name), "{method} {path}: no case {name}"),
            Not(reason) => ensure!(reason.len() > 7, "{method} {path}: why?"),
        }
    }
    Ok(())
}

#[test]
fn a_path_fits_its_own_template() {
    assert!(fits("/a/{id}/b", "/a/1/b") && fits("/a", "/a"));
    for other in ["/a/1", "/a/1/c", "/a/1/b/d", "/b/1/b"] {
        assert!(!fits("/a/{id}/b", other), "{other}");
    }
}
