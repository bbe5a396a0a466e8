use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use keywright_domain::SecretText;
use keywright_domain::audit::Actor;
use keywright_domain::people::Email;
use keywright_registry::people::NewSignIn;

use super::{history, is_signed_in, sign_in};
use crate::test_support::{Answer, Browser, PASSWORD, TestServer};

const ADA: &str = "ada@example.org";
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// From an address of its own, behind a trusted proxy.
async fn from(browser: &mut Browser, address: &str, email: &str, password: &str) -> Answer {
    browser.get("/sign-in").await;
    let token = browser.cookie("csrf_token").unwrap().to_owned();
    // Not held over the request: it cannot be sent to another thread.
    let body = {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in [
            ("csrf_token", &*token),
            ("email", email),
            ("password", password),
        ] {
            form.append_pair(name, value);
        }
        Body::from(form.finish())
    };
    let headers = [FORM, ("x-forwarded-for", address)];
    browser.send(Method::POST, "/sign-in", &headers, body).await
}

async fn behind_a_proxy() -> TestServer {
    TestServer::with(|settings| settings.trusted_proxies.push("0.0.0.0/32".parse().unwrap())).await
}

#[tokio::test]
async fn s3_46_s3_49_a_password_signs_in_and_the_cookie_is_guarded() {
    let server = TestServer::start().await;
    server.add_user(ADA, &[]).await;
    let mut browser = server.browser();
    let page = browser
        .get("/sign-in?return_to=/account/history%3Fa%3Db")
        .await;
    assert_eq!(page.status, StatusCode::OK);
    assert_eq!(page.header("cache-control"), "no-store");
    assert_eq!(page.field("return_to").unwrap(), "/account/history?a=b");
    let fields = [
        ("email", " ADA@example.org "),
        ("password", PASSWORD),
        ("return_to", "/account/history?a=b"),
    ];
    let answer = browser.post("/sign-in", &fields).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
    assert_eq!(answer.location(), "/account/history?a=b");
    let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
    let session = cookies
        .iter()
        .map(|value| value.to_str().unwrap())
        .find(|text| text.starts_with("session="))
        .unwrap();
    for part in ["HttpOnly", "SameSite=Lax", "Secure", "Path=/"] {
        assert!(session.contains(part), "{session}");
    }
    assert!(is_signed_in(&mut browser).await);
    let newest = &history(&server).await[0];
    assert_eq!(newest.outcome, "succeeded");
    assert_eq!((&*newest.method, &*newest.identifier), ("password", ADA));
    assert!(newest.session_id.is_some());
    // Who is signed in has nothing to do there.
    let again = browser.get("/sign-in?return_to=/x").await;
    assert_eq!(
        (again.status, again.location()),
        (StatusCode::SEE_OTHER, "/x")
    );
    let again = browser.get("/sign-in?return_to=/x&again=1").await;
    assert_eq!(again.status, StatusCode::OK);
    assert_eq!(again.field("email").unwrap(), ADA);
}

#[tokio::test]
async fn ac_180_s3_08_s3_47_a_stranger_and_a_wrong_password_get_the_same_answer() {
    let server = TestServer::start().await;
    let ada = server.add_user(ADA, &[]).await;
    let bob = server.add_user("bob@example.org", &[]).await;
    let actor = Actor::person("test");
    let registry = server.registry();
    registry
        .disable_user(&actor, &bob.id, "left")
        .await
        .unwrap();
    let mut texts = Vec::new();
    for (email, password) in [
        (ADA, "wrong password"),
        ("nobody@example.org", "wrong password"),
        ("no address", "wrong password"),
        ("bob@example.org", PASSWORD),
        (ADA, ""),
    ] {
        let mut browser = server.browser();
        let answer = sign_in(&mut browser, email, password).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{email}");
        assert!(browser.cookie("session").is_none());
        let token = browser.cookie("csrf_token").unwrap().to_owned();
        texts.push(answer.text.replace(&token, "").replace(email, ""));
    }
    texts.dedup();
    assert_eq!(texts.len(), 1, "{texts:#?}");
    let outcomes: Vec<_> = history(&server).await;
    let of = |id: Option<&str>| {
        let own = outcomes.iter().filter(|one| one.user_id.as_deref() == id);
        own.map(|one| one.outcome.clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        of(Some(&ada.id)),
        ["credentials_invalid", "credentials_invalid"]
    );
    assert_eq!(of(Some(&bob.id)), ["user_disabled"]);
    assert_eq!(of(None).len(), 2);
}

/// The same work: what takes no hash would be known by its time.
#[tokio::test]
async fn s3_47_a_stranger_costs_a_hash_as_well() {
    let server = TestServer::start().await;
    server.add_user(ADA, &[]).await;
    let verified = &server.server.app().passwords.verified;
    for email in [ADA, "nobody@example.org", "no address"] {
        let before = verified.load(Ordering::Relaxed);
        sign_in(&mut server.browser(), email, "wrong").await;
        assert_eq!(verified.load(Ordering::Relaxed), before + 1, "{email}");
    }
}

#[tokio::test]
async fn ac_180_twenty_wrong_passwords_then_429_for_known_and_unknown_alike() {
    let server = behind_a_proxy().await;
    server.add_user(ADA, &[]).await;
    for email in [ADA, "nobody@example.org"] {
        let mut browser = server.browser();
        let mut statuses = Vec::new();
        for _ in 0..20 {
            statuses.push(from(&mut browser, "192.0.2.1", email, "wrong").await.status);
        }
        let refused = statuses
            .iter()
            .filter(|one| **one == StatusCode::UNAUTHORIZED);
        assert_eq!(refused.count(), 10, "{email} {statuses:?}");
        assert_eq!(
            statuses[10..],
            [StatusCode::TOO_MANY_REQUESTS; 10],
            "{email}"
        );
        let answer = from(&mut browser, "192.0.2.1", email, PASSWORD).await;
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
        let wait: u64 = answer.header("retry-after").parse().unwrap();
        assert!((1..=900).contains(&wait), "{wait}");
    }
    // A quarter of an hour later the right one is right.
    server.pass(15 * 60 * 1000 + 1);
    let mut browser = server.browser();
    let answer = from(&mut browser, "192.0.2.1", ADA, PASSWORD).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn ac_180_many_addresses_lock_nobody_out_at_home() {
    let server = behind_a_proxy().await;
    server.add_user(ADA, &[]).await;
    let home = "198.51.100.7";
    let answer = from(&mut server.browser(), home, ADA, PASSWORD).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    for n in 0..8 {
        let address = format!("192.0.2.{n}");
        let answer = from(&mut server.browser(), &address, ADA, "wrong").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    // A burst gets past the wait, since all of it looked before the first was counted. However long it is, it
    // makes nobody forget where home is.
    let registry = server.registry();
    let email = Email::new(ADA).unwrap();
    let ada = registry.find_credentials(&email).await.unwrap().unwrap();
    for n in 0..120 {
        server.pass(1);
        let attempt = NewSignIn {
            user_id: Some(ada.user_id.clone()),
            identifier: ADA.into(),
            method: "password".into(),
            failure: Some("credentials_invalid".into()),
            network: format!("192.0.2.{n}"),
            user_agent: String::new(),
            session_id: None,
            device: None,
        };
        registry.record_sign_in(&attempt).await.unwrap();
    }
    // From elsewhere the account waits now, whatever is typed … The history is in the order of time.
    server.pass(1);
    let answer = from(&mut server.browser(), "203.0.113.1", ADA, PASSWORD).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(history(&server).await[0].outcome, "account_waits");
    // … and at home it does not.
    let answer = from(&mut server.browser(), home, ADA, PASSWORD).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
}

/// At home the address of IPv6 is another one every day, and the network stays.
#[tokio::test]
async fn ac_180_another_address_of_ones_own_network_is_home_and_the_next_network_is_not() {
    let server = behind_a_proxy().await;
    server.add_user(ADA, &[]).await;
    let answer = from(&mut server.browser(), "2001:db8:1:2::aaaa", ADA, PASSWORD).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    for n in 0..8 {
        let address = format!("192.0.2.{n}");
        from(&mut server.browser(), &address, ADA, "wrong").await;
    }
    server.pass(1);
    for elsewhere in ["2001:db8:1:3::aaaa", "192.0.2.77"] {
        let answer = from(&mut server.browser(), elsewhere, ADA, PASSWORD).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{elsewhere}");
    }
    let privacy = "2001:db8:1:2:3c5f:88:9a01:e7d2";
    let answer = from(&mut server.browser(), privacy, ADA, PASSWORD).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn one_source_does_not_try_everybody() {
    let server = behind_a_proxy().await;
    let mut browser = server.browser();
    let mut last = StatusCode::OK;
    for n in 0..51 {
        let email = format!("person{n}@example.org");
        last = from(&mut browser, "192.0.2.9", &email, "wrong")
            .await
            .status;
    }
    assert_eq!(last, StatusCode::TOO_MANY_REQUESTS);
    let other = from(&mut browser, "192.0.2.10", "a@example.org", "wrong").await;
    assert_eq!(other.status, StatusCode::UNAUTHORIZED);
}

/// Counted before the hash: one source that tries many accounts at once has no more of them checked than one
/// after the other.
#[tokio::test]
async fn s3_47_one_source_at_many_accounts_at_once_is_counted_before_the_work() {
    let server = behind_a_proxy().await;
    server.add_user(ADA, &[]).await;
    let app = server.server.app();
    let source = "192.0.2.9";
    let address = source.parse().unwrap();
    // As if most were tried already, so that this needs no fifty hashes.
    for _ in 0..46 {
        app.sign_in.sources.count(app, address, "").await;
    }
    let verified = &app.passwords.verified;
    let before = verified.load(Ordering::Relaxed);
    let mut running = tokio::task::JoinSet::new();
    for n in 0..12 {
        let mut browser = server.browser();
        running.spawn(async move {
            let email = format!("person{n}@example.org");
            from(&mut browser, source, &email, "wrong").await.status
        });
    }
    let statuses = running.join_all().await;
    assert_eq!(verified.load(Ordering::Relaxed) - before, 4, "{statuses:?}");
    let waits = statuses
        .iter()
        .filter(|one| **one == StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(waits.count(), 8, "{statuses:?}");
    // And then nothing is checked, not the right one either.
    let answer = from(&mut server.browser(), source, ADA, PASSWORD).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(verified.load(Ordering::Relaxed) - before, 4);
}

/// Whoever signs in is not counted, and forgets nothing of what the same source guessed elsewhere.
#[tokio::test]
async fn s3_47_who_signs_in_costs_their_source_nothing_and_gives_it_nothing() {
    let server = behind_a_proxy().await;
    server.add_user(ADA, &[]).await;
    let app = server.server.app();
    let source = "192.0.2.9";
    let address = source.parse().unwrap();
    for _ in 0..49 {
        app.sign_in.sources.count(app, address, "").await;
    }
    for _ in 0..3 {
        let answer = from(&mut server.browser(), source, ADA, PASSWORD).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER);
    }
    let wrong = from(&mut server.browser(), source, "a@example.org", "wrong").await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    let waits = from(&mut server.browser(), source, ADA, PASSWORD).await;
    assert_eq!(waits.status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn ac_101_ac_104_the_form_needs_our_token_and_our_site() {
    let server = TestServer::start().await;
    server.add_user(ADA, &[]).await;
    let mut browser = server.browser();
    let fields = [("email", ADA), ("password", PASSWORD)];
    assert_eq!(
        browser.post("/sign-in", &fields).await.status,
        StatusCode::FORBIDDEN
    );
    browser.get("/sign-in").await;
    let mut other = server.browser();
    other.get("/sign-in").await;
    let foreign = other.cookie("csrf_token").unwrap().to_owned();
    let with = [fields[0], fields[1], ("csrf_token", &*foreign)];
    assert_eq!(
        browser.post("/sign-in", &with).await.status,
        StatusCode::FORBIDDEN
    );
    let own = browser.cookie("csrf_token").unwrap().to_owned();
    let body = format!("csrf_token={own}&email={ADA}&password=x");
    for header in [
        ("origin", "https://evil.example"),
        ("sec-fetch-site", "cross-site"),
    ] {
        let body = Body::from(body.clone());
        let answer = browser
            .send(Method::POST, "/sign-in", &[FORM, header], body)
            .await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{header:?}");
        assert!(answer.text.contains("origin_rejected"));
    }
    assert!(history(&server).await.is_empty());
}

#[tokio::test]
async fn ac_075_a_sign_in_leads_to_no_other_site() {
    let server = TestServer::start().await;
    server.add_user(ADA, &[]).await;
    for bad in [
        "//evil",
        "https://evil",
        "/\\evil",
        "javascript:alert(1)",
        "/%5cevil",
    ] {
        let mut browser = server.browser();
        browser.get("/sign-in").await;
        let fields = [("email", ADA), ("password", PASSWORD), ("return_to", bad)];
        let answer = browser.post("/sign-in", &fields).await;
        assert_eq!(
            (answer.status.as_u16(), answer.location()),
            (303, "/account"),
            "{bad}"
        );
    }
}

#[tokio::test]
async fn ac_107_a_sign_in_gives_another_session_and_the_old_one_is_dead() {
    let server = TestServer::start().await;
    let ada = server.add_user(ADA, &[]).await;
    server.add_user("bob@example.org", &[]).await;
    let mut browser = server.sign_in_as(&ada).await;
    let mut stale = browser.clone();
    let before = server
        .registry()
        .list_sessions(&ada.id, true, None, 10)
        .await
        .unwrap();
    // The same person: the session stays with all that was given in it, under another token.
    browser.get("/sign-in?again=1").await;
    let fields = [("email", ADA), ("password", PASSWORD), ("again", "1")];
    assert_eq!(browser.post("/sign-in", &fields).await.status, 303);
    assert_ne!(browser.cookie("session"), stale.cookie("session"));
    assert!(!is_signed_in(&mut stale).await && is_signed_in(&mut browser).await);
    let after = server
        .registry()
        .list_sessions(&ada.id, true, None, 10)
        .await
        .unwrap();
    assert_eq!(before.items[0].id, after.items[0].id);
    // Somebody else: it ends.
    let mut stale = browser.clone();
    browser.get("/sign-in?again=1").await;
    let fields = [
        ("email", "bob@example.org"),
        ("password", PASSWORD),
        ("again", "1"),
    ];
    assert_eq!(browser.post("/sign-in", &fields).await.status, 303);
    assert!(!is_signed_in(&mut stale).await && is_signed_in(&mut browser).await);
    let left = server
        .registry()
        .list_sessions(&ada.id, true, None, 10)
        .await
        .unwrap();
    assert!(left.items.is_empty());
}

#[tokio::test]
async fn ac_181_a_weak_hash_is_made_stronger_by_a_sign_in() {
    use argon2::password_hash::PasswordHasher as _;
    use argon2::{Algorithm, Argon2, Params, Version};
    let server = TestServer::start().await;
    let ada = server.add_user(ADA, &[]).await;
    let params = Params::new(64, 1, 1, None).unwrap();
    let weak = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash: argon2::password_hash::phc::PasswordHash = weak
        .hash_password_with_salt(PASSWORD.as_bytes(), &[7; 16])
        .unwrap();
    let hash = SecretText::new(hash.to_string());
    let actor = Actor::person("test");
    let registry = server.registry();
    registry
        .set_password_hash(&actor, &ada.id, Some(&hash), None)
        .await
        .unwrap();
    assert_eq!(
        sign_in(&mut server.browser(), ADA, "wrong").await.status,
        401
    );
    let stored = || async {
        let email = Email::new(ADA).unwrap();
        let found = registry.find_credentials(&email).await.unwrap().unwrap();
        found.password_hash.unwrap().expose().to_owned()
    };
    assert!(stored().await.contains("m=64,"));
    assert_eq!(
        sign_in(&mut server.browser(), ADA, PASSWORD).await.status,
        303
    );
    assert!(stored().await.contains("m=19456,t=2,p=1"));
    assert_eq!(
        sign_in(&mut server.browser(), ADA, PASSWORD).await.status,
        303
    );
}

#[tokio::test]
async fn a_hint_is_filled_in_and_escaped() {
    let server = TestServer::start().await;
    let page = server
        .browser()
        .get("/sign-in?login_hint=%22%3E%3Cb%3E")
        .await;
    assert!(page.text.contains("&quot;&gt;&lt;b&gt;") && !page.text.contains("<b>"));
}
