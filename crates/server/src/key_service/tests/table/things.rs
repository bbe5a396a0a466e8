//! Whose other things are, and callers who were something once: a route that does not look answers them as it answers
//! everybody.

use axum::body::Body;
use axum::http::Method;
use keywright_domain::audit::Actor;
use serde_json::json;

use super::{ACTORS, PUBLIC, TABLE, World};
use crate::key_service::tests::{id_of, secret_of};
use crate::sessions::tests::give_access;
use crate::test_support::{Answer, Browser};

/// As the table's; the third is whose it is.
const THEIRS: &str = "14y44113431";

fn seen(answer: &Answer) -> char {
    let code = answer.json()["code"].as_str().unwrap_or("").to_owned();
    match (answer.status.as_u16(), code.as_str()) {
        (200..300, _) => 'y',
        (401, _) => '1',
        (403, _) => '3',
        (404, "session_not_found" | "application_not_found") => '4',
        _ => '!',
    }
}

/// A session of somebody's, by its id.
async fn session_of(browser: &mut Browser) -> String {
    let list = browser.get("/api/v1/sessions").await.json();
    let items = list["items"].as_array().unwrap();
    let own = items.iter().find(|one| one["current"] == true).unwrap();
    own["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn sessions_and_applications_are_ended_by_whom_they_belong_to_and_by_nobody_else() {
    let mut world = World::new().await;
    world.server.add_client("theirs", None, |_| {}).await;
    let holder = world.people[1].clone();
    let mut wrong = Vec::new();
    for (actor, expected) in THEIRS.chars().enumerate() {
        let mut other = world.server.sign_in_as(&holder).await;
        let session = session_of(&mut other).await;
        give_access(&world.server, &holder, None, "theirs", "openid").await;
        for path in [
            format!("/api/v1/sessions/{session}"),
            "/api/v1/applications/theirs".to_owned(),
        ] {
            let answer = world.send(actor, "DELETE", &path, "").await;
            if seen(&answer) != expected {
                wrong.push(format!(
                    "{path} for {}: {expected} was expected, {} {}",
                    ACTORS[actor], answer.status, answer.text
                ));
            }
        }
        // What was said is what was done.
        let is_there = other.get("/api/v1/sessions").await.status == 200;
        let mut again = world.server.sign_in_as(&holder).await;
        let list = again.get("/api/v1/applications").await.text;
        let has_access = list.contains("theirs");
        if (is_there, has_access) != (expected != 'y', expected != 'y') {
            wrong.push(format!("{}: {is_there} {list}", ACTORS[actor]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn whoever_was_disabled_or_revoked_is_nobody_at_every_route() {
    let mut world = World::new().await;
    let actor = Actor::person("test");
    let leaver = world
        .server
        .add_user("leaver@example.org", &["owner"])
        .await;
    let mut person = world.server.sign_in_as(&leaver).await;
    let access = give_access(&world.server, &leaver, None, "app", "keys:*").await;
    let wish = json!({ "name": "Once", "prefix": "kw_root", "scopes": ["*:*"] });
    let issued = world.root.issue(wish).await;
    let key = secret_of(&issued);
    let asked = |bearer: &str| format!("Bearer {bearer}");
    let (token, key) = (asked(&access.token), asked(&key));
    let csrf = person.cookie("csrf_token").unwrap_or("").to_owned();
    // They were somebody.
    let mut browser = world.server.browser();
    assert_eq!(person.get("/api/v1/users").await.status, 200);
    for bearer in [&token, &key] {
        let headers = [("authorization", bearer.as_str())];
        let path = "/api/v1/keys";
        let answer = browser
            .send(Method::GET, path, &headers, Body::empty())
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    let registry = world.server.registry();
    registry
        .disable_user(&actor, &leaver.id, "left")
        .await
        .unwrap();
    registry
        .revoke_api_key(&actor, &id_of(&issued), "over")
        .await
        .unwrap();
    let mut wrong = Vec::new();
    for (method, path, body, columns) in TABLE {
        if *columns == PUBLIC {
            continue;
        }
        let path = path.replace(['{', '}'], "");
        let kind = match (path.ends_with("/import"), body.is_empty()) {
            (_, true) => "",
            (true, false) => "application/x-ndjson",
            (false, false) => "application/json",
        };
        let verb: Method = method.parse().unwrap();
        for (who, bearer) in [
            ("person", ""),
            ("token", token.as_str()),
            ("key", key.as_str()),
        ] {
            let headers = [
                ("authorization", bearer),
                ("content-type", kind),
                (
                    "x-csrf-token",
                    if who == "person" { csrf.as_str() } else { "" },
                ),
                (
                    "last-event-id",
                    if path.ends_with("/events") {
                        "none"
                    } else {
                        ""
                    },
                ),
            ];
            // Each time as it was: an answer may take the cookie away.
            let mut asks = match who {
                "person" => person.clone(),
                _ => world.server.browser(),
            };
            let body = Body::from((*body).to_owned());
            let answer = asks.send(verb.clone(), &path, &headers, body).await;
            if answer.status != 401 {
                wrong.push(format!(
                    "{method} {path} for the {who}: {} {}",
                    answer.status, answer.text
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
