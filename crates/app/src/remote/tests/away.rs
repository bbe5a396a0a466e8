//! A server that goes away and comes back: what is still there of it, and who is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use keywright_protocol::accounts::SignInProgressView;
use keywright_protocol::api_keys::{ApiKeyListRequest, ApiKeySort, RevokeApiKeyRequest};
use keywright_protocol::notices::NoticeListRequest;
use serde_json::{Value, json};

use super::{Outcome, Server, app_with, hold_token, list, page, sign_in, signed_in};
use crate::{App, EventListener};

/// A page of keys `k{from}` and so on, whose rows have so many bytes and more.
fn long_page(from: usize, count: usize, bytes: usize, next: Option<&str>) -> Value {
    let row = page("", "")["items"][0].clone();
    let items: Vec<Value> = (from..from + count)
        .map(|n| {
            let mut row = row.clone();
            row["id"] = json!(format!("k{n}"));
            row["name"] = json!(format!("{n} {}", "x".repeat(bytes)));
            row
        })
        .collect();
    json!({ "items": items, "next_cursor": next, "total": 6_600, "total_is_estimate": false })
}

fn asks(limit: u32, cursor: Option<&str>, sort: ApiKeySort) -> ApiKeyListRequest {
    ApiKeyListRequest {
        limit,
        cursor: cursor.map(str::to_owned),
        sort,
        ..ApiKeyListRequest::default()
    }
}

async fn revoke(app: &App, id: &str) -> anyhow::Result<bool> {
    let request = RevokeApiKeyRequest {
        id: id.to_owned(),
        reason: String::new(),
    };
    let view = app.revoke_api_key(request).await?;
    Ok(view.revocation_queued_at.is_some() && view.id == id && !view.name.is_empty())
}

#[tokio::test]
async fn ac_152_every_key_that_was_listed_can_be_revoked_while_its_server_is_away() -> Outcome {
    let server = Server::start().await?;
    let folder = tempfile::tempdir()?;
    let app = signed_in(folder.path(), &server.url).await?;
    app.choose_registry(Some("a1".to_owned())).await?;
    let path = "GET /api/v1/keys";
    let created = ApiKeySort::CreatedDesc;
    server.says(path, 200, &long_page(0, 100, 600, Some("1")));
    app.list_api_keys(asks(100, None, created)).await?;
    // More than is kept of everything together, as when a list is scrolled.
    for n in 0..13 {
        server.says(path, 200, &long_page(100 + n * 500, 500, 600, Some("2")));
        app.list_api_keys(asks(500, Some("1"), created)).await?;
    }
    // A first page of long rows.
    server.says(path, 200, &long_page(20_000, 500, 1_200, None));
    app.list_api_keys(asks(500, None, ApiKeySort::NameAsc))
        .await?;

    server.stop().await;
    for id in ["k0", "k100", "k3000", "k6599", "k20499"] {
        assert!(revoke(&app, id).await?, "{id}");
    }
    let unknown = revoke(&app, "k7000").await.expect_err("never seen");
    assert!(
        unknown.to_string().contains("cannot be reached"),
        "{unknown}"
    );
    // The list as it was, also where a longer page of it is asked for.
    for limit in [100, 500] {
        let kept = app.list_api_keys(asks(limit, None, created)).await?;
        assert_eq!(kept.items.len(), 100);
        assert!(kept.stale_since.is_some());
    }
    let long = app
        .list_api_keys(asks(500, None, ApiKeySort::NameAsc))
        .await?;
    assert_eq!((long.items.len(), long.stale_since.is_some()), (500, true));
    app.close().await;
    drop(app);

    let again = super::app(folder.path())?;
    hold_token(&again);
    let kept = again.list_api_keys(asks(100, None, created)).await?;
    assert_eq!((kept.items.len(), kept.stale_since.is_some()), (100, true));
    again.close().await;
    Ok(())
}

#[tokio::test]
async fn ac_152_a_key_that_is_taken_back_is_not_known_from_a_list_either() -> Outcome {
    let server = Server::start().await?;
    let folder = tempfile::tempdir()?;
    let app = signed_in(folder.path(), &server.url).await?;
    app.choose_registry(Some("a1".to_owned())).await?;
    server.says("GET /api/v1/keys", 200, &long_page(0, 3, 1, None));
    let page = ApiKeyListRequest {
        cursor: Some("1".to_owned()),
        ..list()
    };
    app.list_api_keys(page).await?;
    // Somebody else's now: the server does not tell of it any more.
    let gone = app.find_api_key("k1".to_owned()).await.expect_err("404");
    assert_eq!(gone.code(), "key_not_found");
    server.stop().await;
    assert!(revoke(&app, "k0").await?);
    assert!(revoke(&app, "k1").await.is_err(), "it was taken back");
    app.close().await;
    Ok(())
}

/// Counts how often it is told that something is new about a registry.
#[derive(Default)]
struct Told(AtomicUsize);

impl EventListener for Told {
    fn sign_in_progressed(&self, _progress: SignInProgressView) {}
    fn accounts_changed(&self) {}
    fn clipboard_cleared(&self) {}
    fn registry_changed(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn ac_152_whoever_answers_again_is_told_whatever_was_asked() -> Outcome {
    let server = Server::start().await?;
    let folder = tempfile::tempdir()?;
    let told = Arc::new(Told::default());
    let app = app_with(folder.path(), told.clone())?;
    sign_in(&app, &server.url).await?;
    app.choose_registry(Some("a1".to_owned())).await?;
    server.says("GET /api/v1/keys", 200, &page("k1", "known"));
    app.list_api_keys(list()).await?;
    let notices = json!({ "items": [], "next_cursor": null, "unread": 0 });
    server.says("GET /api/v1/notices", 200, &notices);
    let request = NoticeListRequest {
        limit: 50,
        ..NoticeListRequest::default()
    };
    for round in 0..2 {
        server.stop().await;
        let account = app.inner.registry.get().await?.find_account("a1").await?;
        let remote = app.remote(&account)?;
        remote.kept().wake();
        assert!(app.list_api_keys(list()).await?.stale_since.is_some());
        assert_eq!(told.0.load(Ordering::SeqCst), round.min(1), "it is away");
        server.again().await?;
        remote.kept().wake();
        // What somebody looks for each minute, and not what is on the screen.
        app.list_notices(request.clone()).await?;
        // The second time comes too soon: a server that answers half of what it is asked is not asked in a circle.
        assert_eq!(told.0.load(Ordering::SeqCst), 1);
    }
    app.close().await;
    Ok(())
}
