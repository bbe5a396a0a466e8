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
    let items = json!([row("k1", "ada"), row("k2", "bob")]);
    let listed = json!({
        "items": items, "next_cursor": null, "total": 2, "total_is_estimate": false,
    });
    server.says("GET /api/v1/keys", 200, &listed);
    let there = app.registry_permissions().await?;
    assert!(there.may_issue && !there.may_verify && !there.may_define_scopes);
    let page = app.list_api_keys(list()).await?;
    let may_change: Vec<_> = page.items.iter().map(|key| key.may_change).collect();
    assert_eq!(may_change, [true, false], "one's own, and another's");
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
async fn ac_158_a_server_that_does_not_say_and_one_that_is_away_offer_everything() -> Outcome {
    let server = Server::start().await?;
    let folder = tempfile::tempdir()?;
    let app = signed_in(folder.path(), &server.url).await?;
    app.choose_registry(Some("a1".to_owned())).await?;
    // An older one.
    let gone = json!({ "code": "not_found", "detail": "no such route" });
    server.says("GET /api/v1/permissions", 404, &gone);
    server.says("GET /api/v1/keys", 200, &page("k1", "known"));
    assert!(app.registry_permissions().await?.may_issue);
    assert!(app.list_api_keys(list()).await?.items[0].may_change);
    // Away: keys can be revoked meanwhile, as before.
    let account = app.inner.registry.get().await?.find_account("a1").await?;
    app.remote(&account)?.kept().permissions.set(None);
    server.stop().await;
    let stale = app.list_api_keys(list()).await?;
    assert!(stale.stale_since.is_some() && stale.items[0].may_change);
    Ok(())
}
