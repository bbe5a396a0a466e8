//! What another site can make a browser send: every route that changes something, with the cookie of an owner
//! and without our token (S2-29).

use axum::body::Body;
use axum::http::Method;

use super::table::{PUBLIC, TABLE};
use crate::test_support::TestServer;

#[tokio::test]
async fn s2_29_s2_30_every_change_by_a_cookie_needs_our_token() {
    let server = TestServer::start().await;
    let owner = server.add_user("olga@example.org", &["owner"]).await;
    let browser = server.sign_in_as(&owner).await;
    let own = browser.cookie("csrf_token").unwrap().to_owned();
    let other = server.sign_in_as(&owner).await;
    let others = other.cookie("csrf_token").unwrap().to_owned();
    let (mut tried, mut wrong) = (0, Vec::new());
    for (method, path, body, who) in TABLE {
        if *method == "GET" || *who == PUBLIC {
            continue;
        }
        tried += 1;
        let asked = path.replace(['{', '}'], "");
        for (token, site, code) in [
            ("", "same-origin", "csrf_missing"),
            ("AAAA", "same-origin", "csrf_invalid"),
            (others.as_str(), "same-origin", "csrf_invalid"),
            (own.as_str(), "cross-site", "origin_rejected"),
        ] {
            let headers = [
                ("content-type", "application/json"),
                ("x-csrf-token", token),
                ("sec-fetch-site", site),
            ];
            let method: Method = method.parse().unwrap();
            let answer = browser
                .clone()
                .send(method, &asked, &headers, Body::from(*body))
                .await;
            if answer.status != 403 || answer.json()["code"] != code {
                wrong.push(format!("{path} {code}: {} {}", answer.status, answer.text));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(tried > 60, "{tried}");
    // With its own token the same browser is let through.
    let path = "/api/v1/sessions/revoke-others";
    let answer = browser
        .clone()
        .json(Method::POST, path, &serde_json::Value::Null)
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}
