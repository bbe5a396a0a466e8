use std::sync::{Arc, Mutex};

use keywright_protocol::accounts::SignInProgressView;
use keywright_protocol::api_keys::IssueApiKeyRequest;
use keywright_protocol::notices::{NoticeKind, NoticeListRequest};
use serde_json::{Value, json};

use super::Arrived;
use crate::remote::tests::{Outcome, Server, app_with, sign_in};
use crate::{App, EventListener};

/// What a face was told.
#[derive(Default)]
struct Told {
    arrived: Mutex<Vec<Arrived>>,
    changed: Mutex<usize>,
}

impl EventListener for Told {
    fn sign_in_progressed(&self, _progress: SignInProgressView) {}
    fn accounts_changed(&self) {}
    fn clipboard_cleared(&self) {}
    fn notices_changed(&self) {
        *self.changed.lock().unwrap() += 1;
    }
    fn notices_arrived(&self, arrived: &Arrived) {
        self.arrived.lock().unwrap().push(arrived.clone());
    }
}

impl Told {
    fn arrived(&self) -> Vec<Arrived> {
        std::mem::take(&mut self.arrived.lock().unwrap())
    }

    fn changed(&self) -> usize {
        std::mem::take(&mut self.changed.lock().unwrap())
    }
}

fn list() -> NoticeListRequest {
    NoticeListRequest {
        limit: 50,
        ..NoticeListRequest::default()
    }
}

/// A key that lives for so many days, and the text of its secret.
async fn key(app: &App, name: &str, days: u32) -> anyhow::Result<String> {
    let request = IssueApiKeyRequest {
        name: name.into(),
        prefix: "sk_live".into(),
        scopes: vec!["keys:read".into()],
        expires_in_days: Some(days),
        settings: None,
    };
    let issued = app.issue_api_key(request).await?;
    Ok(app.reveal_secret(issued.reveal_id)?.secret)
}

#[tokio::test]
async fn what_expires_on_this_device_is_listed_and_told_once_also_after_a_restart() -> Outcome {
    let (folder, told) = (tempfile::tempdir()?, Arc::new(Told::default()));
    let app = app_with(folder.path(), told.clone())?;
    app.look_for_notices().await?;
    assert_eq!(
        (told.arrived(), app.list_notices(list()).await?.unread),
        (vec![], 0)
    );
    let secret = key(&app, "soon", 5).await?;
    key(&app, "later", 90).await?;
    told.changed();
    app.look_for_notices().await?;
    let expected = Arrived {
        in_use: true,
        count: 1,
        sentences: vec!["“soon” expires within 7 days".to_owned()],
    };
    assert_eq!((told.arrived(), told.changed()), (vec![expected], 1));
    let page = app.list_notices(list()).await?;
    assert_eq!((page.unread, page.items.len()), (1, 1));
    let notice = &page.items[0];
    assert_eq!(
        (notice.kind, notice.name.as_str()),
        (NoticeKind::KeyExpiring, "soon")
    );
    assert!(notice.due_at.is_some() && notice.key_id.is_some() && !notice.read);
    // Nothing secret crosses: of the key there is its public id.
    let text = serde_json::to_string(&page)?;
    assert!(!text.contains(&secret[secret.len() - 38..]), "{text}");
    assert!(text.contains(&secret["sk_live_".len()..][..12]), "{text}");

    app.look_for_notices().await?;
    assert_eq!((told.arrived(), told.changed()), (vec![], 0), "once");
    let left = app.mark_notice_read(notice.id).await?;
    assert_eq!(
        (left.unread, app.list_notices(list()).await?.items[0].read),
        (0, true)
    );
    app.look_for_notices().await?;
    assert_eq!(told.changed(), 0, "who read it knows that it is read");
    key(&app, "second", 1).await?;
    app.look_for_notices().await?;
    assert_eq!(told.arrived().len(), 1);
    app.close().await;
    drop(app);
    // Started again: what is unread still is, and nobody is told of it a second time.
    let app = app_with(folder.path(), told.clone())?;
    app.look_for_notices().await?;
    assert_eq!(told.arrived(), []);
    let page = app.list_notices(list()).await?;
    assert_eq!((page.unread, page.items.len()), (1, 2));
    let left = app.mark_notices_read_until(page.items[0].id).await?;
    assert_eq!(left.unread, 0);
    Ok(())
}

#[tokio::test]
async fn many_at_once_are_one_notification_of_a_few_sentences() -> Outcome {
    let (folder, told) = (tempfile::tempdir()?, Arc::new(Told::default()));
    let app = app_with(folder.path(), told.clone())?;
    for n in 0..5 {
        key(&app, &format!("key {n}"), 1).await?;
    }
    app.look_for_notices().await?;
    let arrived = told.arrived();
    assert_eq!((arrived.len(), arrived[0].count), (1, 5));
    assert_eq!(arrived[0].sentences.len(), 3);
    Ok(())
}

fn notice(id: &str, kind: &str, read: bool) -> Value {
    json!({
        "id": id, "kind": kind, "at": 5, "key_id": "k1", "name": "Billing", "kid": "aaaaaaaaaaaa",
        "due_at": null, "count": 3, "detail": "192.0.2.0/24", "settled": false, "read": read,
    })
}

#[tokio::test]
async fn notices_of_a_server_are_listed_told_once_and_marked_there() -> Outcome {
    let server = Server::start().await?;
    let (folder, told) = (tempfile::tempdir()?, Arc::new(Told::default()));
    let app = app_with(folder.path(), told.clone())?;
    sign_in(&app, &server.url).await?;
    app.choose_registry(Some("a1".to_owned())).await?;
    let page =
        |items: Value, unread: i64| json!({ "items": items, "next_cursor": "c", "unread": unread });
    // One of a kind that a newer server may have is left out, and the rest is shown.
    let items = json!([
        notice("900", "canary.used", false),
        notice("800", "moon.full", false),
        notice("700", "delivery.failed", false),
    ]);
    server.says("GET /api/v1/notices", 200, &page(items, 3));
    app.look_for_notices().await?;
    let arrived = told.arrived();
    assert_eq!((arrived.len(), arrived[0].count), (1, 2));
    assert_eq!(arrived[0].sentences[0], "The canary key “Billing” was used");
    assert!(!arrived[0].sentences.join(" ").contains("192.0.2"));
    app.look_for_notices().await?;
    assert_eq!(told.arrived(), []);
    let lines = server.lines();
    assert_eq!(lines.len(), 2);
    assert!(
        lines
            .iter()
            .all(|line| line == "GET /api/v1/notices?limit=50&unread=true"),
        "{lines:?}"
    );
    let listed = app.list_notices(list()).await?;
    let ids: Vec<_> = listed.items.iter().map(|one| one.id).collect();
    assert_eq!((ids, listed.unread), (vec![900, 700], 3));
    assert_eq!(listed.next_cursor.as_deref(), Some("c"));
    assert_eq!(listed.items[0].detail, "192.0.2.0/24");

    server.says(
        "POST /api/v1/notices/900/read",
        200,
        &json!({ "unread": 2 }),
    );
    assert_eq!(app.mark_notice_read(900).await?.unread, 2);
    server.says("POST /api/v1/notices/read", 200, &json!({ "unread": 0 }));
    assert_eq!(app.mark_notices_read_until(900).await?.unread, 0);
    // Newer news took its place: how many are left is asked for.
    let gone = json!({ "code": "notice_not_found", "detail": "none" });
    server.says("POST /api/v1/notices/700/read", 404, &gone);
    assert_eq!(app.mark_notice_read(700).await?.unread, 3);
    // What the person may not do is said as it is.
    let refusal = json!({ "code": "insufficient_scope", "detail": "keys:read" });
    server.says("GET /api/v1/notices", 403, &refusal);
    let refused = app.list_notices(list()).await.expect_err("403");
    assert_eq!(refused.code(), "insufficient_scope");
    // Away: as it was, and nothing of it is news.
    server.says(
        "GET /api/v1/notices",
        200,
        &page(json!([notice("950", "canary.used", false)]), 1),
    );
    app.list_notices(NoticeListRequest {
        unread_only: true,
        ..list()
    })
    .await?;
    server.stop().await;
    let stale = app
        .list_notices(NoticeListRequest {
            unread_only: true,
            ..list()
        })
        .await?;
    assert!(stale.stale_since.is_some() && stale.items[0].id == 950);
    app.look_for_notices().await?;
    assert_eq!(told.arrived(), []);
    Ok(())
}

#[tokio::test]
async fn what_is_new_on_this_device_is_told_as_such_while_a_server_is_in_use() -> Outcome {
    let server = Server::start().await?;
    let (folder, told) = (tempfile::tempdir()?, Arc::new(Told::default()));
    let app = app_with(folder.path(), told.clone())?;
    sign_in(&app, &server.url).await?;
    key(&app, "soon", 5).await?;
    app.choose_registry(Some("a1".to_owned())).await?;
    let items = json!([notice("900", "canary.used", false)]);
    let page = json!({ "items": items, "next_cursor": null, "unread": 1 });
    server.says("GET /api/v1/notices", 200, &page);
    app.look_for_notices().await?;
    let arrived = told.arrived();
    let said: Vec<_> = arrived
        .iter()
        .map(|one| (one.in_use, one.sentences[0].as_str()))
        .collect();
    // A window shows the server's list: what is new here stands in none of its pages.
    let expected = [
        (false, "“soon” expires within 7 days"),
        (true, "The canary key “Billing” was used"),
    ];
    assert_eq!(said, expected);
    app.close().await;
    Ok(())
}
