//! Methods of everything that is not the API: pages, sign-in, sessions, OAuth. Only GET and POST are handled there,
//! each by its own handler, and any other method gets a clear answer (S2-05, S2-21, S2-22).

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use axum::body::Body;
use axum::http::{Method, StatusCode};

use crate::test_support::TestServer;

/// Not for browsers: RFC 7592 names its methods, gateways ask with those of the request that they ask about.
const OTHER_METHODS: [&str; 4] = [
    "/oauth2/register/{id}",
    "/verify",
    "/verify/",
    "/verify/{*path}",
];

/// Paths of the sources that stand in one piece.
pub(super) fn routes_in(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" {
            routes_in(&path, found);
        } else if path.is_file() && name.ends_with(".rs") && !name.contains("test") {
            let text = fs::read_to_string(&path).unwrap();
            for part in text.split(".route(").skip(1) {
                let route = part.trim_start().strip_prefix('"');
                let route = route.and_then(|rest| Some(rest.split_once('"')?.0));
                let route = route.filter(|route| route.starts_with('/'));
                found.extend(route.map(str::to_owned));
            }
        }
    }
}

#[tokio::test]
async fn s2_05_s2_21_s2_22_browsers_are_served_by_get_and_post_and_told_of_other_methods() {
    let server = TestServer::start().await;
    let mut browser = server.browser();
    let mut routes = BTreeSet::new();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    routes_in(&sources, &mut routes);
    // A name of the tests of another part, and what stands only where the settings say so.
    for absent in ["/hello", "/authorize", "/token"] {
        routes.remove(absent);
    }
    routes
        .retain(|route| !route.starts_with("/api/v1/") && !OTHER_METHODS.contains(&route.as_str()));
    assert!(routes.len() > 60, "{}: {routes:?}", routes.len());
    let (mut both, mut wrong) = (0, Vec::new());
    for route in &routes {
        let path = route.replace(['{', '}', '*'], "");
        for method in [Method::PUT, Method::PATCH, Method::DELETE] {
            let answer = browser
                .send(method.clone(), &path, &[], Body::empty())
                .await;
            let allowed: BTreeSet<_> = answer.header("allow").split(',').map(str::trim).collect();
            let known = ["GET", "HEAD", "POST", "OPTIONS"];
            let handled = allowed.contains("GET") || allowed.contains("POST");
            both += usize::from(allowed.contains("GET") && allowed.contains("POST"));
            if answer.status != StatusCode::METHOD_NOT_ALLOWED
                || !handled
                || !allowed.iter().all(|one| known.contains(one))
                || answer.json()["code"] != "method_not_allowed"
                || !answer.header("content-type").contains("json")
            {
                wrong.push(format!(
                    "{method} {path}: {} {:?}",
                    answer.status, answer.headers
                ));
            }
        }
        // The one of the two that is not there is no way to the other's handler.
        let answer = browser.send(Method::PUT, &path, &[], Body::empty()).await;
        for (method, name) in [(Method::GET, "GET"), (Method::POST, "POST")] {
            if answer.header("allow").contains(name) {
                continue;
            }
            let other = browser.send(method, &path, &[], Body::empty()).await;
            if other.status != StatusCode::METHOD_NOT_ALLOWED {
                wrong.push(format!("{name} {path}: {}", other.status));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(both > 10, "{both}");
}
