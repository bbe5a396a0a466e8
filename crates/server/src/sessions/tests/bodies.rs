//! Bodies: which are needed, which types are taken, and how one that does not fit is refused (S2-35, S2-36,
//! S2-49).

use super::*;

const JSON: (&str, &str) = ("content-type", "application/json");

/// A sign-out with the token in the header and a body.
async fn sign_out(browser: &mut Browser, headers: &[(&str, &str)], body: &str) -> Answer {
    let csrf = browser.cookie("csrf_token").unwrap_or("").to_owned();
    let headers: Vec<_> = [("x-csrf-token", csrf.as_str())]
        .into_iter()
        .chain(headers.iter().copied())
        .collect();
    let path = "/auth/signOut?token_type_hint=session_token";
    let body = Body::from(body.to_owned());
    browser.send(Method::POST, path, &headers, body).await
}

#[tokio::test]
async fn s2_35_s2_36_s2_48_a_sign_out_needs_no_body_and_takes_one_as_json() {
    let server = TestServer::start().await;
    let user = server.add_user("ada@example.org", &[]).await;
    let utf8 = ("content-type", "Application/JSON; charset=utf-8");
    for (headers, body) in [
        (&[][..], ""),
        (&[JSON][..], "{}"),
        (&[JSON][..], ""),
        (&[utf8][..], "{\"token_type_hint\": \"session_token\"}"),
    ] {
        let mut browser = server.sign_in_as(&user).await;
        let answer = sign_out(&mut browser, headers, body).await;
        assert_eq!(
            (answer.status, answer.json()),
            (StatusCode::OK, json!({ "signedOut": true })),
            "{headers:?} {body}: {}",
            answer.text
        );
        assert!(browser.cookie("session").is_none());
    }
    // What stands in it counts, as in a form.
    let mut browser = server.sign_in_as(&user).await;
    for (body, code) in [
        (
            json!({ "token_type_hint": "id_token" }),
            "unsupported_token_type",
        ),
        (
            json!({ "redirectTo": "//evil.example" }),
            "invalid_redirect",
        ),
        (json!({ "redirecTo": "/x" }), "unknown_parameter"),
    ] {
        let answer = browser.json(Method::POST, "/auth/signOut", &body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(answer.json()["code"], code, "{body}");
    }
    // Without a form the token may stand there too, and a wrong one is none.
    let own = browser.cookie("csrf_token").unwrap().to_owned();
    for (token, status) in [("AAAA", 403), (own.as_str(), 303)] {
        let body = json!({ "csrf_token": token, "redirectTo": "/account" }).to_string();
        let answer = browser
            .send(Method::POST, "/auth/signOut", &[JSON], Body::from(body))
            .await;
        assert_eq!(answer.status.as_u16(), status, "{}", answer.text);
    }
    assert!(browser.cookie("session").is_none());
}

#[tokio::test]
async fn s2_36_a_malformed_body_of_a_sign_out_is_400_and_ends_nothing() {
    let server = TestServer::start().await;
    let (_, mut browser) = person(&server).await;
    for body in [
        "{",
        "[]",
        "null",
        "\"session_token\"",
        "{\"token_type_hint\": 1}",
        "{\"redirectTo\": null}",
        "{\"redirectTo\": \"/a\", \"redirectTo\": \"/b\"}",
    ] {
        let answer = sign_out(&mut browser, &[JSON], body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(answer.json()["code"], "invalid_body", "{body}");
    }
    let text = ("content-type", "text/plain");
    let answer = sign_out(&mut browser, &[text], "{}").await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(browser.get("/auth/session").await.status, StatusCode::OK);
}

/// We have no 422: a body that is JSON and not what an address takes is a bad request like one that is no JSON,
/// and one of another type is told so.
#[tokio::test]
async fn s2_49_a_body_that_does_not_fit_is_400_and_one_of_another_type_415() {
    let server = TestServer::start().await;
    let owner = server.add_user("olga@example.org", &["owner"]).await;
    let mut browser = server.sign_in_as(&owner).await;
    let csrf = browser.cookie("csrf_token").unwrap().to_owned();
    let token = ("x-csrf-token", csrf.as_str());
    for path in [
        "/api/v1/keys",
        "/api/v1/users",
        "/api/v1/invitations",
        "/api/v1/clients",
        "/api/v1/webhooks",
    ] {
        for body in ["{", "[]", "1", "{\"name\": {}, \"surprise\": []}"] {
            let answer = browser
                .send(Method::POST, path, &[token, JSON], Body::from(body))
                .await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path} {body}");
            assert_eq!(answer.json()["code"], "invalid_body", "{path} {body}");
        }
        let text = ("content-type", "text/plain");
        let answer = browser
            .send(Method::POST, path, &[token, text], Body::from("{}"))
            .await;
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        assert_eq!(answer.status, status, "{path} {}", answer.text);
    }
}
