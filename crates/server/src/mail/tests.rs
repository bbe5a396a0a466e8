//! Mail by a real SMTP conversation, with the sink of `testing`.

use axum::http::{Method, StatusCode};
use keywright_registry::outbox::{Channel, MadeOf, MessageState};
use serde_json::{Value, json};

use super::testing::{Sink, settings};
use crate::settings::mail::{MailSettings, MailTable, SmtpServer, SmtpTls};
use crate::test_support::{Browser, OWNER_EMAIL, TestServer};
use crate::webhooks::testing::{Receiver, Root, run, verdict};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

async fn server(port: u16) -> TestServer {
    TestServer::with(|own| own.mail = Some(settings(port))).await
}

async fn key_of(server: &TestServer, email: &str, lifetime_ms: i64) -> Value {
    let user = server.add_user(email, &["member"]).await;
    let mut root = Root::of(server).await;
    let wish = json!({
        "name": "Billing", "prefix": "sk_live", "lifetime_ms": lifetime_ms,
        "scopes": ["orders:read"], "owner": { "kind": "person", "id": user.id },
    });
    root.ok(Method::POST, "/api/v1/keys", wish).await
}

#[tokio::test]
async fn the_owner_hears_of_a_key_that_expires_and_of_each_step_once() {
    let (sink, port) = Sink::plain().await;
    let server = server(port).await;
    key_of(&server, "mia@example.org", 40 * DAY_MS).await;
    for _ in 0..5 {
        server.pass(2 * DAY_MS);
        run(&server).await;
    }
    server.pass(3 * DAY_MS);
    run(&server).await;
    run(&server).await;
    let mails = sink.take();
    assert_eq!(mails.len(), 1, "{mails:?}");
    let mail = &mails[0];
    assert_eq!(mail.to, "RCPT TO:<mia@example.org>");
    assert_eq!(mail.from, "MAIL FROM:<keys@example.org>");
    for part in [
        "From: Keywright <keys@example.org>\r\n",
        "To: mia@example.org\r\n",
        "Auto-Submitted: auto-generated\r\n",
        "Message-ID: <ntc_",
        "Date: ",
        "Content-Type: text/plain; charset=utf-8",
    ] {
        assert!(mail.data.contains(part), "{part} in {}", mail.data);
    }
    // Asleep over 14, 7 and 1: the next one is told, and those before are not made up for.
    server.pass(26 * DAY_MS);
    run(&server).await;
    assert_eq!(sink.take().len(), 1);
}

#[tokio::test]
async fn ac_144_owner_and_administrators_hear_of_a_found_key() {
    let (sink, port) = Sink::plain().await;
    let server = server(port).await;
    server.add_user("adam@example.org", &["admin"]).await;
    let issued = key_of(&server, "mia@example.org", 90 * DAY_MS).await;
    let key = issued["secret"].as_str().unwrap().to_owned();
    let mut browser = server.browser();
    let found = json!({ "key": key });
    let answer = browser.json(Method::POST, "/found-key", &found).await;
    assert_eq!(answer.status, StatusCode::OK);
    for _ in 0..100 {
        if verdict(&server, &key).await == "key_revoked" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    run(&server).await;
    let mut mails = sink.take();
    // They hear too that it is used after its end, which this test did.
    mails.retain(|mail| mail.data.contains("found where no key belongs"));
    let mut to: Vec<_> = mails.iter().map(|mail| mail.to.as_str()).collect();
    to.sort_unstable();
    let expected =
        ["adam@example.org", "mia@example.org", OWNER_EMAIL].map(|one| format!("RCPT TO:<{one}>"));
    assert_eq!(to, expected);
    assert!(mails.iter().all(|mail| !mail.data.contains(&key[20..])));
}

#[tokio::test]
async fn an_invitation_goes_by_mail_and_is_stored_sealed() {
    let (sink, port) = Sink::plain().await;
    let server = server(port).await;
    let admin = server.add_user("adam@example.org", &["admin"]).await;
    let mut admin = server.sign_in_as(&admin).await;
    let body = json!({ "email": "new@example.org" });
    let made = admin.json(Method::POST, "/api/v1/invitations", &body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let link = made.json()["link"].as_str().unwrap().to_owned();
    let token = link.rsplit(['/', '=']).next().unwrap().to_owned();
    let path = server.registry().path().unwrap().to_owned();
    let mut stored = std::fs::read(&path).unwrap();
    stored.extend(std::fs::read(path.with_extension("db-wal")).unwrap_or_default());
    assert!(
        !stored
            .windows(token.len())
            .any(|part| part == token.as_bytes())
    );
    run(&server).await;
    let mails = sink.take();
    let mail = mails
        .iter()
        .find(|mail| mail.to.contains("new@example.org"))
        .unwrap();
    assert!(
        mail.data
            .replace("=\r\n", "")
            .replace("=3D", "=")
            .contains(&link),
        "{}",
        mail.data
    );
}

#[tokio::test]
async fn a_browser_that_is_new_is_told_of_and_the_first_one_is_not() {
    let (sink, port) = Sink::plain().await;
    let server = server(port).await;
    server.add_user("mia@example.org", &["member"]).await;
    // What a browser says it is makes no difference: an update is no other browser, and a thief says the same.
    let mut browsers = [server.browser(), server.browser()];
    for (which, agent, told) in [
        (0, "Firefox/1", 0),
        (0, "Firefox/2", 0),
        (1, "Firefox/2", 1),
        (1, "Firefox/2", 0),
        (0, "Firefox/3", 0),
    ] {
        let browser = &mut browsers[which];
        sign_in(browser, agent).await;
        // Signed out, it is the same browser.
        browser.cookies.retain(|(name, _)| name == "device");
        run(&server).await;
        let mails = sink.take();
        assert_eq!(mails.len(), told, "{which} {agent}");
        assert!(mails.iter().all(|mail| mail.to.contains("mia@example.org")));
    }
    // Stored is a digest; and who uses a known browser for the first time is new in it all the same.
    let token = browsers[0].cookie("device").unwrap().to_owned();
    assert_eq!(token.len(), 43);
    for path in server.files() {
        let bytes = std::fs::read(path).unwrap();
        let mut parts = bytes.windows(token.len());
        assert!(!parts.any(|part| part == token.as_bytes()));
    }
    let ada = server.add_user("ada@example.org", &["member"]).await;
    server.sign_in_as(&ada).await;
    sign_in_as(&mut browsers[0], "ada@example.org", "Firefox/3").await;
    run(&server).await;
    let mails = sink.take();
    assert!(mails.len() == 1 && mails[0].to.contains("ada@example.org"));
}

#[tokio::test]
async fn a_browser_that_signs_in_by_a_page_of_its_own_is_told_of_too() {
    let (sink, port) = Sink::plain().await;
    let server = server(port).await;
    server.add_user("mia@example.org", &["member"]).await;
    let mut browsers = [server.browser(), server.browser()];
    sign_in(&mut browsers[0], "one").await;
    for (which, told) in [(0, 0), (1, 1), (1, 0)] {
        let browser = &mut browsers[which];
        browser.cookies.retain(|(name, _)| name == "device");
        let body = json!({ "email": "mia@example.org", "password": crate::test_support::PASSWORD });
        let headers = [("content-type", "application/json"), ("user-agent", "one")];
        let sent = browser.send(
            Method::POST,
            "/auth/login",
            &headers,
            body.to_string().into(),
        );
        let answer = sent.await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        run(&server).await;
        let mails = sink.take();
        assert_eq!(mails.len(), told, "{which}");
        assert!(mails.iter().all(|mail| mail.to.contains("mia@example.org")));
    }
}

async fn sign_in(browser: &mut Browser, agent: &str) {
    sign_in_as(browser, "mia@example.org", agent).await;
}

async fn sign_in_as(browser: &mut Browser, email: &str, agent: &str) {
    let page = browser.get("/sign-in").await;
    let token = page.field("csrf_token").unwrap();
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("email", email)
        .append_pair("password", crate::test_support::PASSWORD)
        .append_pair("csrf_token", &token)
        .finish();
    let headers = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("user-agent", agent),
    ];
    let answer = browser
        .send(Method::POST, "/sign-in", &headers, form.into())
        .await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
}

#[tokio::test]
async fn a_mail_waits_for_its_server_and_a_mailbox_that_is_not_there_ends_it() {
    let (sink, port) = Sink::plain().await;
    let server = server(port).await;
    let admin = server.add_user("adam@example.org", &["admin"]).await;
    let mut admin = server.sign_in_as(&admin).await;
    for (address, refusal, state, mails) in [
        ("slow@example.org", "451 later", MessageState::Delivered, 1),
        (
            "gone@example.org",
            "550 no such mailbox",
            MessageState::Failed,
            0,
        ),
    ] {
        sink.refuse(&[refusal]);
        let body = json!({ "email": address });
        let made = admin.json(Method::POST, "/api/v1/invitations", &body).await;
        assert_eq!(
            made.status,
            StatusCode::CREATED,
            "no request fails for a mail"
        );
        run(&server).await;
        server.pass(10_000);
        run(&server).await;
        let got = sink.take().len();
        let (messages, _) = server
            .registry()
            .list_messages(Channel::Mail, address, None, 10)
            .await
            .unwrap();
        assert_eq!((messages[0].state, got), (state, mails), "{address}");
    }
}

#[tokio::test]
async fn a_dead_server_costs_no_request_anything() {
    let server = server(9).await;
    let admin = server.add_user("adam@example.org", &["admin"]).await;
    let mut admin = server.sign_in_as(&admin).await;
    let body = json!({ "email": "new@example.org" });
    let made = admin.json(Method::POST, "/api/v1/invitations", &body).await;
    assert_eq!(made.status, StatusCode::CREATED);
    run(&server).await;
    let (messages, _) = server
        .registry()
        .list_messages(Channel::Mail, "new@example.org", None, 10)
        .await
        .unwrap();
    assert_eq!(
        (messages[0].state, messages[0].attempts),
        (MessageState::Waiting, 1)
    );
}

#[tokio::test]
async fn password_and_mail_go_out_encrypted_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    let (sink, port) = Sink::with_tls(&ca).await;
    let password = folder.path().join("password");
    std::fs::write(&password, "mail secret\n").unwrap();
    let tls = |ca: Option<std::path::PathBuf>| MailSettings {
        server: SmtpServer {
            host: "localhost".into(),
            port,
            tls: SmtpTls::StartTls,
        },
        login: Some(("keys".into(), password.clone())),
        ca,
        ..settings(port)
    };
    // A certificate that nobody vouches for: nothing is said, not even the password.
    let stranger = super::Mailer::new(&tls(None)).unwrap();
    let refused = stranger
        .send("a@example.org", "1", "x", "y")
        .await
        .unwrap_err();
    assert!(!refused.is_final, "{refused:?}");
    assert!(sink.take().is_empty());
    let mailer = super::Mailer::new(&tls(Some(ca.clone()))).unwrap();
    mailer
        .send("a@example.org", "1", "Grüße", "Zeile")
        .await
        .unwrap();
    let mails = sink.take();
    assert!(mails[0].encrypted);
    assert_eq!(mails[0].login.as_deref(), Some("|keys|mail secret"));
    // A server without STARTTLS gets nothing either, however much it asks for the password.
    let (plain, port) = Sink::greedy().await;
    let mut downgraded = tls(Some(ca));
    downgraded.server.port = port;
    let mailer = super::Mailer::new(&downgraded).unwrap();
    assert!(mailer.send("a@example.org", "1", "x", "y").await.is_err());
    assert!(plain.take().is_empty());
    let shown = format!("{mailer:?}");
    assert!(!shown.contains("mail secret"), "{shown}");
}

/// As the table of the documentation says it: `smtps://`, a user and a file with the password.
#[tokio::test]
async fn smtps_is_encrypted_from_the_first_byte_and_signs_in_by_login_too() {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    let (sink, port) = Sink::with_tls_at_once(&ca).await;
    let password = folder.path().join("password");
    std::fs::write(&password, "mail secret\n").unwrap();
    let table = |ca: Option<std::path::PathBuf>, port: u16| MailTable {
        smtp_url: Some(format!("smtps://localhost:{port}")),
        from: Some("Keywright <keys@example.org>".into()),
        user: Some("keys".into()),
        password_file: Some(password.clone()),
        ca,
    };
    let mailer = |table: MailTable| {
        let settings = table.settings().unwrap().unwrap();
        assert_eq!(settings.server.tls, SmtpTls::AtOnce);
        super::Mailer::new(&settings).unwrap()
    };
    let send = async |mailer: &super::Mailer| mailer.send("a@example.org", "1", "x", "y").await;
    // A certificate that nobody vouches for: not even the password is said.
    let refused = send(&mailer(table(None, port))).await.unwrap_err();
    assert!(!refused.is_final && !refused.why.contains("mail secret"));
    assert!(sink.take().is_empty());
    send(&mailer(table(Some(ca.clone()), port))).await.unwrap();
    let mails = sink.take();
    assert_eq!(mails.len(), 1, "{mails:?}");
    assert!(mails[0].encrypted && mails[0].to.contains("a@example.org"));
    assert_eq!(mails[0].login.as_deref(), Some("|keys|mail secret"));
    // A server that begins in clear text is told nothing, whatever it offers later.
    let (clear, port) = Sink::with_tls(&folder.path().join("other.pem")).await;
    let mailer = mailer(table(Some(ca), port));
    let sent = tokio::time::timeout(std::time::Duration::from_secs(5), send(&mailer)).await;
    assert!(sent.is_ok_and(|sent| sent.is_err()));
    assert!(clear.take().is_empty());
}

#[tokio::test]
async fn a_server_that_falls_silent_is_not_waited_for_whenever_that_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = tokio::task::JoinSet::new();
    for after in ["", "EHLO", "STARTTLS", "RCPT", "DATA"] {
        let ca = folder.path().join("ca.pem");
        all.spawn(async move {
            let (sink, port) = Sink::silent(after, &ca).await;
            let mailer = super::Mailer::new(&settings(port)).unwrap();
            let sent = mailer.send("a@example.org", "1", "x", "y");
            let sent = tokio::time::timeout(super::WITHIN * 2, sent).await;
            let refused = sent.expect(after).unwrap_err();
            assert_eq!(refused.why, "the mail server did not answer in time");
            assert!(!refused.is_final && sink.take().is_empty(), "{after:?}");
        });
    }
    // One that has the mail just in time is in time, whenever it says goodbye.
    all.spawn(async {
        let (sink, port) = Sink::slow_and_silent(super::WITHIN - super::GOODBYE * 4 / 5).await;
        let mailer = super::Mailer::new(&settings(port)).unwrap();
        let sent = mailer.send("a@example.org", "1", "x", "y").await;
        assert_eq!((sent, sink.take().len()), (Ok(()), 1), "just in time");
    });
    all.join_all().await;
    // What it took was sent, whether or not it says goodbye: it must not go out again.
    let (sink, port) = Sink::silent("QUIT", &folder.path().join("ca.pem")).await;
    let mailer = super::Mailer::new(&settings(port)).unwrap();
    let sent = mailer.send("a@example.org", "1", "x", "y").await;
    assert_eq!((sent, sink.take().len()), (Ok(()), 1));
}

#[tokio::test]
async fn a_silent_mail_server_keeps_no_webhook_from_being_told() {
    let (sink, port) = Sink::silent("", std::path::Path::new("")).await;
    let server = server(port).await;
    let app = server.server.app();
    let mut root = Root::of(&server).await;
    let (receiver, url) = Receiver::listen().await;
    let (hook, _) = root.hook(&url, &["key.exposed"]).await;
    let mail = crate::notices::Mail {
        subject: "Hello".into(),
        text: "There".into(),
    };
    let mails = (0..20).map(|number| {
        let address = format!("person{number}@example.org");
        let kind = "user.invited";
        crate::notices::people::mail_to(app, &format!("m{number}"), kind, address, &mail)
    });
    let queued = server.registry().enqueue(MadeOf::Else, mails.collect());
    queued.await.unwrap();
    crate::notices::start_background_work(app);
    let until = async |count: usize| {
        for _ in 0..400 {
            if sink.connections() >= count {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("{} connections in place of {count}", sink.connections());
    };
    until(8).await;
    // They count as nobody's by now, and as many again hang: every place of the node would be taken.
    server.pass(41_000);
    app.notices.wake();
    until(16).await;
    root.ok(
        Method::POST,
        &format!("/api/v1/webhooks/{hook}/test"),
        Value::Null,
    )
    .await;
    for _ in 0..400 {
        if !receiver.take().is_empty() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the webhook was told nothing");
}
