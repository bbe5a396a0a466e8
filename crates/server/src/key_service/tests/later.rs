//! Requests that are answered later.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use keywright_domain::audit::Actor;
use keywright_registry::LaterRequest;
use serde_json::{Value, json};

use super::moving::hash;
use super::{fine, narrow, refused};
use crate::keys::tests::{Program, root};
use crate::test_support::{Answer, Browser, TestServer};

const LATER: (&str, &str) = ("prefer", "respond-async");

/// Lines of an import.
fn file(count: usize) -> String {
    let line = |number| {
        json!({
            "name": format!("Old {number}"), "hash": hash(&format!("foreign-{number}")),
            "scopes": ["orders:read"], "expires_at": 1_810_000_000_000_i64,
        })
    };
    (0..count)
        .map(|number| format!("{}\n", line(number)))
        .collect()
}

async fn import(root: &mut Program, query: &str, file: &str, more: &[(&str, &str)]) -> Answer {
    let bearer = format!("Bearer {}", root.key);
    let mut headers = vec![
        ("authorization", bearer.as_str()),
        ("content-type", "application/x-ndjson"),
    ];
    headers.extend_from_slice(more);
    let path = format!("/api/v1/import?never_expires=true&{query}");
    let body = file.to_owned().into();
    root.browser.send(Method::POST, &path, &headers, body).await
}

/// The address of an operation that has begun.
#[track_caller]
fn begun(answer: &Answer) -> String {
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
    assert_eq!(answer.header("preference-applied"), "respond-async");
    let path = format!(
        "/api/v1/operations/{}",
        answer.json()["id"].as_str().unwrap()
    );
    assert!(answer.header("location").ends_with(&path));
    path
}

async fn ended(root: &mut Program, path: &str) -> Value {
    for _ in 0..1500 {
        let view = fine(&root.get(path).await);
        if view["state"] != "running" {
            return view;
        }
        assert!(view.get("result").is_none(), "{view}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it does not end");
}

async fn keys(root: &mut Program) -> i64 {
    fine(&root.get("/api/v1/keys/counts").await)["all"]
        .as_i64()
        .unwrap()
}

async fn verify(root: &mut Program) -> Answer {
    let path = "/api/v1/audit/verify";
    root.send_with(Method::GET, path, Value::Null, &[LATER])
        .await
}

#[tokio::test]
async fn a_check_of_the_trail_is_fetched_later_and_says_what_it_says_at_once() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let answer = verify(&mut root).await;
    assert_eq!(answer.json()["state"], "running");
    let path = begun(&answer);
    let view = ended(&mut root, &path).await;
    let at_once = fine(&root.get("/api/v1/audit/verify").await);
    assert_eq!(view["result"], at_once, "{view}");
    assert_eq!(
        (&view["state"], &view["operation"]),
        (&json!("done"), &json!("audit_verify"))
    );
    // What was written since it began is looked at too; it is no event itself.
    assert!(
        view["total"].as_i64() <= at_once["events"].as_i64(),
        "{view}"
    );
    assert_eq!(view["done"], view["total"]);
    assert!(
        view["finished_at"].is_i64() && view.get("problem").is_none(),
        "{view}"
    );
    // As it is still, it is not sent again.
    let first = root.get(&path).await;
    let seen = [("if-none-match", first.header("etag"))];
    let again = root.send_with(Method::GET, &path, Value::Null, &seen).await;
    assert_eq!(again.status, StatusCode::NOT_MODIFIED);
    // It is none of the operations over many keys, and in a list it has no result.
    let id = view["id"].as_str().unwrap();
    let bulk = root.get(&format!("/api/v1/bulk/{id}")).await;
    refused(&bulk, 404, "operation_not_found");
    assert_eq!(fine(&root.get("/api/v1/bulk").await)["items"], json!([]));
    let list = fine(&root.get("/api/v1/operations").await);
    assert_eq!(list["items"][0]["id"], id, "{list}");
    assert!(list["items"][0].get("result").is_none(), "{list}");
}

#[tokio::test]
async fn hygiene_is_counted_later_as_it_is_at_once() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    root.issue(crate::keys::tests::wish()).await;
    let path = "/api/v1/hygiene?idle_days=1";
    server.pass(3 * 86_400_000);
    let at_once = fine(&root.get(path).await);
    assert_eq!(at_once["counts"]["never_used"], 1, "{at_once}");
    let answer = root
        .send_with(Method::GET, path, Value::Null, &[LATER])
        .await;
    let view = ended(&mut root, &begun(&answer)).await;
    assert_eq!(view["result"], at_once, "{view}");
    assert_eq!(view["done"], view["total"]);
    let wrong = "/api/v1/hygiene?idle_days=0";
    let wrong = root
        .send_with(Method::GET, wrong, Value::Null, &[LATER])
        .await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST, "{}", wrong.text);
}

#[tokio::test]
async fn an_import_is_answered_later_as_at_once_and_once_under_a_name() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let file = format!("{}{{\"name\":\"bad\"}}\n", file(120));
    let tried = fine(&import(&mut root, "", &file, &[]).await);
    let before = keys(&mut root).await;
    let later = import(&mut root, "", &file, &[LATER]).await;
    let view = ended(&mut root, &begun(&later)).await;
    assert_eq!(view["result"], tried, "{view}");
    assert_eq!(keys(&mut root).await, before, "a dry run wrote");
    // A file that cannot be read is refused at once, and is no operation.
    let broken = import(&mut root, "format=csv", "nothing\n", &[LATER]).await;
    refused(&broken, 400, "import_malformed");
    let named = [LATER, ("idempotency-key", "one-import")];
    let first = import(&mut root, "dry_run=false", &file, &named).await;
    let path = begun(&first);
    let view = ended(&mut root, &path).await;
    let counts = [
        &view["total"],
        &view["done"],
        &view["changed"],
        &view["failed"],
    ];
    assert_eq!(
        counts,
        [121, 121, 120, 1].map(|count| json!(count)).each_ref()
    );
    assert_eq!(view["result"]["imported"].as_array().unwrap().len(), 120);
    assert_eq!(view["result"]["stopped"], Value::Null);
    assert_eq!(keys(&mut root).await, before + 120);
    let again = import(&mut root, "dry_run=false", &file, &named).await;
    assert_eq!(begun(&again), path);
    assert_eq!(again.header("idempotency-replayed"), "true");
    // The same name, to be answered at once, is another request.
    let other = import(&mut root, "dry_run=false", &file, &named[1..]).await;
    refused(&other, 409, "idempotency_key_reused");
    let list = fine(&root.get("/api/v1/operations").await);
    assert_eq!(list["items"].as_array().unwrap().len(), 2, "{list}");
}

#[tokio::test]
async fn a_cancelled_import_says_what_was_written_and_where_it_ended() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let before = keys(&mut root).await;
    let answer = import(&mut root, "dry_run=false", &file(20_000), &[LATER]).await;
    let path = begun(&answer);
    let cancelled = root.post(&format!("{path}/cancel"), Value::Null).await;
    assert_eq!(fine(&cancelled)["cancel_asked"], true);
    let view = ended(&mut root, &path).await;
    assert_eq!(view["state"], "cancelled", "{}", view["state"]);
    let written = view["changed"].as_i64().unwrap();
    assert!(0 < written && written < 20_000, "{written}");
    assert_eq!(keys(&mut root).await, before + written);
    let result = &view["result"];
    assert_eq!(
        result["imported"].as_array().unwrap().len(),
        usize::try_from(written).unwrap()
    );
    assert_eq!(
        result["stopped"],
        json!({ "line": written + 1, "code": "cancelled" })
    );
    let again = root.post(&format!("{path}/cancel"), Value::Null).await;
    assert_eq!(fine(&again)["state"], "cancelled");
}

async fn import_as(browser: &mut Browser, file: &str) -> Answer {
    let csrf = browser.cookie("csrf_token").unwrap().to_owned();
    let headers = [
        ("x-csrf-token", csrf.as_str()),
        ("content-type", "application/x-ndjson"),
        LATER,
    ];
    let path = "/api/v1/import?dry_run=false&never_expires=true";
    let body = file.to_owned().into();
    browser.send(Method::POST, path, &headers, body).await
}

#[tokio::test]
async fn it_stops_when_the_caller_may_do_it_no_more_and_only_who_may_ask_sees_it() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let kim = server.add_user("kim@example.org", &["key-admin"]).await;
    let auditor = server.add_user("auditor@example.org", &["auditor"]).await;
    let nobody = server.add_user("nobody@example.org", &[]).await;
    let there = keys(&mut root).await;
    let mut browser = server.sign_in_as(&kim).await;
    let path = begun(&import_as(&mut browser, &file(20_000)).await);
    // Whoever may not import sees nothing of it, and ends nothing.
    let mut auditor = server.sign_in_as(&auditor).await;
    refused(&auditor.get(&path).await, 404, "operation_not_found");
    let ending = format!("{path}/cancel");
    let ending = auditor.json(Method::POST, &ending, &Value::Null).await;
    refused(&ending, 404, "operation_not_found");
    let theirs = fine(&auditor.get("/api/v1/operations").await);
    assert_eq!(theirs["items"], json!([]));
    let mut nobody = server.sign_in_as(&nobody).await;
    refused(
        &nobody.get("/api/v1/operations").await,
        403,
        "insufficient_scope",
    );
    // A check of the trail is the auditor's to see, and not theirs to end.
    let check = begun(&verify(&mut root).await);
    assert_eq!(
        fine(&auditor.get(&check).await)["operation"],
        "audit_verify"
    );
    let ending = format!("{check}/cancel");
    let ending = auditor.json(Method::POST, &ending, &Value::Null).await;
    refused(&ending, 403, "insufficient_scope");
    let actor = Actor::person("test");
    let disabled = server.registry().disable_user(&actor, &kim.id, "left");
    disabled.await.unwrap();
    let view = ended(&mut root, &path).await;
    assert_eq!(view["state"], "stopped", "{}", view["state"]);
    assert_eq!(view["problem"]["code"], "access_ended");
    assert_eq!(view["result"]["stopped"]["code"], "access_ended");
    let written = view["changed"].as_i64().unwrap();
    assert!(written < 20_000, "{written}");
    assert_eq!(keys(&mut root).await, there + written);
}

#[tokio::test]
async fn one_that_a_restart_broke_off_shows_as_interrupted_and_importing_again_does_the_rest() {
    let server = TestServer::start().await;
    let mut before = root(&server).await;
    let file = file(2_000);
    let there = keys(&mut before).await;
    let path = begun(&import(&mut before, "dry_run=false", &file, &[LATER]).await);
    while keys(&mut before).await == there {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let server = server.again().await;
    let mut after = root(&server).await;
    assert_eq!(
        fine(&after.get(&path).await)["state"],
        "running",
        "nobody can know yet"
    );
    server.pass(31_000);
    let view = fine(&after.get(&path).await);
    assert_eq!(view["state"], "interrupted", "{view}");
    let written = keys(&mut after).await - there;
    assert!(
        view["changed"].as_i64().unwrap() <= written && written < 2_000,
        "{view}"
    );
    let again = import(&mut after, "dry_run=false", &file, &[LATER]).await;
    let view = ended(&mut after, &begun(&again)).await;
    let lines = |list: &str| view["result"][list].as_array().unwrap().len();
    let written = usize::try_from(written).unwrap();
    assert_eq!(
        (lines("present"), lines("imported")),
        (written, 2_000 - written)
    );
}

async fn count(program: &mut Program) -> Answer {
    let path = "/api/v1/hygiene";
    let asked = program.send_with(Method::GET, path, Value::Null, &[LATER]);
    asked.await
}

#[tokio::test]
async fn who_may_only_read_takes_no_place_of_those_who_change_and_one_at_a_time() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let mut reader = narrow(&server, &mut root, &["keys:read", "audit:read"]).await;
    let places = &server.server.app().key_service.places;
    // As if checks of theirs were at work.
    let anybody = |name: &str| places.of_read(&Actor::person(name));
    let one = anybody("one").unwrap();
    assert_eq!(anybody("one").unwrap_err().code, "too_many_operations");
    let two = anybody("two").unwrap();
    let full = count(&mut reader).await;
    refused(&full, 503, "too_many_operations");
    assert!(!full.header("retry-after").is_empty());
    refused(&verify(&mut root).await, 503, "too_many_operations");
    // At once they are answered as ever, and everything else is.
    fine(&root.get("/api/v1/audit/verify").await);
    let key = root.issue(crate::keys::tests::wish()).await;
    let body = json!({ "operation": "revoke", "ids": [super::id_of(&key)] });
    let bulk = root.post("/api/v1/bulk", body).await;
    assert_eq!(bulk.status, StatusCode::ACCEPTED, "{}", bulk.text);
    let path = begun(&import(&mut root, "", &file(1), &[LATER]).await);
    assert_eq!(ended(&mut root, &path).await["state"], "done");
    // Who was refused has no place, and who has come to an end has given it back.
    drop((one, two));
    for _ in 0..3 {
        let path = begun(&count(&mut reader).await);
        assert_eq!(ended(&mut reader, &path).await["state"], "done");
    }
    let of_all = LaterRequest::ALL.map(LaterRequest::as_str);
    assert_eq!(of_all, ["audit_verify", "import", "hygiene"]);
}

/// Whoever may end anybody's keys is not kept from it by those who have keys of their own.
#[tokio::test]
async fn people_with_nothing_but_their_own_keys_leave_places_for_administrators() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let places = &server.server.app().key_service.places;
    let own = |name: &str| places.of_bulk(Some(&Actor::person(name)));
    let member = server.add_user("mia@example.org", &["member"]).await;
    let mut mia = server.sign_in_as(&member).await;
    let body = json!({ "operation": "tag", "tag": "x", "ids": ["nothing"] });
    // As if operations of people were at work: of many people two have a place, each for one.
    let hers = own("mia").unwrap();
    let two = own("two").unwrap();
    assert_eq!(own("two").unwrap_err().code, "too_many_operations");
    assert_eq!(own("three").unwrap_err().code, "too_many_operations");
    let refusal = mia.json(Method::POST, "/api/v1/bulk", &body).await;
    refused(&refusal, 503, "too_many_operations");
    let begun = root.post("/api/v1/bulk", body.clone()).await;
    assert_eq!(begun.status, StatusCode::ACCEPTED, "{}", begun.text);
    drop(hers);
    // Whoever was refused left no trace in the list of those at work.
    let three = own("three").unwrap();
    drop((two, three));
    let begun = mia.json(Method::POST, "/api/v1/bulk", &body).await;
    assert_eq!(begun.status, StatusCode::ACCEPTED, "{}", begun.text);
}

#[tokio::test]
async fn who_asks_again_waits_for_no_place() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let places = &server.server.app().key_service.places;
    let named = [LATER, ("idempotency-key", "an-import")];
    let first = import(&mut root, "dry_run=false", &file(3), &named).await;
    let path = begun(&first);
    ended(&mut root, &path).await;
    let key = root.issue(crate::keys::tests::wish()).await;
    let body = json!({ "operation": "disable", "ids": [super::id_of(&key)] });
    let named_bulk = [("idempotency-key", "a-bulk-change")];
    let bulk = "/api/v1/bulk";
    let bulk = root
        .send_with(Method::POST, bulk, body.clone(), &named_bulk)
        .await;
    assert_eq!(bulk.status, StatusCode::ACCEPTED, "{}", bulk.text);
    let (mut all, mut is_over) = (Vec::new(), false);
    for _ in 0..500 {
        all.extend(std::iter::from_fn(|| places.of_bulk(None).ok()));
        all.extend(std::iter::from_fn(|| places.of_import().ok()));
        is_over = all.len() == 6;
        if is_over {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(is_over, "{}", all.len());
    let again = import(&mut root, "dry_run=false", &file(3), &named).await;
    assert_eq!(begun(&again), path);
    assert_eq!(again.header("idempotency-replayed"), "true");
    let again = root
        .send_with(Method::POST, "/api/v1/bulk", body.clone(), &named_bulk)
        .await;
    assert_eq!(again.json()["id"], bulk.json()["id"], "{}", again.text);
    assert_eq!(again.header("idempotency-replayed"), "true");
    // Another request under the name is refused for what it is, and a new one has no place.
    let other = import(&mut root, "dry_run=false", &file(4), &named).await;
    refused(&other, 409, "idempotency_key_reused");
    let new = import(&mut root, "dry_run=false", &file(3), &[LATER]).await;
    refused(&new, 503, "too_many_operations");
    let new = root.post("/api/v1/bulk", body).await;
    refused(&new, 503, "too_many_operations");
}
