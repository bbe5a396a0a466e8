//! Sessions are rows: whichever process a browser meets knows them, and no proxy needs to keep it at one.

use super::*;

#[tokio::test]
async fn s4_38_a_session_is_known_and_ended_in_every_process_of_the_registry() {
    let server = TestServer::start().await;
    let (user, mut here) = person(&server).await;
    let (other, mut there) = server.beside().await;
    // The cookie of one is good at the other, and who signs in there is signed in here.
    there.cookies.clone_from(&here.cookies);
    for browser in [&mut here, &mut there] {
        let answer = browser.get("/auth/session").await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        assert_eq!(answer.json()["user"]["id"], user.id.as_str());
    }
    assert_eq!((count(&mut here).await, count(&mut there).await), (1, 1));
    // So is its CSRF token: what a page of one got, the other takes.
    let out = there.post("/auth/signOut", &[]).await;
    assert_eq!(out.json(), json!({ "signedOut": true }), "{}", out.text);
    let answer = here.get("/auth/session").await;
    assert_eq!(
        (answer.status, answer.json()["code"].clone()),
        (StatusCode::UNAUTHORIZED, json!("session_revoked"))
    );
    other.close().await;
}
