//! What a server took back is not shown from memory, and what was changed is not shown as it was before.

use super::*;

fn schedule(next_due_at: i64, paused_at: Option<i64>) -> Value {
    json!({
        "id": "s1", "key_id": "k1", "next_due_at": next_due_at, "paused_at": paused_at, "anchor_at": 1,
        "changed_at": 1,
        "schedule": {
            "every_ms": 30 * DAY_MS, "time_zone": "UTC", "jitter_ms": 0, "mode": "notify_only",
            "delivery": "",
        },
    })
}

const SCHEDULE: &str = "GET /api/v1/keys/k1/schedule";

#[tokio::test]
async fn ac_152_a_schedule_that_is_gone_is_not_shown_while_the_server_is_away() -> Outcome {
    let gone = json!({ "code": "schedule_not_found", "detail": "it has none" });
    for status in [404, 410] {
        let server = Server::start().await?;
        let folder = tempfile::tempdir()?;
        let app = signed_in(folder.path(), &server.url).await?;
        let account = app.inner.registry.get().await?.find_account("a1").await?;
        let remote = app.remote(&account)?;
        server.says(SCHEDULE, 200, &schedule(9, None));
        assert!(remote.find_schedule("k1").await?.value.is_some());
        server.says(SCHEDULE, status, &gone);
        let none = remote.find_schedule("k1").await?;
        assert!(none.value.is_none() && none.as_of.is_none());
        server.stop().await;
        let none = remote.find_schedule("k1").await?;
        assert!(none.value.is_none() && none.as_of.is_some(), "{status}");
        drop(remote);
        app.close().await;
        // Nor after a start.
        let app = super::app(folder.path())?;
        hold_token(&app);
        let none = app.remote(&account)?.find_schedule("k1").await?;
        assert!(none.value.is_none() && none.as_of.is_some(), "{status}");
        app.close().await;
    }
    Ok(())
}

#[tokio::test]
async fn ac_152_a_schedule_that_was_removed_or_paused_from_here_is_known_as_it_is_now() -> Outcome {
    let server = Server::start().await?;
    let remote = remote(&server)?;
    server.says(SCHEDULE, 200, &schedule(9, None));
    remote.find_schedule("k1").await?;
    let pause = "POST /api/v1/keys/k1/schedule/pause";
    server.says(pause, 200, &schedule(9, Some(5)));
    remote.pause_schedule("k1", true).await?;
    server.stop().await;
    let known = remote.find_schedule("k1").await?;
    assert!(known.as_of.is_some());
    assert_eq!(known.value.and_then(|one| one.paused_at), Some(5));
    server.again().await?;
    remote.kept().answered(now_ms());
    for (status, removed) in [(204, true), (404, false)] {
        let there = schedule(9, None).to_string();
        let name = "/api/v1/keys/k1/schedule";
        remote.kept().renew(name, there.as_bytes(), 1).await;
        let gone = json!({ "code": "schedule_not_found" });
        let says = if removed { Value::Null } else { gone };
        server.says("DELETE /api/v1/keys/k1/schedule", status, &says);
        assert_eq!(remote.remove_schedule("k1").await?, removed);
        remote.kept().failed(now_ms());
        let none = remote.find_schedule("k1").await?;
        assert!(none.value.is_none() && none.as_of.is_some());
        remote.kept().answered(now_ms());
    }
    Ok(())
}

#[tokio::test]
async fn ac_152_what_is_gone_or_not_ours_to_see_is_forgotten_with_all_that_belongs_to_it() -> Outcome
{
    let list = json!({ "items": [] });
    let deliveries = json!({ "items": [], "next_cursor": null });
    for (status, code) in [
        (404, "key_not_found"),
        (410, "gone"),
        (403, "insufficient_scope"),
    ] {
        let server = Server::start().await?;
        let remote = remote(&server)?;
        for id in ["k1", "k12"] {
            let path = format!("GET /api/v1/keys/{id}");
            server.says(&path, 200, &key(id, "known"));
            server.says(&format!("{path}/rotations"), 200, &list);
            server.says(&format!("{path}/notices"), 200, &list);
            let of_one = format!("{path}/rotations/r1/deliveries");
            server.says(&of_one, 200, &deliveries);
            remote.find_api_key(id).await?;
            remote.list_rotations(id).await?;
            remote.list_key_notices(id).await?;
            remote.list_deliveries(id, "r1", None, 10).await?;
        }
        let refusal = json!({ "code": code, "detail": "no" });
        server.says("GET /api/v1/keys/k1", status, &refusal);
        remote.find_api_key("k1").await.expect_err("gone");
        server.stop().await;
        let asked = [
            remote.find_api_key("k1").await.err(),
            remote.list_rotations("k1").await.err(),
            remote.list_key_notices("k1").await.err(),
            remote.list_deliveries("k1", "r1", None, 10).await.err(),
        ];
        for error in asked {
            let code = error.map(|error| error.code());
            assert_eq!(code, Some("registry_offline"), "{status}");
        }
        // And nothing else.
        assert!(remote.find_api_key("k12").await?.as_of.is_some());
        assert!(remote.list_rotations("k12").await?.as_of.is_some());
        assert!(
            remote
                .list_deliveries("k12", "r1", None, 10)
                .await?
                .as_of
                .is_some()
        );
    }
    Ok(())
}

#[tokio::test]
async fn ac_152_a_key_that_was_ended_from_here_is_not_known_as_live() -> Outcome {
    let server = Server::start().await?;
    let remote = remote(&server)?;
    server.says("GET /api/v1/keys/k1", 200, &key("k1", "a"));
    remote.find_api_key("k1").await?;
    let mut ended = key("k1", "a");
    ended["revoked_at"] = json!(5);
    server.says("POST /api/v1/keys/k1/revoke", 200, &ended);
    // A question that was on its way meanwhile brings an old answer.
    let before = remote.kept().generation();
    remote.revoke_api_key("k1", "leaked").await?;
    let old = key("k1", "a").to_string();
    let name = "/api/v1/keys/k1";
    remote
        .kept()
        .remember(before, name, old.as_bytes(), 7)
        .await;
    server.stop().await;
    let known = remote.find_api_key("k1").await?;
    assert!(known.as_of.is_some());
    assert_eq!(known.value.revoked_at, Some(5));
    Ok(())
}

#[tokio::test]
async fn ac_152_what_does_not_come_from_the_registry_takes_nothing_back() -> Outcome {
    let server = Server::start().await?;
    let remote = remote(&server)?;
    server.says("GET /api/v1/keys/k1", 200, &key("k1", "a"));
    remote.find_api_key("k1").await?;
    // Whoever stands before it knows no such page, or it answers oddly.
    for (status, body) in [
        (404, Value::Null),
        (404, json!([])),
        (200, json!([])),
        (500, json!({})),
    ] {
        server.says("GET /api/v1/keys/k1", status, &body);
        let _refused = remote.find_api_key("k1").await;
    }
    server.stop().await;
    assert!(remote.find_api_key("k1").await?.as_of.is_some());
    Ok(())
}

#[tokio::test]
async fn ac_152_a_server_that_is_known_to_be_silent_holds_what_is_known_up_for_a_moment_only()
-> Outcome {
    let server = Server::start().await?;
    let remote = remote(&server)?;
    server.says("GET /api/v1/keys/k1", 200, &key("k1", "a"));
    remote.find_api_key("k1").await?;
    remote.kept().failed(now_ms());
    remote.kept().wake();
    let gate = server.hold("GET /api/v1/keys/k1");
    let began = Instant::now();
    assert!(remote.find_api_key("k1").await?.as_of.is_some());
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    assert!(remote.kept().is_resting(), "it is away still");
    gate.add_permits(100);
    Ok(())
}
