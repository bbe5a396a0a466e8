//! What happens to whoever is not signed in yet.

use super::*;

#[tokio::test]
async fn s15_a_bad_request_leads_nobody_elsewhere_before_they_signed_in() {
    let (server, user, mut browser) = start().await;
    let bad = [
        ("response_type", "token", "unsupported_response_type"),
        ("scope", "keys:*", "invalid_scope"),
        ("code_challenge", "", "invalid_request"),
        ("request", "e30.e30.", "request_not_supported"),
    ];
    for (name, value, error) in bad {
        let changes = [(name, value)];
        let mut stranger = server.browser();
        let shown = browser_get(&mut stranger, &changes).await;
        assert_shown(&shown, error);
        assert_eq!(shown.header("refresh"), "");
        assert!(
            !shown.text.contains(REDIRECT),
            "no link either: {}",
            shown.text
        );
        assert_sent(&browser_get(&mut browser, &changes).await, error);
        // Where no page may be shown, the application hears of it as of any silent error.
        let silent = [(name, value), ("prompt", "none")];
        assert_sent(&browser_get(&mut stranger, &silent).await, error);
    }
    // What was pushed by a client that may do less since.
    let uri = format!("{PUSHED}abc");
    let path = format!("/oauth2/authorize?client_id=app&request_uri={uri}");
    push(&server, &uri, &request(&[("scope", "keys:*")])).await;
    assert_shown(&server.browser().get(&path).await, "invalid_scope");
    push(&server, &uri, &request(&[("scope", "keys:*")])).await;
    assert_sent(&browser.get(&path).await, "invalid_scope");
    // And what waited, when whoever signed in is signed out again.
    let answer = browser_get(&mut server.browser(), &[]).await;
    let return_to = assert_sign_in(&answer);
    let registry = server.registry();
    let mut less = registry.find_client("app").await.unwrap().settings.clone();
    less.scopes = OAuthScopes::parse("openid").unwrap();
    let actor = Actor::person("test");
    registry.change_client(&actor, "app", &less).await.unwrap();
    assert_shown(&server.browser().get(&return_to).await, "invalid_scope");
    let mut back = server.sign_in_as(&user).await;
    assert_sent(&back.get(&return_to).await, "invalid_scope");
}
