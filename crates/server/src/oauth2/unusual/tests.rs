use std::net::IpAddr;

use keywright_registry::people::Grant;

use super::*;
use crate::oauth2::testing::{code, exchange, part, refresh, text};
use crate::test_support::{Browser, TestServer};

async fn start() -> (TestServer, Browser) {
    let server = TestServer::start().await;
    server.add_client("app", None, |_| {}).await;
    let user = server.add_user("ada@example.org", &[]).await;
    let browser = server.sign_in_as(&user).await;
    (server, browser)
}

/// What was written down of it, latest first: reasons.
async fn noted(server: &TestServer) -> Vec<String> {
    let query = keywright_registry::AuditQuery {
        limit: 500,
        ..Default::default()
    };
    let page = server.registry().list_audit_events(query).await.unwrap();
    let events = page
        .items
        .into_iter()
        .filter(|one| one.action == "grant.unusual_use");
    let reasons = events.map(|one| {
        let found = one.details.into_iter().find(|(name, _)| name == "reasons");
        found.unwrap().1
    });
    reasons.collect()
}

fn peer(address: &str, user_agent: &str) -> Peer {
    Peer {
        address: address.parse().unwrap(),
        user_agent: user_agent.into(),
    }
}

async fn grant(server: &TestServer, browser: &mut Browser) -> Grant {
    let code = code(browser, &[]).await;
    let tokens = exchange(server, &code, &[]).await;
    let claims = part(&text(&tokens, "access_token"), 1);
    let id = claims["gid"].as_str().unwrap();
    let mut grant = server.registry().find_grant(id).await.unwrap();
    (grant.network, grant.user_agent) = ("192.0.2.7".into(), "Shop/1.2 (Linux)".into());
    grant
}

#[tokio::test]
async fn s1_18_another_place_and_another_program_at_once_are_written_down_once_a_day() {
    let (server, mut browser) = start().await;
    let app = server.server.app();
    let one = grant(&server, &mut browser).await;
    // What happens every day: another address, an update, a place without an address.
    for (address, user_agent) in [
        ("198.51.100.7", "Shop/1.2 (Linux)"),
        ("198.51.100.7", "Shop/2.0 (Linux)"),
        ("192.0.2.7", "curl/8.5.0"),
        ("0.0.0.0", "curl/8.5.0"),
    ] {
        look(app, &one, &peer(address, user_agent)).await;
        assert!(noted(&server).await.is_empty(), "{address} {user_agent}");
    }
    let thief = peer("198.51.100.7", "curl/8.5.0");
    for _ in 0..3 {
        look(app, &one, &thief).await;
    }
    assert_eq!(
        noted(&server).await,
        ["another network and another program"]
    );
    // Another grant has its own, and so has the next day.
    let two = grant(&server, &mut browser).await;
    look(app, &two, &thief).await;
    assert_eq!(noted(&server).await.len(), 2);
    server.pass(24 * 3_600_000 - 1);
    look(app, &one, &thief).await;
    assert_eq!(noted(&server).await.len(), 2);
    server.pass(1);
    look(app, &one, &thief).await;
    assert_eq!(noted(&server).await.len(), 3);
    // A neighbour of IPv6 is the same place.
    let mut three = grant(&server, &mut browser).await;
    three.network = "2001:db8::1".into();
    look(app, &three, &peer("2001:db8::2", "curl/8.5.0")).await;
    assert_eq!(noted(&server).await.len(), 3);
    let address: IpAddr = "2001:db8:1::2".parse().unwrap();
    look(app, &three, &peer(&address.to_string(), "curl/8.5.0")).await;
    assert_eq!(noted(&server).await.len(), 4);
}

#[tokio::test]
async fn s1_18_an_impossible_rate_is_written_down_and_refuses_nobody() {
    let (server, mut browser) = start().await;
    let code = code(&mut browser, &[]).await;
    let mut token = text(&exchange(&server, &code, &[]).await, "refresh_token");
    for round in 0..70 {
        let answer = refresh(&server, &token, &[]).await;
        assert_eq!(answer.status, 200, "{round}: {}", answer.text);
        token = text(&answer, "refresh_token");
        assert_eq!(noted(&server).await.is_empty(), round < 30, "{round}");
    }
    assert_eq!(noted(&server).await, ["refreshed too often"]);
    // At a usual pace nobody says anything.
    server.pass(2 * 24 * 3_600_000);
    for _ in 0..10 {
        server.pass(30_000);
        token = text(&refresh(&server, &token, &[]).await, "refresh_token");
    }
    assert_eq!(noted(&server).await.len(), 1);
}

#[tokio::test]
async fn s1_18_what_is_written_down_is_not_asked_about_again_for_each_refresh() {
    let (server, mut browser) = start().await;
    let app = server.server.app();
    let state = &app.oauth2.unusual;
    let (one, two) = (
        grant(&server, &mut browser).await,
        grant(&server, &mut browser).await,
    );
    let thief = peer("198.51.100.7", "curl/8.5.0");
    let reasons = |grant| state.reasons(grant, &thief, app.now()).len();
    assert_eq!(reasons(&one), 1);
    look(app, &one, &thief).await;
    assert_eq!((reasons(&one), reasons(&two)), (0, 1));
    server.pass(NOTED_MS - 1);
    assert_eq!(reasons(&one), 0);
    server.pass(1);
    assert_eq!(reasons(&one), 1);
    // Written down by another node at a time that is not known here.
    let actor = Actor::person("another node");
    let written = server.registry();
    let written = written.note_unusual_use(&actor, &two.id, "reasons", "curl");
    assert!(written.await.unwrap());
    look(app, &two, &thief).await;
    assert_eq!(noted(&server).await.len(), 2);
    assert_eq!(reasons(&two), 0);
    server.pass(ASKED_AGAIN_MS);
    assert_eq!(reasons(&two), 1);
}

#[tokio::test]
async fn s1_18_what_is_unusual_is_told_to_webhooks() {
    use crate::webhooks::events;
    let kinds: Vec<_> = events::types().collect();
    for kind in ["grant.unusual_use", "grant.reused"] {
        assert!(kinds.contains(&kind), "{kind}");
    }
    let (server, mut browser) = start().await;
    let one = grant(&server, &mut browser).await;
    look(
        server.server.app(),
        &one,
        &peer("198.51.100.7", "curl/8.5.0"),
    )
    .await;
    let query = keywright_registry::AuditQuery {
        limit: 500,
        ..Default::default()
    };
    let page = server.registry().list_audit_events(query).await.unwrap();
    let told: Vec<_> = page.items.iter().filter_map(events::of_audit).collect();
    let event = told
        .iter()
        .find(|one| one.kind == "grant.unusual_use")
        .unwrap();
    let body = String::from_utf8(event.body()).unwrap();
    assert!(body.contains("another network"), "{body}");
    assert!(
        body.contains(&one.id) && body.contains("198.51.100.7"),
        "{body}"
    );
}

#[tokio::test]
async fn s1_18_unusual_use_is_mailed_to_the_person_once_a_day() {
    use crate::mail::testing::{Sink, settings};
    use crate::webhooks::testing::run;

    let (sink, port) = Sink::plain().await;
    let server = TestServer::with(|own| own.mail = Some(settings(port))).await;
    server.add_client("app", None, |_| {}).await;
    let user = server.add_user("ada@example.org", &[]).await;
    let mut browser = server.sign_in_as(&user).await;
    let app = server.server.app();
    let one = grant(&server, &mut browser).await;
    run(&server).await;
    sink.take();
    let thief = peer("198.51.100.7", "curl/8.5.0\r\n\r\nEvil: line");
    for _ in 0..3 {
        look(app, &one, &thief).await;
        run(&server).await;
    }
    let mails = sink.take();
    assert_eq!(mails.len(), 1, "{mails:?}");
    let mail = &mails[0];
    assert_eq!(mail.to, "RCPT TO:<ada@example.org>");
    for part in [
        "another network and another program",
        "198.51.100.7",
        "192.0.2.7",
        "curl/8.5.0",
        "Shop/1.2 (Linux)",
        "Client app",
        "/account",
    ] {
        // Long lines are broken on their way (RFC 2045 §6.7).
        let text = mail.data.replace("=\r\n", "");
        assert!(text.contains(part), "{part} in {text}");
    }
    // What strangers wrote makes no line of its own.
    assert!(!mail.data.contains("\nEvil:"), "{}", mail.data);
    // The next day it is told again; who is disabled, or has no address, hears nothing.
    server.pass(24 * 3_600_000);
    look(app, &one, &thief).await;
    run(&server).await;
    assert_eq!(sink.take().len(), 1);
    server.pass(24 * 3_600_000);
    let admin = Actor::person("admin");
    server
        .registry()
        .disable_user(&admin, &user.id, "left")
        .await
        .unwrap();
    look(app, &one, &thief).await;
    run(&server).await;
    assert!(sink.take().is_empty());
    assert_eq!(noted(&server).await.len(), 3);
}
