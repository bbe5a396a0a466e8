use axum::http::Method;
use serde_json::{Value, json};

use super::{fine, id_of, key_of, refused, secret_of};
use crate::keys::tests::{root, wish};
use crate::test_support::{Browser, TestServer};
use crate::webhooks::testing::run;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

async fn list(browser: &mut Browser, query: &str) -> (Vec<Value>, i64) {
    let body = fine(&browser.get(&format!("/api/v1/notices{query}")).await);
    let items = body["items"].as_array().unwrap().clone();
    (items, body["unread"].as_i64().unwrap())
}

fn about(items: &[Value]) -> Vec<&str> {
    let ids = items.iter().map(|one| one["key_id"].as_str().unwrap());
    ids.collect()
}

async fn mark(browser: &mut Browser, id: &str) -> crate::test_support::Answer {
    let path = format!("/api/v1/notices/{id}/read");
    browser.json(Method::POST, &path, &json!({})).await
}

#[tokio::test]
async fn ac_143_what_expires_is_on_the_list_of_its_owner_and_of_those_who_read_all_keys() {
    // Nobody is told by mail or webhook: the list is there all the same.
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let mia = server.add_user("mia@example.org", &[]).await;
    let max = server.add_user("max@example.org", &[]).await;
    let auditor = server.add_user("audrey@example.org", &["auditor"]).await;
    let (theirs, other) = (key_of(&mut root, &mia.id).await, root.issue(wish()).await);
    run(&server).await;
    server.pass(80 * DAY_MS);
    run(&server).await;

    let mut person = server.sign_in_as(&mia).await;
    let (items, unread) = list(&mut person, "").await;
    assert_eq!((about(&items), unread), (vec![id_of(&theirs).as_str()], 1));
    let notice = &items[0];
    assert_eq!(notice["kind"], "key.expiring");
    assert_eq!(notice["name"], "Orders");
    assert_eq!(notice["detail"], "days_14");
    assert_eq!(notice["due_at"], theirs["key"]["secrets"][0]["expires_at"]);
    assert_eq!(
        (&notice["settled"], &notice["read"]),
        (&json!(false), &json!(false))
    );
    let mut stranger = server.sign_in_as(&max).await;
    assert_eq!(list(&mut stranger, "").await, (Vec::new(), 0));
    let mut auditor = server.sign_in_as(&auditor).await;
    let (items, unread) = list(&mut auditor, "").await;
    assert_eq!(unread, 2);
    for key in [&theirs, &other] {
        assert!(about(&items).contains(&id_of(key).as_str()));
    }
    // Nothing secret is in it.
    let text = auditor.get("/api/v1/notices").await.text;
    for key in [&theirs, &other] {
        assert!(!text.contains(&secret_of(key)[20..52]), "{text}");
    }

    // Marks are everybody's own, and of what they see.
    let id = notice["id"].as_str().unwrap();
    refused(&mark(&mut stranger, id).await, 404, "notice_not_found");
    refused(&mark(&mut person, "x").await, 404, "notice_not_found");
    assert_eq!(fine(&mark(&mut person, id).await)["unread"], 0);
    let (items, unread) = list(&mut person, "").await;
    assert_eq!((&items[0]["read"], unread), (&json!(true), 0));
    assert_eq!(list(&mut person, "?unread=true").await, (Vec::new(), 0));
    assert_eq!(list(&mut auditor, "?unread=true").await.1, 2);
    let newest = list(&mut auditor, "").await.0[0]["id"].clone();
    let answer = auditor
        .json(
            Method::POST,
            "/api/v1/notices/read",
            &json!({ "until": newest }),
        )
        .await;
    assert_eq!(fine(&answer)["unread"], 0);
    assert_eq!(list(&mut auditor, "").await.1, 0);
    let odd = json!({ "until": "soon" });
    let answer = auditor.json(Method::POST, "/api/v1/notices/read", &odd);
    refused(&answer.await, 400, "invalid_body");

    // Less is left: the same matter under another id, unread again.
    server.pass(5 * DAY_MS);
    run(&server).await;
    let mut person = server.sign_in_as(&mia).await;
    let (items, unread) = list(&mut person, "").await;
    assert_eq!((items.len(), unread), (1, 1));
    assert_ne!(items[0]["id"], id);
    assert_eq!(items[0]["detail"], "days_7");
    // Rotated: nothing is left to do.
    let path = format!("/api/v1/keys/{}/rotations", id_of(&theirs));
    fine(&root.post(&path, json!({ "overlap_ms": DAY_MS })).await);
    let (items, unread) = list(&mut person, "").await;
    assert_eq!((&items[0]["settled"], unread), (&json!(true), 0));
    // A page at a time.
    let mut auditor = server
        .sign_in_as(&server.add_user("o@example.org", &["owner"]).await)
        .await;
    let first = fine(&auditor.get("/api/v1/notices?limit=1").await);
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = fine(
        &auditor
            .get(&format!("/api/v1/notices?limit=1&cursor={cursor}"))
            .await,
    );
    assert_ne!(first["items"][0]["id"], rest["items"][0]["id"]);
    refused(
        &auditor.get("/api/v1/notices?cursor=x").await,
        400,
        "invalid_cursor",
    );
}
