//! Refresh tokens.

use super::*;

#[tokio::test]
async fn s22_s23_ac_083_a_refresh_token_is_followed_by_another() {
    let (server, _user, mut browser) = start().await;
    let first = signed_in_tokens(&server, &mut browser).await;
    server.pass(60_000);
    let second = refresh(&server, &text(&first, "refresh_token"), &[]).await;
    assert_eq!(second.status, StatusCode::OK, "{}", second.text);
    assert_eq!(second.header("cache-control"), "no-store");
    assert_ne!(
        text(&first, "refresh_token"),
        text(&second, "refresh_token")
    );
    assert_ne!(text(&first, "access_token"), text(&second, "access_token"));
    assert_eq!(second.json()["scope"], first.json()["scope"]);
    // The ID token of a refresh: the same person, client and sign-in, no nonce (Core §12.2, C10).
    let (old, new) = (text(&first, "id_token"), text(&second, "id_token"));
    let (old, new) = (part(&old, 1), part(&new, 1));
    for same in ["iss", "sub", "aud", "auth_time", "acr", "sid"] {
        assert_eq!(old[same], new[same], "{same}");
    }
    assert!(new.get("nonce").is_none());
    assert_eq!(
        new["at_hash"],
        Alg::Rs256.half_hash(&text(&second, "access_token"))
    );
    let third = refresh(&server, &text(&second, "refresh_token"), &[]).await;
    assert_eq!(third.status, StatusCode::OK);
    assert_eq!(
        userinfo(&server, &text(&third, "access_token"))
            .await
            .status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn refreshed_tokens_keep_their_sign_in_when_its_person_signs_in_anew() {
    let (server, user, mut browser) = start().await;
    let tokens = signed_in_tokens(&server, &mut browser).await;
    let first = part(&text(&tokens, "id_token"), 1);
    server.pass(60_000);
    // Another proof in the same session.
    let old = keywright_domain::SecretText::new(browser.cookie("session").unwrap().to_owned());
    let old = keywright_domain::people::TokenDigest::of(&old);
    let new: keywright_domain::SecretText = keywright_domain::pkce::random_token(&mut rand::rng());
    let new = keywright_domain::people::TokenDigest::of(&new);
    let actor = keywright_domain::audit::Actor::person(&user.id);
    let (how, at) = (("aal2", "pwd otp mfa"), Some(server.server.app().now()));
    let registry = server.registry();
    registry
        .renew_session(&actor, &old, &new, how, at)
        .await
        .unwrap();
    let next = refresh(&server, &text(&tokens, "refresh_token"), &[]).await;
    let claims = part(&text(&next, "id_token"), 1);
    for same in ["auth_time", "acr", "amr", "sid"] {
        assert_eq!(claims[same], first[same], "{same}: {claims}");
    }
    assert!(claims["auth_time"].is_i64());
}

#[tokio::test]
async fn s24_ac_084_a_retry_within_ten_seconds_gets_the_same_successor() {
    let (server, _user, mut browser) = start().await;
    let old = text(
        &signed_in_tokens(&server, &mut browser).await,
        "refresh_token",
    );
    let first = text(&refresh(&server, &old, &[]).await, "refresh_token");
    server.pass(9_999);
    let again = refresh(&server, &old, &[]).await;
    assert_eq!(text(&again, "refresh_token"), first);
    let next = refresh(&server, &first, &[]).await;
    assert_eq!(next.status, StatusCode::OK);
    // The successor was used: the one before is no retry any more, however soon.
    assert_eq!(error(&refresh(&server, &old, &[]).await), "invalid_grant");
    let gone = refresh(&server, &text(&next, "refresh_token"), &[]).await;
    assert_eq!(error(&gone), "invalid_grant");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s24_fifty_refreshes_at_once_never_fork() {
    let (server, _user, mut browser) = start().await;
    let old = text(
        &signed_in_tokens(&server, &mut browser).await,
        "refresh_token",
    );
    let server = std::sync::Arc::new(server);
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (server, old) = (std::sync::Arc::clone(&server), old.clone());
        running.spawn(async move { text(&refresh(&server, &old, &[]).await, "refresh_token") });
    }
    let mut successors = running.join_all().await;
    successors.dedup();
    assert_eq!(successors.len(), 1, "one family, one successor");
}

#[tokio::test]
async fn s22_ac_085_a_used_refresh_token_ends_its_family() {
    let (server, _user, mut browser) = start().await;
    let first = signed_in_tokens(&server, &mut browser).await;
    let untouched = signed_in_tokens(&server, &mut browser).await;
    let old = text(&first, "refresh_token");
    let second = refresh(&server, &old, &[]).await;
    server.pass(10_001);
    assert_eq!(error(&refresh(&server, &old, &[]).await), "invalid_grant");
    for tokens in [&first, &second] {
        let info = userinfo(&server, &text(tokens, "access_token")).await;
        assert_eq!(info.json()["code"], "token_revoked");
    }
    let next = refresh(&server, &text(&second, "refresh_token"), &[]).await;
    assert_eq!(error(&next), "invalid_grant");
    assert!(
        actions(&server)
            .await
            .contains(&"grant.refresh_reuse".to_owned())
    );
    // Another family of the same person goes on, and so does the session.
    let access = text(&untouched, "access_token");
    assert_eq!(userinfo(&server, &access).await.status, StatusCode::OK);
    let other = refresh(&server, &text(&untouched, "refresh_token"), &[]).await;
    assert_eq!(other.status, StatusCode::OK);
    assert!(!code(&mut browser, &[]).await.is_empty());
}

#[tokio::test]
async fn ac_088_a_refresh_token_is_for_its_client() {
    let (server, _user, mut browser) = start().await;
    server.add_client("other", None, |_| {}).await;
    let own = text(
        &signed_in_tokens(&server, &mut browser).await,
        "refresh_token",
    );
    let answer = refresh(&server, &own, &[("client_id", "other")]).await;
    assert_eq!(error(&answer), "invalid_grant");
    assert_eq!(
        refresh(&server, &own, &[]).await.status,
        StatusCode::OK,
        "it cost nothing"
    );
    assert_eq!(
        error(&refresh(&server, "made-up", &[]).await),
        "invalid_grant"
    );
    assert_eq!(error(&refresh(&server, "", &[]).await), "invalid_request");
}

#[tokio::test]
async fn ac_089_a_refresh_token_idles_a_week_and_its_family_lives_a_month() {
    let (server, _user, mut browser) = start().await;
    let idle = text(
        &signed_in_tokens(&server, &mut browser).await,
        "refresh_token",
    );
    let mut used = text(
        &signed_in_tokens(&server, &mut browser).await,
        "refresh_token",
    );
    for _ in 0..4 {
        server.pass(7 * DAY - 1);
        let answer = refresh(&server, &used, &[]).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        used = text(&answer, "refresh_token");
    }
    assert_eq!(error(&refresh(&server, &idle, &[]).await), "invalid_grant");
    server.pass(2 * DAY + 4);
    assert_eq!(error(&refresh(&server, &used, &[]).await), "invalid_grant");
}

#[tokio::test]
async fn ac_090_a_refresh_may_ask_for_less_and_not_for_more() {
    let (server, _user, mut browser) = start().await;
    let own = text(
        &signed_in_tokens(&server, &mut browser).await,
        "refresh_token",
    );
    for more in ["openid account", "\""] {
        let answer = refresh(&server, &own, &[("scope", more)]).await;
        assert_eq!(error(&answer), "invalid_scope", "{more}");
    }
    let less = refresh(&server, &own, &[("scope", "openid")]).await;
    assert_eq!(text(&less, "scope"), "openid");
    assert!(part(&text(&less, "id_token"), 1).get("email").is_none());
    // The token that follows has all of it still (S23).
    let all = refresh(&server, &text(&less, "refresh_token"), &[]).await;
    assert_eq!(text(&all, "scope"), "email offline_access openid profile");
}

#[tokio::test]
async fn ac_093_a_disabled_person_gets_nothing_more() {
    let (server, user, mut browser) = start().await;
    let own = signed_in_tokens(&server, &mut browser).await;
    let waiting = code(&mut browser, &[]).await;
    let actor = Actor::person("test");
    server
        .registry()
        .disable_user(&actor, &user.id, "left")
        .await
        .unwrap();
    assert_eq!(
        error(&exchange(&server, &waiting, &[]).await),
        "invalid_grant"
    );
    let refreshed = refresh(&server, &text(&own, "refresh_token"), &[]).await;
    assert_eq!(error(&refreshed), "invalid_grant");
    let info = userinfo(&server, &text(&own, "access_token")).await;
    assert_eq!(info.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn roles_are_read_anew_at_every_refresh() {
    let (server, user, mut browser) = start().await;
    let own = text(
        &signed_in_tokens(&server, &mut browser).await,
        "refresh_token",
    );
    let actor = Actor::person("test");
    let roles: [RoleName; 0] = [];
    server
        .registry()
        .set_user_roles(&actor, &user.id, &roles)
        .await
        .unwrap();
    let answer = refresh(&server, &own, &[]).await;
    assert!(
        part(&text(&answer, "access_token"), 1)
            .get("roles")
            .is_none()
    );
}

#[tokio::test]
async fn no_refresh_token_without_the_grant_type() {
    let (server, _user, mut browser) = start().await;
    server
        .add_client("once", None, |new| {
            new.grant_types = vec!["authorization_code".into()]
        })
        .await;
    let code = code(&mut browser, &[("client_id", "once")]).await;
    let answer = exchange(&server, &code, &[("client_id", "once")]).await;
    assert_eq!(text(&answer, "scope"), "email openid profile");
    assert!(answer.json().get("refresh_token").is_none());
    let answer = refresh(&server, "x", &[("client_id", "once")]).await;
    assert_eq!(error(&answer), "unauthorized_client");
}
