//! Signing in, on the real router.

mod authenticator;
mod browser_clients;
mod passkeys;
mod passwords;
mod second_factors;

use keywright_domain::audit::Actor;
use keywright_registry::people::{SignIn, User};

use super::{second_factor, totp};
use crate::test_support::{Answer, Browser, START, TestServer};

/// The shared secret of one-time codes in tests.
pub(super) const SECRET: &[u8] = b"12345678901234567890";

/// Fills the form in and sends it.
pub(crate) async fn sign_in(browser: &mut Browser, email: &str, password: &str) -> Answer {
    browser.get("/sign-in").await;
    browser
        .post("/sign-in", &[("email", email), ("password", password)])
        .await
}

/// Whether this browser is signed in, by the page that only people see.
pub(super) async fn is_signed_in(browser: &mut Browser) -> bool {
    browser.get("/account/sign-in").await.status == 200
}

/// Gives somebody one-time codes that were confirmed long ago.
pub(crate) async fn give_codes(server: &TestServer, user: &User) {
    let app = server.server.app();
    let actor = Actor::person("test");
    let sealed = app.secrets.seal(&second_factor::purpose(&user.id), SECRET);
    let registry = server.registry();
    registry.set_totp(&actor, &user.id, &sealed).await.unwrap();
    assert!(
        registry
            .accept_totp_step(&actor, &user.id, 1)
            .await
            .unwrap()
    );
}

/// The code that the app shows, so many steps from now.
pub(crate) fn code(server: &TestServer, steps: i64) -> String {
    totp::code(SECRET, server.server.app().now() / 30_000 + steps)
}

/// The newest sign-ins of everybody.
pub(super) async fn history(server: &TestServer) -> Vec<SignIn> {
    assert!(server.server.app().now() >= START);
    let page = server.registry().list_sign_ins(None, None, 100).await;
    page.unwrap().items
}
