//! One try to deliver one message to a webhook.

use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderValue, header};
use keywright_registry::RegistryError;
use keywright_registry::outbox::{Attempt, Claimed, Outcome};
use url::Url;

use super::{SECRET_PURPOSE, signature};
use crate::notices::retry::next_try;
use crate::server::App;

/// A receiver has this long to answer.
const WITHIN: Duration = Duration::from_secs(10);
/// A webhook to which nothing can be delivered for so long is switched off.
const PATIENCE_MS: i64 = 3 * 24 * 60 * 60 * 1000;
/// RFC 9110 §15.5.11: it will not come back.
const GONE: u16 = 410;

/// What the other side said.
struct Said {
    status: Option<u16>,
    error: Option<String>,
    excerpt: String,
    retry_after_s: Option<u32>,
}

impl Said {
    fn failed(error: impl Into<String>) -> Self {
        Self {
            status: None,
            error: Some(error.into()),
            excerpt: String::new(),
            retry_after_s: None,
        }
    }
}

/// Tries once, and writes down what came of it.
///
/// # Errors
/// [`RegistryError`]: then the message is free again when its claim runs out.
pub(crate) async fn deliver(app: &App, claimed: &Claimed) -> Result<(), RegistryError> {
    let message = &claimed.message;
    let at = app.now();
    let webhook = match app.registry.find_webhook(&message.target).await {
        Ok(webhook) => webhook,
        Err(RegistryError::WebhookNotFound) => {
            let said = Said::failed("the webhook was removed");
            return write_down(app, claimed, at, 0, said, Outcome::Failed).await;
        }
        Err(error) => return Err(error),
    };
    if webhook.disabled_at.is_some() {
        let said = Said::failed("the webhook is switched off");
        return write_down(app, claimed, at, 0, said, Outcome::Failed).await;
    }
    let begun = Instant::now();
    let said = send(app, &webhook.url, claimed, at).await?;
    let took = i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX);
    let delivered = said
        .status
        .is_some_and(|status| (200..300).contains(&status));
    let gone = said.status == Some(GONE);
    if delivered {
        app.notices.holds.delivered(&webhook.id, at, app.now());
    } else if gone {
        app.notices.holds.release(&webhook.id);
    } else {
        // Too many requests, or unavailable: whoever says so says until when.
        let asks = matches!(said.status, Some(429 | 503));
        let asked_s = said.retry_after_s.filter(|_| asks);
        let asked_ms = asked_s.map(|seconds| i64::from(seconds) * 1000);
        app.notices.holds.failed(&webhook.id, app.now(), asked_ms);
    }
    let again = next_try(message.attempts, app.now()).filter(|_| !gone);
    let outcome = match again {
        _ if delivered => Outcome::Delivered,
        Some(at) => Outcome::Again(at),
        None => Outcome::Failed,
    };
    if !delivered {
        tracing::warn!(
            webhook = webhook.id,
            event = message.event_type,
            attempt = message.attempts,
            status = said.status,
            "a webhook was not told"
        );
    }
    write_down(app, claimed, at, took, said, outcome).await?;
    let off = app
        .registry
        .note_webhook(&webhook.id, delivered, gone, PATIENCE_MS)
        .await?;
    if off {
        tracing::error!(webhook = webhook.id, "a webhook was switched off");
    }
    Ok(())
}

async fn send(app: &App, url: &str, claimed: &Claimed, at: i64) -> Result<Said, RegistryError> {
    let Ok(url) = Url::parse(url) else {
        return Ok(Said::failed("its address is none"));
    };
    let secrets = app
        .registry
        .webhook_secrets(&claimed.message.target)
        .await?;
    let seconds = at.div_euclid(1000);
    let id = &claimed.message.event_id;
    let mut signatures = Vec::new();
    for sealed in std::iter::once(&secrets.current).chain(&secrets.old) {
        let signed = app
            .secrets
            .unseal(SECRET_PURPOSE, sealed)
            .ok()
            .and_then(|bytes| {
                let secret = std::str::from_utf8(&bytes).ok()?;
                signature::sign(secret, id, seconds, &claimed.body)
            });
        match signed {
            Some(signed) => signatures.push(signed),
            // Unsigned, or signed by the old one alone, nothing leaves.
            None => return Ok(Said::failed("its secret cannot be opened by this server")),
        }
    }
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    for (name, text) in [
        ("webhook-id", id.clone()),
        ("webhook-timestamp", seconds.to_string()),
        ("webhook-signature", signatures.join(" ")),
    ] {
        match HeaderValue::try_from(text) {
            Ok(value) => drop(headers.insert(name, value)),
            Err(_) => return Ok(Said::failed("its id is none")),
        }
    }
    let answer = app
        .rp
        .http
        .post_bytes(&url, headers, claimed.body.clone(), WITHIN)
        .await;
    Ok(match answer {
        Ok(answer) => Said {
            error: (!(200..300).contains(&answer.status))
                .then(|| format!("it answered with {}", answer.status)),
            status: Some(answer.status),
            excerpt: answer.excerpt,
            retry_after_s: answer.retry_after_s,
        },
        Err(error) => Said::failed(error.to_string()),
    })
}

async fn write_down(
    app: &App,
    claimed: &Claimed,
    at: i64,
    duration_ms: i64,
    said: Said,
    outcome: Outcome,
) -> Result<(), RegistryError> {
    let attempt = Attempt {
        attempt: claimed.message.attempts,
        at,
        duration_ms,
        status: said.status.map(i64::from),
        error: said.error,
        excerpt: said.excerpt,
    };
    crate::notices::record(app, &claimed.message, attempt, outcome).await
}
