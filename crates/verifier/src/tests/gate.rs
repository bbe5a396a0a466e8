//! The gate before a service: what it lets through, and what it answers (RFC 6750 §3).

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode};
use tower::{Layer as _, ServiceExt as _};

use crate::claims::Claims;
use crate::{Authorized, Check, Gate, Refusal, TokenError};

/// Knows its tokens by name.
struct Names;

impl Check for Names {
    async fn check(&self, token: &str) -> Result<Arc<Claims>, TokenError> {
        let scope = match token {
            "reader" => "read",
            "writer" => "read write",
            "nothing" => "",
            "ended" => return Err(TokenError::Expired),
            "down" => return Err(TokenError::Unavailable),
            _ => return Err(TokenError::InvalidSignature),
        };
        let claims = serde_json::json!({
            "iss": "https://id.example.com", "sub": token, "aud": "x", "exp": 1, "client_id": "c",
            "scope": scope,
        });
        let claims = serde_json::from_value(claims).map_err(|_| TokenError::Malformed)?;
        Ok(Arc::new(claims))
    }
}

async fn whoami(claims: Authorized) -> Result<String, Refusal> {
    claims.require("read")?;
    Ok(claims.sub.clone())
}

fn service() -> Router {
    let gate = Gate::new(Names);
    Router::new()
        .route("/", get(whoami))
        .route("/write", get(whoami).layer(gate.require("read write")))
        .layer(gate)
        .route("/open", get(whoami))
}

async fn ask(path: &str, authorization: &[&str]) -> anyhow::Result<(StatusCode, String, String)> {
    let mut request = Request::get(path);
    for value in authorization {
        request = request.header(AUTHORIZATION, *value);
    }
    let response = service().oneshot(request.body(Body::empty())?).await?;
    let status = response.status();
    let challenge = response.headers().get(WWW_AUTHENTICATE);
    let challenge = challenge
        .map_or("", |value| value.to_str().unwrap())
        .to_owned();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        assert!(response.headers().contains_key(RETRY_AFTER));
    }
    let body = axum::body::to_bytes(response.into_body(), 1000).await?;
    Ok((status, challenge, String::from_utf8(body.to_vec())?))
}

#[tokio::test]
async fn s27_requests_are_answered_as_rfc_6750_says() -> anyhow::Result<()> {
    let (status, challenge, body) = ask("/", &["bEARER reader"]).await?;
    assert_eq!(
        (status, &*challenge, &*body),
        (StatusCode::OK, "", "reader")
    );

    for missing in [&[] as &[&str], &["Basic cmVhZGVyOng="], &["DPoP reader"]] {
        let (status, challenge, _) = ask("/", missing).await?;
        assert_eq!((status, &*challenge), (StatusCode::UNAUTHORIZED, "Bearer"));
    }
    // A token in an address is nothing.
    let (status, ..) = ask("/?access_token=reader", &[]).await?;
    assert_eq!(status, StatusCode::UNAUTHORIZED);

    for broken in [
        &["Bearer"] as &[&str],
        &["Bearer "],
        &["Bearer reader reader"],
        &["Bearer re,ader"],
        &["Bearer reader", "Bearer reader"],
        &["Basic x", "Bearer reader"],
    ] {
        let (status, challenge, _) = ask("/", broken).await?;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{broken:?}");
        assert!(challenge.starts_with("Bearer error=\"invalid_request\""));
    }

    let (status, challenge, _) = ask("/", &["Bearer ended"]).await?;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        challenge,
        "Bearer error=\"invalid_token\", error_description=\"token_expired: the token has ended\""
    );

    let (status, challenge, body) = ask("/", &["Bearer down"]).await?;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((&*challenge, &*body), ("", ""));
    Ok(())
}

#[tokio::test]
async fn s28_scopes_are_asked_for_by_layers_and_by_handlers() -> anyhow::Result<()> {
    assert_eq!(ask("/write", &["Bearer writer"]).await?.0, StatusCode::OK);
    let (status, challenge, _) = ask("/write", &["Bearer reader"]).await?;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(
        challenge,
        "Bearer error=\"insufficient_scope\", scope=\"read write\""
    );
    let (status, challenge, _) = ask("/", &["Bearer nothing"]).await?;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(
        challenge,
        "Bearer error=\"insufficient_scope\", scope=\"read\""
    );
    Ok(())
}

#[tokio::test]
async fn a_handler_without_its_gate_lets_nobody_in() -> anyhow::Result<()> {
    let (status, _, body) = ask("/open", &["Bearer writer"]).await?;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(body, "");
    Ok(())
}

#[tokio::test]
async fn any_service_over_http_can_stand_behind_it_and_the_token_is_not_printed()
-> anyhow::Result<()> {
    let inner = tower::service_fn(|request: Request<()>| async move {
        let claims = request.extensions().get::<Arc<Claims>>().cloned();
        let printed = format!("{request:?}");
        Ok::<_, Infallible>(Response::new(format!("{} {printed}", claims.unwrap().sub)))
    });
    let gated = Gate::new(Names).layer(inner);
    let request = Request::builder()
        .header(AUTHORIZATION, "Bearer writer")
        .body(())?;
    let body = gated.oneshot(request).await?.into_body();
    assert!(body.starts_with("writer "));
    assert!(!body.contains("Bearer writer"), "{body}");
    Ok(())
}
