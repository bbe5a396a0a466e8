use axum::body::Body;
use axum::http::Method;

use crate::test_support::{Browser, TestServer};

/// What a browser gets that asks for a page.
async fn page(browser: &mut Browser, path: &str) -> String {
    let accept = [("accept", "text/html,*/*")];
    let answer = browser
        .send(Method::GET, path, &accept, Body::empty())
        .await;
    let kind = answer.header("content-type");
    assert!(kind.starts_with("text/html"), "{path}: {kind}");
    answer.text
}

#[tokio::test]
async fn s0_02_s1_35_every_page_begins_with_skip_to_content() {
    let server = TestServer::start().await;
    let ada = server.add_user("ada@example.org", &[]).await;
    let (mut stranger, mut signed_in) = (server.browser(), server.sign_in_as(&ada).await);
    let of_a_stranger = [
        "/sign-in",
        "/docs",
        "/docs/flows",
        "/docs/flows/refresh-token",
        "/api/docs",
        "/found-key",
        "/account/ended",
        // And what went wrong.
        "/nowhere",
        "/docs/flows/nonesuch",
        "/oauth2/authorize?client_id=nobody",
        "/rp/authorize?idp=none",
        "/rp/callback/none?state=x&code=y",
    ];
    let of_a_person = [
        "/account",
        "/account/applications",
        "/account/api-keys",
        "/account/history",
        "/account/sign-in",
        "/account/end-everything",
        "/device",
        "/oauth2/end_session",
    ];
    for (browser, paths) in [
        (&mut stranger, &of_a_stranger[..]),
        (&mut signed_in, &of_a_person[..]),
    ] {
        for path in paths {
            let text = page(browser, path).await;
            let first = "<body><a class=\"skip\" href=\"#content\">Skip to content</a>";
            assert!(text.contains(first), "{path}");
            // Where it leads to, once.
            assert_eq!(text.matches("id=\"content\"").count(), 1, "{path}");
            assert!(text.contains("<main id=\"content\" tabindex=\"-1\""));
        }
    }
}
