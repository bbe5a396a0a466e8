//! What is told, and done next, when a server answers late, oddly or not at all.

use std::sync::Arc;
use std::time::Duration;

use keywright_domain::api_keys::RotationRequest;
use keywright_protocol::api_keys::RevokeApiKeyRequest;
use keywright_protocol::promotion::PromotionRequest;
use keywright_registry::TransferIdentity;
use serde_json::{Value, json};

use super::{Asked, Outcome, Server, issued_here, key, remote, signed_in};
use crate::App;
use crate::clock::now_ms;
use crate::remote::queue::Waiting;

/// An app whose revocations of these keys wait.
async fn waiting(
    server: &Arc<Server>,
    folder: &std::path::Path,
    ids: &[&str],
) -> anyhow::Result<App> {
    let app = signed_in(folder, &server.url).await?;
    app.choose_registry(Some("a1".to_owned())).await?;
    let account = app.inner.registry.get().await?.find_account("a1").await?;
    for id in ids {
        app.remote(&account)?.kept().queue.add(Waiting {
            key_id: (*id).to_owned(),
            name: "a".to_owned(),
            reason: "leaked".to_owned(),
            queued_at: 1,
            refused: None,
        })?;
        server.says(
            &format!("POST /api/v1/keys/{id}/revoke"),
            200,
            &key(id, "a"),
        );
    }
    Ok(app)
}

#[tokio::test]
async fn ac_152_a_revocation_that_was_taken_back_is_not_carried_out() -> Outcome {
    let server = Server::start().await?;
    let folder = tempfile::tempdir()?;
    let app = waiting(&server, folder.path(), &["k1", "k2"]).await?;
    let gate = server.hold("POST /api/v1/keys/k1/revoke");
    let retrying = tokio::spawn({
        let app = app.clone();
        async move { app.retry_revocations("a1".to_owned()).await.map(drop) }
    });
    server.is_asked("POST /api/v1/keys/k1/revoke").await?;
    // While the server is asked for the first, both are taken back: the first waits for the answer.
    let back = |id: &str| app.discard_revocation("a1".to_owned(), id.to_owned());
    let (first, second, ()) = tokio::join!(back("k1"), back("k2"), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        gate.add_permits(10);
    });
    retrying.await??;
    let done = first.expect_err("it was carried out");
    assert_eq!(done.code(), "revocation_not_waiting");
    assert!(second?.servers[0].queued_revocations.is_empty());
    let lines = server.lines();
    assert!(!lines.iter().any(|line| line.contains("k2")), "{lines:?}");
    // What does not wait is taken back as often as one likes.
    back("k1").await?;
    app.close().await;
    Ok(())
}

#[tokio::test]
async fn one_key_that_a_server_fails_at_holds_no_other_up() -> Outcome {
    let server = Server::start().await?;
    let folder = tempfile::tempdir()?;
    let app = waiting(&server, folder.path(), &["k1", "k2"]).await?;
    let fault = json!({ "code": "internal", "detail": "odd" });
    server.says("POST /api/v1/keys/k1/revoke", 500, &fault);
    let view = app.retry_revocations("a1".to_owned()).await?;
    let left = &view.servers[0].queued_revocations;
    assert_eq!(left.len(), 1);
    assert!(left[0].key_id == "k1" && left[0].refused.is_none());
    assert_eq!(view.servers[0].offline_since, None, "it answered");
    // One that takes no more requests, or is away, is left alone.
    for status in [429, 503, 502] {
        server.says("POST /api/v1/keys/k1/revoke", status, &fault);
        app.retry_revocations("a1".to_owned()).await?;
        let account = app.inner.registry.get().await?.find_account("a1").await?;
        app.remote(&account)?.kept().queue.add(Waiting {
            key_id: "k3".to_owned(),
            name: "a".to_owned(),
            reason: String::new(),
            queued_at: 1,
            refused: None,
        })?;
        server.asked();
        app.retry_revocations("a1".to_owned()).await?;
        let lines = server.lines();
        assert!(!lines.iter().any(|line| line.contains("k3")), "{lines:?}");
    }
    app.close().await;
    Ok(())
}

#[tokio::test]
async fn a_rotation_without_an_answer_keeps_its_new_secret() -> Outcome {
    let server = Server::start().await?;
    let remote = remote(&server)?;
    let rotate = |id: &'static str| {
        let remote = remote.clone();
        async move {
            let request = RotationRequest::default();
            remote.rotate_api_key("k1", &request, id).await
        }
    };
    let kid_of = |asked: &Asked| -> anyhow::Result<String> {
        let (_, body) = asked.text.split_once("\r\n\r\n").unwrap();
        let body: Value = serde_json::from_str(body)?;
        Ok(body["client_secret"]["kid"].as_str().unwrap().to_owned())
    };
    server.says("GET /api/v1/keys/k1", 200, &key("k1", "a"));
    let path = "POST /api/v1/keys/k1/rotations";
    server.says(path, 502, &json!({ "code": "bad_gateway" }));
    let unknown = rotate("once").await.expect_err("no answer");
    assert_eq!(unknown.code(), "commit_unknown");
    let asked = server.asked();
    let sent = asked.iter().find(|one| one.line == path).unwrap();
    let kid = kid_of(sent)?;
    // It looked before it said so.
    assert_eq!(asked.last().unwrap().line, "GET /api/v1/keys/k1");

    // The server knows that it does not know.
    server.says(path, 503, &json!({ "code": "commit_unknown" }));
    let unknown = rotate("once").await.expect_err("a lost commit");
    assert_eq!(unknown.code(), "commit_unknown");
    // Then it is away: the secret is kept all the same.
    server.says(path, 503, &json!({ "code": "store_unavailable" }));
    let away = rotate("once").await.expect_err("away");
    assert_eq!(away.code(), "registry_offline");
    remote.kept().answered(now_ms());

    // A retry asks for the same secret again, and finds that the server has it.
    let mut rotated = key("k1", "a");
    rotated["secrets"][0]["kid"] = json!(kid);
    server.says("GET /api/v1/keys/k1", 200, &rotated);
    server.says(path, 502, &json!({ "code": "bad_gateway" }));
    server.asked();
    let issued = rotate("once").await?;
    assert_eq!(issued.plain.kid().as_str(), kid);
    let asked = server.asked();
    let sent = asked.iter().find(|one| one.line == path).unwrap();
    assert_eq!(kid_of(sent)?, kid);

    // It is known now: the next rotation has a secret of its own, whatever it is called.
    server.says(path, 201, &json!({ "key": rotated }));
    let next = rotate("once").await?;
    assert_ne!(next.plain.kid().as_str(), kid);
    Ok(())
}

#[tokio::test]
async fn a_rotation_that_is_asked_for_with_other_terms_loses_no_secret() -> Outcome {
    let server = Server::start().await?;
    let remote = remote(&server)?;
    let rotate = |id: &'static str, overlap_ms: i64| {
        let remote = remote.clone();
        async move {
            let request = RotationRequest {
                overlap_ms,
                ..RotationRequest::default()
            };
            remote.rotate_api_key("k1", &request, id).await
        }
    };
    let path = "POST /api/v1/keys/k1/rotations";
    let sent_kid = || -> anyhow::Result<String> {
        let asked = server.asked();
        let sent = asked.iter().find(|one| one.line == path).unwrap();
        let (_, body) = sent.text.split_once("\r\n\r\n").unwrap();
        let body: Value = serde_json::from_str(body)?;
        Ok(body["client_secret"]["kid"].as_str().unwrap().to_owned())
    };
    let lost = json!({ "code": "bad_gateway" });
    let reused = json!({ "code": "idempotency_key_reused", "detail": "with other terms" });
    server.says("GET /api/v1/keys/k1", 200, &key("k1", "a"));
    server.says(path, 502, &lost);
    let unknown = rotate("once", 0).await.expect_err("no answer");
    assert_eq!(unknown.code(), "commit_unknown");
    let kid = sent_kid()?;
    // It was done: the server has the secret that is kept here and nowhere else.
    let mut rotated = key("k1", "a");
    rotated["secrets"][0]["kid"] = json!(kid);
    server.says("GET /api/v1/keys/k1", 200, &rotated);
    server.says(path, 409, &reused);
    let issued = rotate("once", 86_400_000).await?;
    assert_eq!(issued.plain.kid().as_str(), kid);

    // Another one was done with another secret: that is certain, and ours is forgotten.
    server.says(path, 502, &lost);
    let unknown = rotate("twice", 0).await.expect_err("no answer");
    assert_eq!(unknown.code(), "commit_unknown");
    server.asked();
    server.says(path, 409, &reused);
    let done = rotate("twice", 86_400_000).await.expect_err("another's");
    assert_eq!(done.code(), "rotation_already_done");
    let kid = sent_kid()?;
    server.says(path, 201, &json!({ "key": rotated }));
    let next = rotate("twice", 86_400_000).await?;
    assert_ne!(next.plain.kid().as_str(), kid);
    Ok(())
}

#[tokio::test]
async fn ac_155_a_move_without_an_answer_is_looked_for() -> Outcome {
    let server = Server::start().await?;
    let folder = tempfile::tempdir()?;
    let app = signed_in(folder.path(), &server.url).await?;
    let (id, _) = issued_here(&app).await?;
    let registry = app.inner.registry.get().await?;
    let recipient = TransferIdentity::generate().recipient().to_string();
    let offer =
        json!({ "registry_id": "r", "recipient": recipient, "offer": "o", "expires_at": 0 });
    server.says("POST /api/v1/promotions/offers", 200, &offer);
    server.says(
        "POST /api/v1/promotions",
        504,
        &json!({ "code": "gateway_timeout" }),
    );
    let request = || PromotionRequest {
        account_id: "a1".into(),
        key_ids: vec![id.clone()],
        dry_run: false,
    };
    // It is not there, or not yet; nor is it a stranger's key of the same id.
    let unknown = app.promote_keys(request()).await.expect_err("unknown");
    assert_eq!(unknown.code(), "commit_unknown");
    let there = format!("GET /api/v1/keys/{id}");
    server.says(&there, 200, &key(&id, "another"));
    let unknown = app.promote_keys(request()).await.expect_err("unknown");
    assert_eq!(unknown.code(), "commit_unknown");
    let (here, _) = registry.find_api_key(&id).await?;
    assert_eq!(here.promoted_to, None);

    // It is there.
    let mut moved = key(&id, "moving");
    moved["secrets"][0]["kid"] = json!(here.secrets[0].kid.to_string());
    server.says(&there, 200, &moved);
    let view = app.promote_keys(request()).await?;
    assert_eq!((view.moved.len(), view.refused.len()), (1, 0));
    let (here, _) = registry.find_api_key(&id).await?;
    assert_eq!(here.promoted_to.as_deref(), Some(server.url.as_str()));
    app.close().await;
    Ok(())
}

#[tokio::test]
async fn ac_155_what_moved_is_told_although_the_rest_is_stopped() -> Outcome {
    let server = Server::start().await?;
    let folder = tempfile::tempdir()?;
    let app = signed_in(folder.path(), &server.url).await?;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(issued_here(&app).await?.0);
    }
    ids.sort();
    let recipient = TransferIdentity::generate().recipient().to_string();
    let offer =
        json!({ "registry_id": "r", "recipient": recipient, "offer": "o", "expires_at": 0 });
    server.says("POST /api/v1/promotions/offers", 200, &offer);
    // Two keys at once in tests: both are taken, one of them is revoked here meanwhile.
    let answer =
        json!({ "dry_run": false, "accepted": [ids[0], ids[1]], "present": [], "refused": [] });
    server.says("POST /api/v1/promotions", 200, &answer);
    let gate = server.hold("POST /api/v1/promotions");
    let request = PromotionRequest {
        account_id: "a1".into(),
        key_ids: ids.clone(),
        dry_run: false,
    };
    let (view, stopped) = tokio::join!(app.promote_keys(request), async {
        server.is_asked("POST /api/v1/promotions").await?;
        let request = RevokeApiKeyRequest {
            id: ids[0].clone(),
            reason: "leaked".to_owned(),
        };
        app.revoke_api_key(request).await?;
        let refused = json!({ "code": "insufficient_scope", "detail": "no more" });
        server.says("POST /api/v1/promotions", 403, &refused);
        gate.add_permits(10);
        anyhow::Ok(())
    });
    stopped?;
    let view = view?;
    assert_eq!(
        (view.moved.len(), view.moved[0].key_id.as_str()),
        (1, ids[1].as_str())
    );
    assert_eq!(view.in_both_places[0].key_id, ids[0]);
    assert_eq!(
        view.problem.map(|problem| problem.code).as_deref(),
        Some("insufficient_scope")
    );
    app.close().await;
    Ok(())
}

#[tokio::test]
async fn ac_155_what_was_taken_is_told_although_this_device_cannot_note_it() -> Outcome {
    let server = Server::start().await?;
    let folder = tempfile::tempdir()?;
    let app = signed_in(folder.path(), &server.url).await?;
    let ids = [issued_here(&app).await?.0, issued_here(&app).await?.0];
    let recipient = TransferIdentity::generate().recipient().to_string();
    let offer =
        json!({ "registry_id": "r", "recipient": recipient, "offer": "o", "expires_at": 0 });
    server.says("POST /api/v1/promotions/offers", 200, &offer);
    let answer = json!({ "dry_run": false, "accepted": ids, "present": [], "refused": [] });
    server.says("POST /api/v1/promotions", 200, &answer);
    let gate = server.hold("POST /api/v1/promotions");
    let request = || PromotionRequest {
        account_id: "a1".into(),
        key_ids: ids.to_vec(),
        dry_run: false,
    };
    // The server takes both, and the file here cannot be written any more.
    let (view, closed) = tokio::join!(app.promote_keys(request()), async {
        server.is_asked("POST /api/v1/promotions").await?;
        app.inner.registry.get().await?.close().await;
        gate.add_permits(10);
        anyhow::Ok(())
    });
    closed?;
    let view = view?;
    let both: Vec<_> = view.in_both_places.iter().map(|one| &one.key_id).collect();
    assert!(ids.iter().all(|id| both.contains(&id)), "{view:?}");
    assert!(view.moved.is_empty() && view.refused.is_empty());
    let problem = view.problem.expect("why it stopped");
    assert_eq!(view.in_both_places[0].code, problem.code);

    // The same move once more goes on; and once more it is done already, and not refused.
    let mut again = super::app(folder.path())?;
    let inner = Arc::get_mut(&mut again.inner).unwrap();
    inner.keychain = app.inner.keychain.clone();
    super::hold_token(&again);
    let present = json!({ "dry_run": false, "accepted": [], "present": ids, "refused": [] });
    server.says("POST /api/v1/promotions", 200, &present);
    for asked in [true, false] {
        server.asked();
        let view = again.promote_keys(request()).await?;
        assert_eq!((view.moved.len(), view.refused.len()), (2, 0), "{view:?}");
        assert!(view.in_both_places.is_empty() && view.problem.is_none());
        assert_eq!(!server.asked().is_empty(), asked);
    }
    again.close().await;
    Ok(())
}

#[tokio::test]
async fn ac_155_a_key_that_is_revoked_on_its_way_is_live_in_both_places() -> Outcome {
    let server = Server::start().await?;
    let folder = tempfile::tempdir()?;
    let app = signed_in(folder.path(), &server.url).await?;
    let (id, _) = issued_here(&app).await?;
    let recipient = TransferIdentity::generate().recipient().to_string();
    let offer =
        json!({ "registry_id": "r", "recipient": recipient, "offer": "o", "expires_at": 0 });
    server.says("POST /api/v1/promotions/offers", 200, &offer);
    let answer = json!({ "dry_run": false, "accepted": [id], "present": [], "refused": [] });
    server.says("POST /api/v1/promotions", 200, &answer);
    let gate = server.hold("POST /api/v1/promotions");
    let request = PromotionRequest {
        account_id: "a1".into(),
        key_ids: vec![id.clone()],
        dry_run: false,
    };
    let (view, revoked) = tokio::join!(app.promote_keys(request), async {
        server.is_asked("POST /api/v1/promotions").await?;
        let request = RevokeApiKeyRequest {
            id: id.clone(),
            reason: "leaked".to_owned(),
        };
        app.revoke_api_key(request).await?;
        gate.add_permits(1);
        anyhow::Ok(())
    });
    revoked?;
    let view = view?;
    assert!(view.moved.is_empty(), "it was not left to the server");
    let both = &view.in_both_places;
    assert_eq!((both.len(), both[0].key_id.as_str()), (1, id.as_str()));
    assert_eq!(
        (both[0].code.as_str(), both[0].name.as_str()),
        ("key_revoked", "moving")
    );
    app.close().await;
    Ok(())
}

#[tokio::test]
async fn ac_152_what_waits_is_shown_after_a_sign_out_and_done_after_the_next_sign_in() -> Outcome {
    let server = Server::start().await?;
    let folder = tempfile::tempdir()?;
    let app = waiting(&server, folder.path(), &["k1", "k2"]).await?;
    assert!(app.list_registries().await?.signed_out.is_empty());
    app.sign_out("a1".to_owned()).await?;
    app.close().await;
    drop(app);

    let app = super::app(folder.path())?;
    let view = app.list_registries().await?;
    assert!(view.servers.is_empty());
    let left = &view.signed_out[0];
    assert_eq!(
        (left.issuer.as_str(), left.account_name.as_str()),
        (server.url.as_str(), "Ada")
    );
    let keys = left.queued_revocations.iter().map(|one| &*one.key_id);
    assert_eq!(keys.collect::<Vec<_>>(), ["k1", "k2"]);
    let unchanged = app.forget_revocations("..".to_owned()).await?;
    assert_eq!(unchanged.signed_out, view.signed_out);

    // The next sign-in finds them; nobody is left out meanwhile.
    super::sign_in(&app, &server.url).await?;
    let view = app.list_registries().await?;
    assert!(view.signed_out.is_empty());
    assert_eq!(view.servers[0].queued_revocations.len(), 2);
    let view = app.retry_revocations("a1".to_owned()).await?;
    assert!(view.servers[0].queued_revocations.is_empty());
    app.sign_out("a1".to_owned()).await?;
    assert!(
        app.list_registries().await?.signed_out.is_empty(),
        "done is done"
    );
    app.close().await;
    Ok(())
}

#[tokio::test]
async fn what_waits_after_a_sign_out_can_be_taken_back() -> Outcome {
    let server = Server::start().await?;
    let folder = tempfile::tempdir()?;
    let app = waiting(&server, folder.path(), &["k1", "k2"]).await?;
    app.sign_out("a1".to_owned()).await?;
    let left = app.list_registries().await?.signed_out.remove(0);
    let view = app.forget_revocations(left.id).await?;
    assert!(view.signed_out.is_empty());
    super::sign_in(&app, &server.url).await?;
    let view = app.list_registries().await?;
    assert!(view.servers[0].queued_revocations.is_empty());
    app.close().await;
    Ok(())
}

#[tokio::test]
async fn ac_152_what_waits_is_tried_also_where_the_registry_opened_late() -> Outcome {
    let server = Server::start().await?;
    let folder = tempfile::tempdir()?;
    let app = waiting(&server, folder.path(), &["k1"]).await?;
    let file = app.inner.registry.file().to_owned();
    app.close().await;
    drop(app);
    let aside = file.with_extension("aside");
    std::fs::rename(&file, &aside)?;
    std::fs::write(
        &file,
        "not a database, and longer than any header of one would be",
    )?;

    let app = super::app(folder.path())?;
    super::hold_token(&app);
    app.start();
    assert!(!app.app_info().await?.registry.healthy);
    std::fs::rename(&aside, &file)?;
    assert!(app.retry_registry().await?.healthy);
    server.is_asked("POST /api/v1/keys/k1/revoke").await?;
    app.close().await;
    Ok(())
}
