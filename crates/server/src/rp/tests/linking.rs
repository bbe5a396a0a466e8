use axum::http::StatusCode;
use keywright_registry::people::UserQuery;
use serde_json::json;

use super::stub::{Stub, callback};
use crate::mail;
use crate::settings::SignUp;
use crate::sign_in::tests::give_codes;
use crate::test_support::{Answer, Browser, TestServer};
use crate::webhooks::testing::run;

/// Where the page that goes on leads to.
fn goes_to(answer: &Answer) -> Answer {
    let url = answer
        .header("refresh")
        .split_once("url=")
        .unwrap()
        .1
        .to_owned();
    let mut headers = answer.headers.clone();
    headers.insert("location", url.parse().unwrap());
    Answer {
        status: answer.status,
        headers,
        text: answer.text.clone(),
    }
}

pub(super) async fn link(stub: &Stub, browser: &mut Browser, id: &str) -> Answer {
    let asked = browser.get(&format!("/rp/link?idp={id}")).await;
    assert_eq!(asked.status, StatusCode::OK, "{}", asked.text);
    let token = asked.field("csrf_token").unwrap();
    let page = browser
        .post("/rp/link", &[("idp", id), ("csrf_token", &token)])
        .await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text);
    let sent = goes_to(&page);
    stub.note(&sent);
    browser.get(&callback(id, &sent, "&code=good")).await
}

#[tokio::test]
async fn ac_076_an_address_that_one_side_did_not_verify_links_nobody() {
    let (server, stub) = (TestServer::start().await, Stub::start().await);
    let ada = server.add_user("ada@example.org", &[]).await;
    stub.add(&server, "corp", "openid").await;
    stub.add(&server, "github", "github").await;
    stub.add_with(&server, "doubtful", "openid", |one| {
        one.trusts_email = Some(false)
    })
    .await;
    let back = stub.trip(&mut server.browser(), "doubtful").await;
    assert!(back.text.contains("sign_in_to_link"), "{}", back.text);
    for said in [json!(false), json!("false"), json!(1), json!(null)] {
        stub.plan(|plan| {
            plan.claims.insert("email_verified".into(), said);
            plan.emails[1]["verified"] = json!(false);
        });
        for id in ["corp", "github"] {
            let mut browser = server.browser();
            let back = stub.trip(&mut browser, id).await;
            assert_eq!(back.status, StatusCode::CONFLICT);
            assert!(back.text.contains("sign_in_to_link"), "{id} {}", back.text);
            assert!(back.text.contains("sign in first"));
            assert!(browser.cookie("session").is_none());
        }
    }
    // Userinfo cannot verify an address that the signed token says is not.
    stub.plan(|plan| {
        plan.claims.insert("email_verified".into(), json!(null));
        plan.userinfo =
            Some(json!({ "sub": "sub-1", "email": "ada@example.org", "email_verified": true }));
    });
    let back = stub.trip(&mut server.browser(), "corp").await;
    assert!(back.text.contains("sign_in_to_link"), "{}", back.text);
    assert!(
        server
            .registry()
            .list_identities(&ada.id)
            .await
            .unwrap()
            .is_empty()
    );
}

/// Whoever has only the mailbox opens an account at a provider with it.
#[tokio::test]
async fn s65_a_mailbox_is_no_way_around_codes_and_every_new_link_is_told_of() {
    let (sink, port) = mail::testing::Sink::plain().await;
    let with_mail = |settings: &mut crate::settings::Settings| {
        settings.mail = Some(mail::testing::settings(port));
    };
    let (server, stub) = (TestServer::with(with_mail).await, Stub::start().await);
    let ada = server.add_user("ada@example.org", &[]).await;
    stub.add(&server, "github", "github").await;
    give_codes(&server, &ada).await;
    let mut thief = server.browser();
    let back = stub.trip(&mut thief, "github").await;
    assert_eq!(back.status, StatusCode::CONFLICT, "{}", back.text);
    assert!(back.text.contains("sign_in_to_link"), "{}", back.text);
    assert!(thief.cookie("session").is_none());
    let linked = async || server.registry().list_identities(&ada.id).await.unwrap();
    assert!(linked().await.is_empty());
    run(&server).await;
    assert!(sink.take().is_empty());
    // Without a factor more the address links, and its person hears of it.
    let actor = keywright_domain::audit::Actor::person("test");
    let registry = server.registry();
    registry.remove_totp(&actor, &ada.id).await.unwrap();
    let back = stub.trip(&mut server.browser(), "github").await;
    assert_eq!(back.location(), "/dashboard", "{}", back.text);
    assert_eq!(linked().await.len(), 1);
    run(&server).await;
    let told = |mails: Vec<mail::testing::Mail>| {
        let about = |one: &&mail::testing::Mail| one.data.contains("another way to sign in");
        let about_it = mails.iter().filter(about);
        about_it.map(|one| one.to.clone()).collect::<Vec<_>>()
    };
    assert_eq!(told(sink.take()), ["RCPT TO:<ada@example.org>"]);
    // Not again, and of one that they linked themselves too.
    stub.trip(&mut server.browser(), "github").await;
    run(&server).await;
    assert!(told(sink.take()).is_empty());
    stub.add(&server, "corp", "openid").await;
    let mut browser = server.sign_in_as(&ada).await;
    link(&stub, &mut browser, "corp").await;
    run(&server).await;
    assert_eq!(told(sink.take()), ["RCPT TO:<ada@example.org>"]);
}

#[tokio::test]
async fn s65_somebody_signed_in_links_and_then_signs_in_by_it() {
    let (server, stub) = (TestServer::start().await, Stub::start().await);
    let ben = server.add_user("ben@example.org", &[]).await;
    stub.add(&server, "corp", "openid").await;
    stub.add(&server, "github", "github").await;
    let mut browser = server.sign_in_as(&ben).await;
    let session = browser.cookie("session").unwrap().to_owned();
    for id in ["corp", "github"] {
        let back = link(&stub, &mut browser, id).await;
        assert_eq!(
            (back.status, back.location()),
            (StatusCode::SEE_OTHER, "/account/sign-in"),
            "{}",
            back.text
        );
    }
    assert_eq!(
        browser.cookie("session"),
        Some(session.as_str()),
        "no other session begins"
    );
    assert_eq!(
        server
            .registry()
            .list_identities(&ben.id)
            .await
            .unwrap()
            .len(),
        2
    );
    for id in ["corp", "github"] {
        let back = stub.trip(&mut server.browser(), id).await;
        assert_eq!(back.location(), "/dashboard", "{}", back.text);
    }
    let history = server
        .registry()
        .list_sign_ins(Some(&ben.id), None, 10)
        .await
        .unwrap();
    assert!(
        history
            .items
            .iter()
            .any(|one| one.method == "github" && one.session_id.is_some())
    );
}

#[tokio::test]
async fn ac_077_an_identity_of_somebody_else_is_not_taken_over() {
    let (server, stub) = (TestServer::start().await, Stub::start().await);
    let ada = server.add_user("ada@example.org", &[]).await;
    let ben = server.add_user("ben@example.org", &[]).await;
    stub.add(&server, "corp", "openid").await;
    assert_eq!(
        stub.trip(&mut server.browser(), "corp").await.location(),
        "/dashboard"
    );
    let mut browser = server.sign_in_as(&ben).await;
    let back = link(&stub, &mut browser, "corp").await;
    assert_eq!(back.status, StatusCode::CONFLICT);
    assert!(back.text.contains("identity_in_use"), "{}", back.text);
    assert!(
        server
            .registry()
            .list_identities(&ben.id)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        server
            .registry()
            .list_identities(&ada.id)
            .await
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn s65_linking_begins_by_a_form_of_ours_and_ends_with_the_same_person() {
    let (server, stub) = (TestServer::start().await, Stub::start().await);
    let ben = server.add_user("ben@example.org", &[]).await;
    let eve = server.add_user("eve@example.org", &[]).await;
    stub.add(&server, "corp", "openid").await;
    let mut browser = server.sign_in_as(&ben).await;
    let forged = browser
        .post("/rp/link", &[("idp", "corp"), ("csrf_token", "x")])
        .await;
    assert_eq!(forged.status, StatusCode::FORBIDDEN);
    let nobody = server.browser().get("/rp/link?idp=corp").await;
    assert!(
        nobody.location().starts_with("/sign-in?"),
        "{}",
        nobody.location()
    );
    // Begun as one, and come back as another in the same browser.
    let asked = browser.get("/rp/link?idp=corp").await;
    let token = asked.field("csrf_token").unwrap();
    let page = browser
        .post("/rp/link", &[("idp", "corp"), ("csrf_token", &token)])
        .await;
    let sent = goes_to(&page);
    stub.note(&sent);
    let other = server.sign_in_as(&eve).await;
    let login = browser.cookie("login").unwrap().to_owned();
    browser.cookies = other.cookies.clone();
    browser.cookies.push(("login".into(), login));
    let back = browser.get(&callback("corp", &sent, "&code=good")).await;
    assert!(back.text.contains("session_changed"), "{}", back.text);
    for user in [&ben, &eve] {
        assert!(
            server
                .registry()
                .list_identities(&user.id)
                .await
                .unwrap()
                .is_empty()
        );
    }
}

#[tokio::test]
async fn s0_44_strangers_come_in_only_where_the_settings_say_so() {
    let (server, stub) = (TestServer::start().await, Stub::start().await);
    stub.add(&server, "corp", "openid").await;
    let back = stub.trip(&mut server.browser(), "corp").await;
    assert_eq!(back.status, StatusCode::FORBIDDEN);
    assert!(back.text.contains("sign_up_closed"));

    let open = |settings: &mut crate::settings::Settings| {
        settings.sign_up = SignUp::ByProvider(Vec::new());
    };
    let (server, stub) = (TestServer::with(open).await, Stub::start().await);
    stub.add(&server, "corp", "openid").await;
    stub.plan(|plan| {
        plan.claims.insert("name".into(), json!("Ada\nLovelace"));
    });
    assert_eq!(
        stub.trip(&mut server.browser(), "corp").await.location(),
        "/dashboard"
    );
    let query = UserQuery {
        text: "ada@example.org".into(),
        limit: 10,
        ..UserQuery::default()
    };
    let users = server.registry().list_users(&query).await.unwrap().items;
    assert_eq!((users.len(), users[0].name.as_str()), (1, "Ada Lovelace"));
    assert!(users[0].roles.is_empty());
}

#[tokio::test]
async fn a_disabled_person_stays_out() {
    let (server, stub) = (TestServer::start().await, Stub::start().await);
    let ada = server.add_user("ada@example.org", &[]).await;
    stub.add(&server, "corp", "openid").await;
    stub.trip(&mut server.browser(), "corp").await;
    let actor = keywright_domain::audit::Actor::person("test");
    server
        .registry()
        .disable_user(&actor, &ada.id, "left")
        .await
        .unwrap();
    let mut browser = server.browser();
    let back = stub.trip(&mut browser, "corp").await;
    assert_eq!(back.status, StatusCode::FORBIDDEN);
    assert!(back.text.contains("user_disabled"), "{}", back.text);
    assert!(browser.cookie("session").is_none());
}

#[tokio::test]
async fn google_vouches_for_its_own_addresses_and_keeps_to_a_domain() {
    let (server, stub) = (TestServer::start().await, Stub::start().await);
    server.add_user("ada@example.org", &[]).await;
    server.add_user("ada@gmail.com", &[]).await;
    stub.add(&server, "google", "google").await;
    stub.add_with(&server, "work", "google", |one| {
        one.hosted_domain = Some("example.org".into());
    })
    .await;
    // A verified address of another host is only what somebody once proved.
    let back = stub.trip(&mut server.browser(), "google").await;
    assert!(back.text.contains("sign_in_to_link"), "{}", back.text);
    let back = stub.trip(&mut server.browser(), "work").await;
    assert!(
        back.text.contains("hosted_domain_mismatch"),
        "{}",
        back.text
    );
    // Userinfo, which nobody signed, does not make somebody a member.
    stub.plan(|plan| plan.userinfo = Some(json!({ "sub": "sub-1", "hd": "example.org" })));
    let back = stub.trip(&mut server.browser(), "work").await;
    assert!(
        back.text.contains("hosted_domain_mismatch"),
        "{}",
        back.text
    );
    stub.plan(|plan| {
        plan.claims.insert("hd".into(), json!("example.org"));
    });
    let sent = stub.begin(&mut server.browser(), "work").await;
    assert_eq!(sent.location_param("hd").as_deref(), Some("example.org"));
    assert_eq!(
        stub.trip(&mut server.browser(), "work").await.location(),
        "/dashboard"
    );
    stub.plan(|plan| {
        plan.claims.clear();
        plan.claims.insert("sub".into(), json!("sub-2"));
        plan.claims.insert("email".into(), json!("Ada@gmail.com"));
        plan.userinfo = None;
    });
    assert_eq!(
        stub.trip(&mut server.browser(), "google").await.location(),
        "/dashboard"
    );
}

#[tokio::test]
async fn an_identity_more_needs_a_proof_of_these_minutes() {
    let (server, stub) = (TestServer::start().await, Stub::start().await);
    let ben = server.add_user("ben@example.org", &[]).await;
    stub.add(&server, "corp", "openid").await;
    let none_is_linked = async || {
        let linked = server.registry().list_identities(&ben.id).await.unwrap();
        linked.is_empty()
    };
    // The page was shown in time, the trip began in time, and both end too late.
    let mut browser = server.sign_in_as(&ben).await;
    let form = browser.get("/rp/link?idp=corp").await;
    let token = form.field("csrf_token").unwrap();
    let fields = [("idp", "corp"), ("csrf_token", token.as_str())];
    server.pass(300_000);
    let page = browser.post("/rp/link", &fields).await;
    let sent = goes_to(&page);
    stub.note(&sent);
    server.pass(300_000);
    let mut late = browser.clone();
    let back = late.get(&callback("corp", &sent, "&code=good")).await;
    assert_eq!(back.status, StatusCode::FORBIDDEN, "{}", back.text);
    assert!(back.text.contains("fresh_sign_in_required"));
    assert!(none_is_linked().await);
    let started = browser.post("/rp/link", &fields).await;
    assert_eq!(started.status, StatusCode::SEE_OTHER, "{}", started.text);
    assert_eq!(
        started.location(),
        "/sign-in?return_to=%2Faccount%2Fsign-in&again=1"
    );
    let asked = browser.get("/rp/link?idp=corp").await;
    assert_eq!(
        asked.location(),
        "/sign-in?return_to=%2Frp%2Flink%3Fidp%3Dcorp&again=1"
    );
    // Whoever has a second factor proves that too.
    let mut browser = server.sign_in_as(&ben).await;
    give_codes(&server, &ben).await;
    let asked = browser.get("/rp/link?idp=corp").await;
    assert_eq!(
        asked.location(),
        "/sign-in?return_to=%2Frp%2Flink%3Fidp%3Dcorp&acr=aal2"
    );
}
