//! What leaves and comes in: exports, imports, and keys that move to another registry.

use axum::http::{Method, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywright_domain::api_keys::{KeySettings, NewApiKey, OwnerKind};
use keywright_domain::audit::Actor;
use keywright_domain::scopes::ScopeSet;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{fine, id_of, refused, secret_of, verdict};
use crate::keys::tests::{Program, root, wish};
use crate::test_support::TestServer;

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn ac_122_an_export_is_whole_and_holds_no_secret() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let mut secrets = Vec::new();
    for _ in 0..50 {
        secrets.push(secret_of(&root.issue(wish()).await));
    }
    let export = root.get("/api/v1/export").await;
    assert_eq!(export.status, StatusCode::OK);
    assert_eq!(export.header("content-type"), "application/x-ndjson");
    assert_eq!(export.header("cache-control"), "no-store");
    let lines = lines(&export.text);
    assert_eq!(lines[0]["header"]["format"], "keywright-registry");
    // 50, and the root key.
    assert_eq!(lines.last().unwrap()["end"]["keys"], 51);
    for secret in secrets.iter().chain([&root.key]) {
        assert!(!export.text.contains(&secret[20..]));
        let digest = Sha256::digest(secret.as_bytes());
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!export.text.contains(&digest));
    }
}

pub(super) fn hash(key: &str) -> String {
    let digest = Sha256::digest(key.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) async fn import(
    root: &mut Program,
    query: &str,
    file: &str,
) -> crate::test_support::Answer {
    let bearer = format!("Bearer {}", root.key);
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/x-ndjson"),
    ];
    let path = format!("/api/v1/import?{query}");
    let body = file.to_owned().into();
    root.browser.send(Method::POST, &path, &headers, body).await
}

#[tokio::test]
async fn an_import_is_tried_first_told_by_line_and_changes_nothing_twice() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let (one, two) = (
        "old-system-key-one-0123456789",
        "old-system-key-two-0123456789",
    );
    let line = |key: &str, scope: &str| json!({ "name": "Old", "hash": hash(key), "scopes": [scope], "expires_at": 1_830_000_000_000_i64 });
    let file = format!(
        "{}\n{}\nnonsense\n{}\n",
        line(one, "orders:read"),
        line(two, "unknown:thing"),
        line(two, "orders:read")
    );
    let tried = fine(&import(&mut root, "", &file).await);
    assert_eq!(tried["dry_run"], true, "{tried}");
    let numbers = |view: &Value, list: &str| -> Vec<u64> {
        let list = view[list].as_array().unwrap().iter();
        list.map(|one| one["line"].as_u64().unwrap()).collect()
    };
    assert_eq!(numbers(&tried, "imported"), [1, 4], "{tried}");
    assert_eq!(numbers(&tried, "refused"), [2, 3]);
    assert_eq!(tried["refused"][0]["code"], "unknown_scope");
    assert_eq!(
        verdict(&mut root, one).await["valid"],
        false,
        "a dry run wrote something"
    );
    let done = fine(&import(&mut root, "dry_run=false", &file).await);
    assert_eq!(numbers(&done, "imported"), [1, 4], "{done}");
    for key in [one, two] {
        assert_eq!(verdict(&mut root, key).await["code"], "valid", "{key}");
    }
    let again = fine(&import(&mut root, "dry_run=false", &file).await);
    assert_eq!(numbers(&again, "imported"), [] as [u64; 0]);
    // Its hash is there by now, whatever else the line says.
    assert_eq!(numbers(&again, "present"), [1, 2, 4]);
    assert_eq!(again["present"][0]["key_id"], done["imported"][0]["key_id"]);
    let csv = format!(
        "name,hash,scopes,expires_at\nOld,{},orders:read,1830000000000\n",
        hash("third-key-of-old-0123456789")
    );
    let table = fine(&import(&mut root, "format=csv&dry_run=false", &csv).await);
    assert_eq!(numbers(&table, "imported"), [2], "{table}");
    for (query, code) in [
        ("format=xml", "invalid_parameter"),
        ("dryrun=false", "unknown_parameter"),
        ("dry_run=perhaps", "invalid_parameter"),
        ("owner_kind=person", "invalid_parameter"),
    ] {
        refused(&import(&mut root, query, &file).await, 400, code);
    }
    refused(
        &import(&mut root, "format=csv", "nothing\n").await,
        400,
        "import_malformed",
    );
    let large = "x".repeat(33 * 1024 * 1024);
    assert_eq!(
        import(&mut root, "", &large).await.status,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    // Larger than other bodies may be, and still taken.
    let usual = format!("{}\n", line(one, "orders:read")).repeat(4000);
    let taken = fine(&import(&mut root, "dry_run=false", &usual).await);
    assert_eq!(numbers(&taken, "present").len(), 4000);
}

pub(super) struct Moved {
    bundle: Value,
    peppers: String,
    offer: String,
}

pub(super) async fn bundle(from: &mut Program, to: &mut Program, ids: &[String]) -> Moved {
    let offer = fine(&to.post("/api/v1/promotions/offers", Value::Null).await);
    let body = json!({ "key_ids": ids, "recipient": offer["recipient"] });
    let made = fine(&from.post("/api/v1/promotions/bundles", body).await);
    assert_eq!(made["refused"], json!([]), "{made}");
    Moved {
        bundle: made["bundle"].clone(),
        peppers: made["peppers"].as_str().unwrap().to_owned(),
        offer: offer["offer"].as_str().unwrap().to_owned(),
    }
}

pub(super) fn body(moved: &Moved, dry_run: bool) -> Value {
    json!({ "offer": moved.offer, "peppers": moved.peppers, "bundle": moved.bundle, "dry_run": dry_run })
}

#[tokio::test]
async fn ac_155_a_key_moves_and_its_string_works_before_during_and_after() {
    let (here, there) = (TestServer::start().await, TestServer::start().await);
    let (mut from, mut to) = (root(&here).await, root(&there).await);
    let issued = from.issue(wish()).await;
    let (id, key) = (id_of(&issued), secret_of(&issued));
    assert_eq!(verdict(&mut to, &key).await["valid"], false);
    let moved = bundle(&mut from, &mut to, std::slice::from_ref(&id)).await;
    let text = moved.bundle.to_string();
    assert!(!text.contains(&key[20..]) && !text.contains(&hash(&key)));
    let tried = fine(&to.post("/api/v1/promotions", body(&moved, true)).await);
    assert_eq!(
        (&tried["dry_run"], &tried["accepted"]),
        (&json!(true), &json!([id])),
        "{tried}"
    );
    assert_eq!(
        verdict(&mut to, &key).await["valid"],
        false,
        "a dry run wrote something"
    );
    let taken = fine(&to.post("/api/v1/promotions", body(&moved, false)).await);
    assert_eq!(taken["accepted"], json!([id]), "{taken}");
    assert_eq!(verdict(&mut to, &key).await["code"], "valid");
    assert_eq!(verdict(&mut from, &key).await["code"], "valid");
    let again = fine(&to.post("/api/v1/promotions", body(&moved, false)).await);
    assert_eq!(
        (&again["accepted"], &again["present"]),
        (&json!([]), &json!([id]))
    );
    let left = json!({ "key_ids": [id], "remote": "keys.example.org" });
    assert_eq!(
        fine(&from.post("/api/v1/promotions/left", left).await)["refused"],
        json!([])
    );
    let rotate = format!("/api/v1/keys/{id}/rotations");
    refused(&from.post(&rotate, Value::Null).await, 409, "key_promoted");
    assert_eq!(
        verdict(&mut from, &key).await["code"],
        "valid",
        "the copy verifies"
    );
    let ended = fine(
        &from
            .post(
                &format!("/api/v1/keys/{id}/end-copy"),
                json!({ "reason": "moved" }),
            )
            .await,
    );
    assert_eq!(ended["receipt"]["complete"], true, "{ended}");
    assert_eq!(verdict(&mut from, &key).await["code"], "revoked");
    assert_eq!(verdict(&mut to, &key).await["code"], "valid");
    let kept = id_of(&from.issue(wish()).await);
    refused(
        &from
            .post(&format!("/api/v1/keys/{kept}/end-copy"), json!({}))
            .await,
        409,
        "key_not_promoted",
    );
    // The pepper that came with it is there after a restart.
    let there = there.again().await;
    let mut to = root(&there).await;
    assert_eq!(verdict(&mut to, &key).await["code"], "valid");
}

#[tokio::test]
async fn whom_a_bundle_names_as_the_creator_is_not_believed() {
    let (here, there) = (TestServer::start().await, TestServer::start().await);
    let (mut from, mut to) = (root(&here).await, root(&there).await);
    // Whoever makes a bundle can name anybody: here somebody who is known at the other end.
    let all = ScopeSet::parse("orders:*").unwrap();
    let mut ids = Vec::new();
    for server in [&here, &there] {
        let (registry, actor) = (server.registry(), Actor::person("test"));
        let made = registry.create_principal(&actor, "victim", OwnerKind::Service, "Victim", &all);
        made.await.unwrap();
    }
    for _ in 0..2 {
        let wish = NewApiKey {
            name: "Named".into(),
            prefix: "sk_live".into(),
            scopes: vec!["orders:read".into()],
            lifetime_ms: Some(90 * 24 * 60 * 60 * 1000),
            allow_never_expires: false,
            environment: None,
            owner: None,
            creator: Some("victim".into()),
            not_before: None,
            settings: KeySettings::default(),
            management: false,
        };
        let (actor, peppers) = (Actor::person("test"), here.server.app().peppers().unwrap());
        let issued = here.registry().issue_api_key(&actor, &wish, &peppers).await;
        ids.push(issued.unwrap().key.id);
    }
    let creator = async |id: &str| {
        let (key, _) = there.registry().find_api_key(id).await.unwrap();
        key.creator
    };
    // A program takes it: there is no person whose name it could use, as for keys that it issues.
    let moved = bundle(&mut from, &mut to, &ids[..1]).await;
    let named = &moved.bundle["body"]["keys"][0]["creator"];
    assert_eq!(
        named, "victim",
        "the bundle names nobody: the test shows nothing"
    );
    let taken = fine(&to.post("/api/v1/promotions", body(&moved, false)).await);
    assert_eq!(taken["accepted"], json!([ids[0]]), "{taken}");
    assert_eq!(creator(&ids[0]).await, None);
    // A person takes it: it is theirs to answer for.
    let moved = bundle(&mut from, &mut to, &ids[1..]).await;
    let bob = there.add_user("bob@example.org", &["owner"]).await;
    let mut browser = there.sign_in_as(&bob).await;
    let csrf = browser.cookie("csrf_token").unwrap().to_owned();
    let headers = [
        ("content-type", "application/json"),
        ("x-csrf-token", csrf.as_str()),
    ];
    let text = body(&moved, false).to_string();
    let taken = browser.send(Method::POST, "/api/v1/promotions", &headers, text.into());
    assert_eq!(fine(&taken.await)["accepted"], json!([ids[1]]));
    assert_eq!(creator(&ids[1]).await, Some(bob.id));
}

#[tokio::test]
async fn ac_155_a_bundle_that_was_changed_or_is_for_somebody_else_takes_nothing() {
    let (here, there) = (TestServer::start().await, TestServer::start().await);
    let (mut from, mut to) = (root(&here).await, root(&there).await);
    let issued = from.issue(wish()).await;
    let (id, key) = (id_of(&issued), secret_of(&issued));
    let moved = bundle(&mut from, &mut to, std::slice::from_ref(&id)).await;
    let mut changed = body(&moved, false);
    changed["bundle"]["body"]["keys"][0]["scopes"] = json!("orders:write");
    refused(
        &to.post("/api/v1/promotions", changed).await,
        400,
        "bundle_altered",
    );
    // The peppers are for the offer they were sealed for.
    let other = bundle(&mut from, &mut to, std::slice::from_ref(&id)).await;
    let mut crossed = body(&moved, false);
    crossed["offer"] = json!(other.offer);
    refused(
        &to.post("/api/v1/promotions", crossed).await,
        400,
        "wrong_recipient",
    );
    let mut forged = body(&moved, false);
    forged["offer"] = json!(STANDARD.encode("an offer of mine"));
    refused(
        &to.post("/api/v1/promotions", forged).await,
        400,
        "invalid_offer",
    );
    // Another server's offer does not open here, and its own comes back to nobody.
    refused(
        &from.post("/api/v1/promotions", body(&moved, false)).await,
        400,
        "invalid_offer",
    );
    let own = bundle(&mut from, &mut to, std::slice::from_ref(&id)).await;
    let offer = fine(&from.post("/api/v1/promotions/offers", Value::Null).await);
    let back = json!({ "key_ids": [id], "recipient": offer["recipient"] });
    let back = fine(&from.post("/api/v1/promotions/bundles", back).await);
    let back =
        json!({ "offer": offer["offer"], "peppers": back["peppers"], "bundle": back["bundle"] });
    refused(
        &from.post("/api/v1/promotions", back).await,
        409,
        "bundle_own",
    );
    assert_eq!(verdict(&mut to, &key).await["valid"], false);
    let peppers = |server: &TestServer| server.server.app().peppers().unwrap().iter().count();
    assert_eq!(peppers(&there), 1, "a pepper of a refused bundle was kept");
    // An offer ends.
    there.pass(60 * 60 * 1000);
    refused(
        &to.post("/api/v1/promotions", body(&own, false)).await,
        400,
        "invalid_offer",
    );
    let none = json!({ "key_ids": [], "recipient": offer["recipient"] });
    refused(
        &from.post("/api/v1/promotions/bundles", none).await,
        400,
        "bundle_too_large",
    );
    let whom = json!({ "key_ids": [id], "recipient": "somebody" });
    refused(
        &from.post("/api/v1/promotions/bundles", whom).await,
        400,
        "invalid_recipient",
    );
}

#[test]
fn a_peppers_id_that_came_from_elsewhere_never_leads_out_of_the_folder() {
    use keywright_domain::api_keys::Pepper;
    use keywright_registry::PepperKey;
    let folder = tempfile::tempdir().unwrap();
    let secrets = crate::ServerSecrets::create(&folder.path().join("secrets")).unwrap();
    let pepper = |id: &str| PepperKey {
        id: id.to_owned(),
        pepper: Pepper::generate(&mut rand::rng()),
    };
    for id in ["", "../../x", "a/b", "a..b", "a\0b", "ä", &"x".repeat(200)] {
        assert!(secrets.keep_pepper(&pepper(id)).is_err(), "{id:?}");
    }
    let one = pepper("registry.pepper");
    secrets.keep_pepper(&one).unwrap();
    secrets.keep_pepper(&one).unwrap();
    assert!(
        secrets.keep_pepper(&pepper("registry.pepper")).is_err(),
        "another of this name"
    );
    assert_eq!(
        secrets.pepper("registry.pepper").unwrap().pepper.expose(),
        one.pepper.expose()
    );
}
