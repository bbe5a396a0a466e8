//! What a role does not allow is not offered, and survives being refused.

use super::*;

fn row(id: &str, owner: &str) -> Value {
    let mut row = page(id, id)["items"][0].clone();
    row["owner"]["id"] = json!(owner);
    row
}

fn may(all: bool, issue: bool) -> Value {
    json!({
        "person": "ada", "issue": issue, "change_all": all, "change_own": true, "verify": all,
        "define_scopes": all,
    })
}

#[tokio::test]
async fn ac_158_keys_that_the_role_does_not_let_change_say_so() -> Outcome {
    let server = Server::start().await?;
    let folder = tempfile::tempdir()?;
    let app = signed_in(folder.path(), &server.url).await?;
    let here = app.registry_permissions().await?;
    assert!(here.may_issue && here.may_verify && here.may_define_scopes);
    app.choose_registry(Some("a1".to_owned())).await?;
    server.says("GET /api/v1/permissions", 200, &may(false, true));
    // A service of the same name is nobody.
    let mut namesake = row("k3", "ada");
    namesake["owner"]["kind"] = json!("service");
    let items = json!([row("k1", "ada"), row("k2", "bob"), namesake]);
    let listed = json!({
        "items": items, "next_cursor": null, "total": 3, "total_is_estimate": false,
    });
    server.says("GET /api/v1/keys", 200, &listed);
    let there = app.registry_permissions().await?;
    assert!(there.may_issue && !there.may_verify && !there.may_define_scopes);
    let page = app.list_api_keys(list()).await?;
    let may_change: Vec<_> = page.items.iter().map(|key| key.may_change).collect();
    assert_eq!(may_change, [true, false, false], "one's own, and others'");
    let mut others = key("k2", "another's");
    others["owner"]["id"] = json!("bob");
    server.says("GET /api/v1/keys/k2", 200, &others);
    server.says(
        "GET /api/v1/keys/k2/rotations",
        200,
        &json!({ "items": [] }),
    );
    assert!(!app.find_api_key("k2".into()).await?.key.may_change);
    // Asked once for all of them.
    let lines = server.lines();
    let asked = lines.iter().filter(|line| line.ends_with("/permissions"));
    assert_eq!(asked.count(), 1, "{lines:?}");
    // Whoever tries it all the same is told, and nothing else happens.
    let refusal = json!({ "code": "insufficient_scope", "detail": "this needs keys:write" });
    server.says("POST /api/v1/keys/k2/revoke", 403, &refusal);
    let revoke = RevokeApiKeyRequest {
        id: "k2".into(),
        reason: String::new(),
    };
    let refused = app.revoke_api_key(revoke).await.expect_err("403");
    assert_eq!(refused.code(), "insufficient_scope");
    assert!(
        app.list_registries().await?.servers[0]
            .queued_revocations
            .is_empty()
    );
    Ok(())
}

#[tokio::test]
async fn ac_158_an_older_server_offers_everything_and_does_so_while_it_is_away() -> Outcome {
    let server = Server::start().await?;
    let folder = tempfile::tempdir()?;
    let app = signed_in(folder.path(), &server.url).await?;
    app.choose_registry(Some("a1".to_owned())).await?;
    server.says("GET /api/v1/keys", 200, &page("k1", "known"));
    let gone = json!({ "code": "not_found", "detail": "no such route" });
    for (status, body) in [(404, &gone), (410, &gone), (404, &Value::Null)] {
        server.says("GET /api/v1/permissions", status, body);
        forget(&app).await?;
        let there = app.registry_permissions().await?;
        assert!(there.may_issue && there.may_verify && there.may_define_scopes);
        assert!(app.list_api_keys(list()).await?.items[0].may_change);
    }
    // Away: keys can be revoked meanwhile, as before.
    app.remote(&account(&app).await?)?
        .kept()
        .permissions
        .set(None);
    server.stop().await;
    assert!(app.registry_permissions().await?.may_issue);
    let stale = app.list_api_keys(list()).await?;
    assert!(stale.stale_since.is_some() && stale.items[0].may_change);
    Ok(())
}

#[tokio::test]
async fn ac_158_what_a_server_refuses_to_say_is_not_offered_and_the_reason_is_told() -> Outcome {
    let server = Server::start().await?;
    let folder = tempfile::tempdir()?;
    let app = signed_in(folder.path(), &server.url).await?;
    app.choose_registry(Some("a1".to_owned())).await?;
    server.says("GET /api/v1/keys", 200, &page("k1", "known"));
    server.says("GET /api/v1/permissions", 200, &may(true, true));
    assert!(app.list_api_keys(list()).await?.items[0].may_change);
    for (status, says, code) in [
        (403, "insufficient_scope", "insufficient_scope"),
        (403, "blocked", "server_refused"),
        (400, "odd", "server_refused"),
        (429, "rate_limited", "rate_limited"),
    ] {
        // Whatever it said before.
        app.remote(&account(&app).await?)?
            .kept()
            .permissions
            .set(None);
        let refusal = json!({ "code": says, "detail": "no" });
        server.says("GET /api/v1/permissions", status, &refusal);
        let refused = app.registry_permissions().await.expect_err(says);
        assert_eq!(refused.code(), code);
        assert!(
            !app.list_api_keys(list()).await?.items[0].may_change,
            "{says}"
        );
    }
    // What was taken back is not offered while the server is away either.
    server.says(
        "GET /api/v1/permissions",
        403,
        &json!({ "code": "blocked" }),
    );
    app.registry_permissions().await.expect_err("403");
    server.stop().await;
    let away = app.registry_permissions().await.expect_err("away");
    assert_eq!(away.code(), "registry_offline");
    Ok(())
}

#[tokio::test]
async fn ac_158_a_sign_in_that_is_over_allows_nothing() -> Outcome {
    let server = Server::start().await?;
    let remote = remote(&server)?;
    server.says("GET /api/v1/permissions", 200, &may(true, true));
    assert!(remote.permissions().await?.issue);
    remote.kept().permissions.set(None);
    *server.token.lock().unwrap() = "t3".to_owned();
    let over = remote.permissions().await.expect_err("401");
    assert_eq!(over.code(), "reauth_required");
    Ok(())
}

#[tokio::test]
async fn ac_158_nobody_waits_long_to_know_what_is_offered() -> Outcome {
    let server = Server::start().await?;
    let folder = tempfile::tempdir()?;
    let app = signed_in(folder.path(), &server.url).await?;
    app.choose_registry(Some("a1".to_owned())).await?;
    server.says("GET /api/v1/keys", 200, &page("k1", "known"));
    server.says("GET /api/v1/permissions", 200, &may(true, true));
    // It takes the question, and does not answer.
    let gate = server.hold("GET /api/v1/permissions");
    let began = Instant::now();
    let silent = app.registry_permissions().await.expect_err("silent");
    assert_eq!(silent.code(), "registry_offline");
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    gate.add_permits(100);
    let listed = app.list_api_keys(list()).await?;
    assert_eq!(listed.stale_since, None, "it is not away for that");
    // It is away, and was a moment ago: what it said is there at once, and where it said nothing, that is.
    assert!(app.registry_permissions().await?.may_issue);
    let remote = app.remote(&account(&app).await?)?;
    remote.kept().permissions.set(None);
    remote.kept().failed(now_ms());
    let began = Instant::now();
    server.asked();
    assert!(app.registry_permissions().await?.may_issue);
    remote.kept().forget("/api/v1/permissions").await;
    let unknown = app.registry_permissions().await.expect_err("never said");
    assert_eq!(unknown.code(), "registry_offline");
    assert!(server.asked().is_empty() && began.elapsed() < Duration::from_secs(1));
    Ok(())
}

async fn account(app: &App) -> anyhow::Result<Account> {
    Ok(app.inner.registry.get().await?.find_account("a1").await?)
}

/// As if the server had never said anything about what is allowed.
async fn forget(app: &App) -> Outcome {
    let remote = app.remote(&account(app).await?)?;
    remote.kept().permissions.set(None);
    remote.kept().forget("/api/v1/permissions").await;
    Ok(())
}

#[tokio::test]
async fn an_id_that_is_no_part_of_an_address_is_asked_of_nobody() -> Outcome {
    let server = Server::start().await?;
    let folder = tempfile::tempdir()?;
    let app = signed_in(folder.path(), &server.url).await?;
    app.choose_registry(Some("a1".to_owned())).await?;
    for id in ["", ".", ".."] {
        let refused = app.find_api_key(id.into()).await.expect_err("no key");
        assert_eq!(refused.code(), "key_not_found", "{id:?}");
    }
    let lines = server.lines();
    assert!(
        !lines.iter().any(|line| line.contains("/keys")),
        "{lines:?}"
    );
    Ok(())
}
