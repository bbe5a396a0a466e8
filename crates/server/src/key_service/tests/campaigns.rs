//! Hygiene campaigns: owners are asked, answer, and what they decide is done once.

use axum::http::Method;
use serde_json::{Value, json};

use super::{fine, id_of, key_of, refused, secret_of, verdict};
use crate::keys::tests::{Program, root, wish};
use crate::test_support::{Answer, Browser, TestServer};
use crate::webhooks::testing::{Receiver, run};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const CAMPAIGNS: &str = "/api/v1/hygiene/campaigns";

struct Key {
    id: String,
    text: String,
}

async fn key(root: &mut Program, owner: &str) -> Key {
    let issued = key_of(root, owner).await;
    Key {
        id: id_of(&issued),
        text: secret_of(&issued),
    }
}

fn campaign(server: &TestServer, unanswered: &str) -> Value {
    let due_at = server.server.app().now() + 10 * DAY_MS;
    json!({
        "name": "Autumn cleaning", "findings": ["never_used", "idle"], "idle_days": 1,
        "due_at": due_at, "unanswered": unanswered,
    })
}

async fn begin(root: &mut Program, body: Value) -> Value {
    let begun = root.post(CAMPAIGNS, body).await;
    assert_eq!(begun.status, 201, "{}", begun.text);
    begun.json()
}

fn at(campaign: &Value, key: &Key) -> String {
    let id = campaign["id"].as_str().unwrap();
    format!("{CAMPAIGNS}/{id}/questions/{}", key.id)
}

async fn send(browser: &mut Browser, path: &str, body: Value, more: (&str, &str)) -> Answer {
    let csrf = browser.cookie("csrf_token").unwrap().to_owned();
    let headers = [
        ("content-type", "application/json"),
        ("x-csrf-token", csrf.as_str()),
        more,
    ];
    browser
        .send(Method::POST, path, &headers, body.to_string().into())
        .await
}

async fn state(root: &mut Program, campaign: &Value, key: &Key) -> String {
    let id = campaign["id"].as_str().unwrap();
    let path = format!("{CAMPAIGNS}/{id}/questions?limit=100");
    let list = fine(&root.get(&path).await);
    let mut items = list["items"].as_array().unwrap().iter();
    let one = items.find(|one| one["key_id"] == key.id.as_str());
    one.map_or("not asked", |one| one["state"].as_str().unwrap())
        .to_owned()
}

async fn actions(server: &TestServer, action: &str) -> usize {
    let query = keywright_registry::AuditQuery {
        limit: 500,
        ..Default::default()
    };
    let page = server.registry().list_audit_events(query).await.unwrap();
    page.items.iter().filter(|one| one.action == action).count()
}

#[tokio::test]
async fn owners_are_asked_and_what_they_decide_is_done_once_also_after_a_sleep() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let ann = server.add_user("ann@example.org", &[]).await;
    run(&server).await;
    let (receiver, url) = Receiver::listen().await;
    let hook = json!({ "url": url, "events": ["hygiene.asked", "key.disabled"] });
    fine(&root.post("/api/v1/webhooks", hook).await);
    let mut keys = Vec::new();
    for _ in 0..6 {
        keys.push(key(&mut root, &ann.id).await);
    }
    let [kept, revoked, later, silent, woken, gone] = &keys[..] else {
        panic!("six keys");
    };
    // Bait is never used, and management keys may be the caller's own.
    let bait = json!({ "name": "Bait", "prefix": "sk_live", "scopes": [], "settings": { "canary": true } });
    root.issue(bait).await;
    server.pass(2 * DAY_MS);
    let mut dry = campaign(&server, "disable");
    dry["dry_run"] = json!(true);
    let tried = fine(&root.post(CAMPAIGNS, dry).await);
    assert!(tried["total"].as_u64().unwrap() >= 6, "{tried}");
    assert_eq!(fine(&root.get(CAMPAIGNS).await)["items"], json!([]));

    let begun = begin(&mut root, campaign(&server, "disable")).await;
    assert_eq!(
        (&begun["asked"], &begun["state"]),
        (&json!(6), &json!("running")),
        "{begun}"
    );
    assert_eq!(begun["questions"], json!({ "open": 6 }));
    // One message for one owner, once.
    for times in [1, 0] {
        run(&server).await;
        let got = receiver.take();
        assert_eq!(got.len(), times);
        for got in got {
            let data = got.json()["data"].clone();
            assert_eq!(data["owner_id"], ann.id.as_str(), "{data}");
            assert_eq!(data["keys"].as_array().unwrap().len(), 6);
        }
    }
    // Nobody is asked twice about the same.
    let second = begin(&mut root, campaign(&server, "disable")).await;
    assert_eq!(second["asked"], 0);

    let mut browser = server.sign_in_as(&ann).await;
    let now = server.server.app().now();
    let keep =
        json!({ "answer": "keep", "reason": "the yearly close", "until": now + 60 * DAY_MS });
    for (wrong, code) in [
        (
            json!({ "answer": "keep", "until": now + DAY_MS }),
            "reason_required",
        ),
        (
            json!({ "answer": "keep", "reason": "r", "until": now }),
            "out_of_bounds",
        ),
        (
            json!({ "answer": "keep", "reason": "r", "until": now + 367 * DAY_MS }),
            "out_of_bounds",
        ),
        (json!({ "answer": "keep", "reason": "r" }), "invalid_body"),
        (json!({ "answer": "retire" }), "invalid_body"),
        (json!({ "answer": "retire", "how": "burn" }), "invalid_body"),
        (json!({ "answer": "perhaps" }), "invalid_body"),
    ] {
        let answer = send(&mut browser, &at(&begun, kept), wrong, ("", "")).await;
        refused(&answer, 400, code);
    }
    let answer = send(&mut browser, &at(&begun, kept), keep.clone(), ("", "")).await;
    let answered = fine(&answer);
    assert_eq!(answered["question"]["state"], "keep");
    assert!(answered.get("receipt").is_none(), "{answered}");
    // At once, with a receipt; asked again under the same name it is not done again.
    let retire = json!({ "answer": "retire", "how": "revoke", "at_once": true });
    let name = ("idempotency-key", "retire-the-second");
    let ended = send(&mut browser, &at(&begun, revoked), retire.clone(), name).await;
    assert_eq!(fine(&ended)["receipt"]["complete"], true, "{}", ended.text);
    assert_eq!(verdict(&mut root, &revoked.text).await["code"], "revoked");
    let again = send(&mut browser, &at(&begun, revoked), retire.clone(), name).await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(fine(&again)["question"]["state"], "retired");
    let late = send(&mut browser, &at(&begun, revoked), keep.clone(), ("", "")).await;
    refused(&late, 409, "question_settled");
    // At the due date; decided otherwise before.
    for how in ["revoke", "disable"] {
        let retire = json!({ "answer": "retire", "how": how, "reason": "not mine any more" });
        fine(&send(&mut browser, &at(&begun, later), retire, ("", "")).await);
    }
    assert_eq!(verdict(&mut root, &later.text).await["code"], "valid");
    let own = fine(&browser.get("/api/v1/hygiene/questions?state=open").await);
    assert_eq!(own["items"].as_array().unwrap().len(), 3, "{own}");
    // Ended otherwise.
    server.pass(9 * DAY_MS);
    fine(
        &root
            .post(&format!("/api/v1/keys/{}/revoke", gone.id), json!({}))
            .await,
    );

    // The server slept over the due date. One key came into use before it.
    server.pass(DAY_MS - 1000);
    assert_eq!(verdict(&mut root, &woken.text).await["code"], "valid");
    run(&server).await;
    // Read, and not used: a use would be a reason to leave it alone.
    let read = fine(&root.get(&format!("/api/v1/keys/{}", silent.id)).await);
    assert_eq!(read["state"], "active", "before its time");
    let server = server.again().await;
    // The due date, and the next turn of whoever does it.
    server.pass(61_000);
    let mut root = crate::keys::tests::root(&server).await;
    receiver.take();
    run(&server).await;
    for (key, expected) in [
        (kept, "keep"),
        (revoked, "retired"),
        (later, "retired"),
        (silent, "disabled"),
        (woken, "cleared"),
        (gone, "gone"),
    ] {
        assert_eq!(state(&mut root, &begun, key).await, expected);
    }
    for (key, code) in [
        (kept, "valid"),
        (later, "disabled"),
        (silent, "disabled"),
        (woken, "valid"),
    ] {
        assert_eq!(verdict(&mut root, &key.text).await["code"], code);
    }
    run(&server).await;
    assert_eq!(receiver.kinds(), ["key.disabled", "key.disabled"]);
    let path = format!("{CAMPAIGNS}/{}", begun["id"].as_str().unwrap());
    let closed = fine(&root.get(&path).await);
    assert_eq!(closed["state"], "closed", "{closed}");
    assert!(closed["receipt"]["version"].is_i64(), "{closed}");
    // Once: what was enabled since stays so.
    let enable = format!("/api/v1/keys/{}/enable", silent.id);
    fine(&root.post(&enable, Value::Null).await);
    for _ in 0..3 {
        server.pass(DAY_MS);
        run(&server).await;
    }
    assert_eq!(verdict(&mut root, &silent.text).await["code"], "valid");
    assert_eq!(actions(&server, "hygiene.campaign_closed").await, 2);
    let mut browser = server.sign_in_as(&ann).await;
    let late = send(&mut browser, &at(&begun, kept), keep, ("", "")).await;
    refused(&late, 409, "campaign_over");
    // Kept is kept: until then nobody asks about it again.
    server.pass(20 * DAY_MS);
    let third = begin(&mut root, campaign(&server, "leave")).await;
    assert_eq!(state(&mut root, &third, kept).await, "not asked");
    assert_eq!(state(&mut root, &third, silent).await, "open");
    server.pass(40 * DAY_MS);
    run(&server).await;
    // Without the campaign's word, nothing happens to who says nothing.
    assert_eq!(state(&mut root, &third, silent).await, "unanswered");
    assert_eq!(verdict(&mut root, &silent.text).await["code"], "valid");
    let fourth = begin(&mut root, campaign(&server, "leave")).await;
    assert_eq!(state(&mut root, &fourth, kept).await, "open");
}

#[tokio::test]
async fn whoever_is_told_late_has_a_day_and_whoever_is_not_told_keeps_the_key() {
    for hooked in [true, false] {
        let server = TestServer::start().await;
        let mut root = root(&server).await;
        let ann = server.add_user("ann@example.org", &[]).await;
        let (receiver, url) = Receiver::listen().await;
        if hooked {
            let hook = json!({ "url": url, "events": ["hygiene.asked"] });
            fine(&root.post("/api/v1/webhooks", hook).await);
        }
        let silent = key(&mut root, &ann.id).await;
        server.pass(2 * DAY_MS);
        let begun = begin(&mut root, campaign(&server, "disable")).await;
        // It slept from here to the due date and longer.
        server.pass(11 * DAY_MS);
        receiver.take();
        run(&server).await;
        assert_eq!(state(&mut root, &begun, &silent).await, "open");
        let told = receiver.take();
        assert_eq!(told.len(), usize::from(hooked));
        if let Some(told) = told.first() {
            let until = server.server.app().now() + DAY_MS;
            let iso = crate::pages::dates::iso(until);
            assert_eq!(told.json()["data"]["due_at"], iso);
            // The same on their page, in the form and for programs.
            let list = fine(&root.get("/api/v1/hygiene/questions").await);
            assert_eq!(list["items"][0]["answers_until"], until, "{list}");
            assert_eq!(list["items"][0]["due_at"], begun["due_at"]);
            let shown = crate::pages::dates::shown(until);
            let due = crate::pages::dates::shown(begun["due_at"].as_i64().unwrap());
            let mut browser = server.sign_in_as(&ann).await;
            let page = "/account/api-keys/questions";
            let form = format!("{page}/{}/{}", begun["id"].as_str().unwrap(), silent.id);
            for path in [page, form.as_str()] {
                let text = browser.get(path).await.text;
                assert!(text.contains(&shown) && !text.contains(&due), "{text}");
            }
        }
        server.pass(DAY_MS);
        run(&server).await;
        let expected = if hooked { "disabled" } else { "unanswered" };
        assert_eq!(state(&mut root, &begun, &silent).await, expected);
        let code = if hooked { "disabled" } else { "valid" };
        assert_eq!(verdict(&mut root, &silent.text).await["code"], code);
    }
}

#[tokio::test]
async fn a_campaign_is_begun_once_under_its_name_cancelled_and_answered_by_nobody_else() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let ann = server.add_user("ann@example.org", &[]).await;
    let bob = server.add_user("bob@example.org", &[]).await;
    let (one, two) = (key(&mut root, &ann.id).await, key(&mut root, &ann.id).await);
    let service = id_of(&root.issue(wish()).await);
    server.pass(2 * DAY_MS);
    for (name, value, code) in [
        ("due_at", json!(server.server.app().now()), "out_of_bounds"),
        (
            "due_at",
            json!(server.server.app().now() + DAY_MS / 2),
            "out_of_bounds",
        ),
        (
            "due_at",
            json!(server.server.app().now() + 367 * DAY_MS),
            "out_of_bounds",
        ),
        ("findings", json!([]), "out_of_bounds"),
        ("findings", json!(["lonely"]), "invalid_body"),
        ("unanswered", json!("burn"), "invalid_body"),
        ("idle_days", json!(0), "out_of_bounds"),
        ("name", json!(""), "invalid_name"),
    ] {
        let mut wrong = campaign(&server, "disable");
        wrong[name] = value;
        refused(&root.post(CAMPAIGNS, wrong).await, 400, code);
    }
    let body = campaign(&server, "disable");
    let name = [("idempotency-key", "autumn-cleaning")];
    let mut ids = Vec::new();
    for status in [201, 200, 200] {
        let begun = root
            .send_with(Method::POST, CAMPAIGNS, body.clone(), &name)
            .await;
        assert_eq!(begun.status, status, "{}", begun.text);
        assert_eq!(begun.json()["asked"], 3);
        ids.push(begun.json()["id"].clone());
    }
    assert!(ids.iter().all(|id| *id == ids[0]));
    let begun = json!({ "id": ids[0] });
    // Somebody else's key is not there; nor is a question of another campaign.
    let mut stranger = server.sign_in_as(&bob).await;
    let retire = json!({ "answer": "retire", "how": "disable" });
    let other = send(&mut stranger, &at(&begun, &one), retire.clone(), ("", "")).await;
    refused(&other, 404, "key_not_found");
    let none = fine(&stranger.get("/api/v1/hygiene/questions").await);
    assert_eq!(none["items"], json!([]));
    let whose = format!("/api/v1/hygiene/questions?owner={}", ann.id);
    refused(&stranger.get(&whose).await, 403, "insufficient_scope");
    let mut browser = server.sign_in_as(&ann).await;
    let nowhere = json!({ "id": "none" });
    let nowhere = send(&mut browser, &at(&nowhere, &one), retire.clone(), ("", "")).await;
    refused(&nowhere, 404, "question_not_found");
    // Pages go on where the one before ended.
    let id = begun["id"].as_str().unwrap();
    for start in [
        format!("{CAMPAIGNS}/{id}/questions?limit=1"),
        "/api/v1/hygiene/questions?limit=1".to_owned(),
    ] {
        let (mut path, mut seen) = (start.clone(), Vec::new());
        loop {
            let page = fine(&root.get(&path).await);
            let items = page["items"].as_array().unwrap();
            seen.extend(items.iter().map(|one| one["key_id"].clone()));
            let Some(cursor) = page["next_cursor"].as_str() else {
                break;
            };
            path = format!("{start}&cursor={cursor}");
        }
        seen.sort_by_key(ToString::to_string);
        let mut all = [json!(one.id), json!(two.id), json!(service)];
        all.sort_by_key(ToString::to_string);
        assert_eq!(seen, all, "{start}");
    }
    // Called off: what was decided is not done, and nobody is suspended.
    fine(&send(&mut browser, &at(&begun, &one), retire.clone(), ("", "")).await);
    for _ in 0..2 {
        let path = format!("{CAMPAIGNS}/{id}/cancel");
        let cancelled = fine(&root.post(&path, Value::Null).await);
        assert_eq!(cancelled["state"], "cancelled");
        assert_eq!(cancelled["questions"], json!({ "cancelled": 3 }));
    }
    assert_eq!(actions(&server, "hygiene.campaign_cancelled").await, 1);
    server.pass(11 * DAY_MS);
    run(&server).await;
    for key in [&one, &two] {
        assert_eq!(verdict(&mut root, &key.text).await["code"], "valid");
    }
    let mut browser = server.sign_in_as(&ann).await;
    let late = send(&mut browser, &at(&begun, &one), retire, ("", "")).await;
    refused(&late, 409, "campaign_over");
}

#[tokio::test]
async fn a_person_answers_on_their_pages_without_scripts() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let ann = server.add_user("ann@example.org", &[]).await;
    let bob = server.add_user("bob@example.org", &[]).await;
    let (mine, theirs) = (key(&mut root, &ann.id).await, key(&mut root, &bob.id).await);
    let page = "/account/api-keys/questions";
    let mut browser = server.sign_in_as(&ann).await;
    assert!(!browser.get("/account/api-keys").await.text.contains(page));
    server.pass(2 * DAY_MS);
    let begun = begin(&mut root, campaign(&server, "leave")).await;
    let mut browser = server.sign_in_as(&ann).await;
    assert!(browser.get("/account/api-keys").await.text.contains(page));
    let campaign = begun["id"].as_str().unwrap();
    let path = format!("{page}/{campaign}/{}", mine.id);
    let list = browser.get(page).await;
    assert!(list.text.contains(&path) && list.text.contains("it was never used"));
    assert!(
        !list.text.contains(&theirs.id),
        "somebody else's key is shown"
    );
    let asked = browser.get(&path).await;
    assert_eq!(asked.status, 200);
    let csrf = asked.field("csrf_token").unwrap();
    let other = format!("{page}/{campaign}/{}", theirs.id);
    assert_eq!(browser.get(&other).await.status, 404);
    let fields = |decision, reason| {
        [
            ("csrf_token", csrf.as_str()),
            ("decision", decision),
            ("reason", reason),
        ]
    };
    let not_theirs = browser.post(&other, &fields("revoke_now", "")).await;
    assert_eq!(not_theirs.status, 404);
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let forged = browser.send(Method::POST, &path, &form, "decision=revoke_now".into());
    let forged = forged.await;
    assert_eq!(forged.status, 403, "{}", forged.text);
    for (decision, reason) in [("keep_90", " "), ("burn", "why"), ("", "")] {
        let wrong = browser.post(&path, &fields(decision, reason)).await;
        assert_eq!(wrong.status, 400, "{decision}");
    }
    let kept = browser
        .post(&path, &fields("keep_90", "<the yearly close>"))
        .await;
    assert_eq!(
        (kept.status.as_u16(), kept.location()),
        (303, "/account/api-keys/questions?done=answered")
    );
    let list = browser
        .get("/account/api-keys/questions?done=answered")
        .await;
    assert!(list.text.contains("&lt;the yearly close&gt;") && list.text.contains("Kept until"));
    assert_eq!(verdict(&mut root, &mine.text).await["code"], "valid");
    let ended = browser.post(&path, &fields("revoke_now", "")).await;
    assert_eq!(ended.status, 303);
    assert_eq!(verdict(&mut root, &mine.text).await["code"], "revoked");
    assert_eq!(verdict(&mut root, &theirs.text).await["code"], "valid");
    let over = browser.get(&path).await;
    assert_eq!(over.status, 409);
}
