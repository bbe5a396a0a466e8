//! What every gateway must do that is configured as docs/gateways.md says.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::site::{Issued, Site, manage, raw};
use super::{check_limited, header};

/// All that a service may be told of a key.
pub(super) const NAMES: [&str; 5] = ["Key-Id", "Kid", "Owner", "Scopes", "Retires-At"];

/// A gateway before a site.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gateway {
    /// Where it is, at 127.0.0.1.
    pub(super) port: u16,
    /// What its example hands on to the service.
    pub(super) hands_on: &'static [&'static str],
    /// Whether it hands the end of a secret on, where there is one.
    pub(super) tells_end: bool,
}

/// The service was told of this key, and of nothing that a client says of itself.
fn check_told(gateway: &Gateway, told: &str, key: &Issued) -> Result<()> {
    let body = told.split("\r\n\r\n").last().unwrap_or("");
    for name in gateway.hands_on {
        let wanted: &str = match *name {
            "Key-Id" => &key.id,
            "Kid" => &key.kid,
            "Owner" => &key.owner,
            _ => "orders:read",
        };
        let field = format!("x-keywright-{}:", name.to_lowercase());
        let lines = body.lines().filter_map(|line| line.strip_prefix(&field));
        let values: Vec<_> = lines.map(str::trim).collect();
        ensure!(values == [wanted.to_lowercase()], "{name}: {told}");
    }
    for other in [
        "forged",
        "authorization",
        "x-api-key",
        &key.secret.to_lowercase(),
    ] {
        ensure!(!body.contains(other), "{other}: {told}");
    }
    Ok(())
}

/// What a refusal says of how to prove oneself, each as often as it came.
fn challenges(answer: &reqwest::Response) -> Result<Vec<&str>> {
    let values = answer.headers().get_all("www-authenticate").iter();
    values.map(|value| Ok(value.to_str()?)).collect()
}

/// A refusal that reaches the client whole.
async fn check_refused(answer: reqwest::Response, status: u16, code: &str) -> Result<()> {
    let kind = header(&answer, "content-type").to_owned();
    let stored = header(&answer, "cache-control").to_owned();
    let found = answer.status();
    let text = answer.text().await?;
    ensure!(found == status, "{code}: {found} {text}");
    ensure!(
        kind == "application/problem+json" && stored == "no-store",
        "{kind} {stored}"
    );
    let body: Value = serde_json::from_str(&text)?;
    ensure!(body["code"] == code && body["status"] == status, "{text}");
    Ok(())
}

/// The way of a request: who gets through, what the service is told, and what those are told who do not. `gone` is
/// what the gateway answers while the server is away.
pub(super) async fn asks_before_it_lets_through(
    site: &mut Site,
    gateway: &Gateway,
    gone: u16,
) -> Result<()> {
    let limit = json!({ "limits": [{ "name": "requests", "count": 4, "period_ms": 3_600_000 }] });
    let key = site.issue("orders:read", limit).await?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let port = gateway.port;
    let get = |path: &str| client.get(format!("http://127.0.0.1:{port}{path}"));

    let none = get("/orders").send().await?;
    ensure!(challenges(&none)? == ["Bearer"], "{none:?}");
    check_refused(none, 401, "credentials_missing").await?;
    let unknown = get("/orders")
        .bearer_auth("sk_live_nonsense")
        .send()
        .await?;
    let challenge = challenges(&unknown)?.join(", ");
    ensure!(challenge == "Bearer error=\"invalid_token\"", "{challenge}");
    check_refused(unknown, 401, "key_malformed").await?;
    let other = site.issue("orders:write", json!({})).await?;
    let poor = get("/orders").bearer_auth(&other.secret).send().await?;
    let challenge = challenges(&poor)?.join(", ");
    let wanted = "Bearer error=\"insufficient_scope\", scope=\"orders:read\"";
    ensure!(challenge == wanted, "{challenge}");
    check_refused(poor, 403, "insufficient_scope").await?;
    let url = get(&format!("/orders?key={}", key.secret)).header("x-api-key", &key.secret);
    check_refused(url.send().await?, 400, "key_in_url").await?;
    let path = format!("/api/v1/keys/{}", key.id);
    let shown = manage(&site.server, &path, Value::Null).await?;
    ensure!(shown["exposed_at"].is_i64(), "not flagged: {shown}");
    ensure!(site.service.served() == 0, "a refused request got through");

    let mut good = get("/orders/7?page=2").header("x-api-key", &key.secret);
    for name in NAMES {
        good = good.header(format!("X-Keywright-{name}"), "forged");
    }
    let good = good.send().await?;
    ensure!(good.status() == 200, "{good:?}");
    let told = good.text().await?;
    ensure!(told.starts_with("get /orders/7?page=2 "), "{told}");
    ensure!(!told.contains("retires-at"), "{told}");
    check_told(gateway, &told, &key)?;
    for _ in 0..3 {
        let good = get("/orders").bearer_auth(&key.secret).send().await?;
        ensure!(good.status() == 200, "{good:?}");
        check_told(gateway, &good.text().await?, &key)?;
    }
    check_limited(get("/orders").bearer_auth(&key.secret).send().await?).await?;
    ensure!(site.service.served() == 4);

    // A secret that is being replaced, and then one that has ended.
    let key = site.issue("orders:read", json!({})).await?;
    let path = format!("/api/v1/keys/{}/rotations", key.id);
    let wish = json!({ "overlap_ms": 3_600_000, "clock": "from_issue" });
    manage(&site.server, &path, wish).await?;
    let retiring = get("/orders").header("x-keywright-retires-at", "forged");
    let told = retiring
        .bearer_auth(&key.secret)
        .send()
        .await?
        .text()
        .await?;
    check_told(gateway, &told, &key)?;
    let until = told.split("x-keywright-retires-at: ").nth(1);
    ensure!(until.is_some() == gateway.tells_end, "{told}");
    ensure!(
        until.is_none_or(|until| until.starts_with(|digit: char| digit.is_ascii_digit())),
        "{told}"
    );
    let path = format!("/api/v1/keys/{}/revoke", key.id);
    manage(&site.server, &path, json!({})).await?;
    let ended = get("/orders").bearer_auth(&key.secret).send().await?;
    check_refused(ended, 401, "key_revoked").await?;

    // Without an answer nobody gets through.
    let key = site.issue("orders:read", json!({})).await?;
    ensure!(get("/").bearer_auth(&key.secret).send().await?.status() == 200);
    ensure!(site.service.served() == 6);
    site.server.signal("KILL")?;
    let _ = site.server.ended().await?;
    for path in ["/", "/orders"] {
        let alone = get(path).bearer_auth(&key.secret).send().await?;
        ensure!(alone.status() == gone, "{alone:?}");
    }
    ensure!(
        site.service.served() == 6,
        "it got through without an answer"
    );
    Ok(())
}

/// Names that a service may read as one of ours: as CGI does, which knows letters and digits alone.
fn spellings(name: &str) -> Vec<String> {
    let plain = format!("X-Keywright-{name}");
    vec![
        plain.to_uppercase(),
        plain.to_lowercase(),
        plain.replace('-', "_"),
        plain.replacen('-', "_", 1),
        plain.replace('-', "."),
        plain.replace("t-", "t_"),
        plain.replace("X-", "X~"),
        plain,
    ]
}

/// A client's own headers and addresses neither reach the service as ours nor change what is asked of the server.
pub(super) async fn no_trick_gets_more(site: &Site, gateway: &Gateway) -> Result<()> {
    let good = site.issue("orders:read", json!({})).await?;
    let poor = site.issue("orders:write", json!({})).await?;
    let (good_line, poor_line) = (good.line(), poor.line());
    let ask = async |first: &str, lines: &[&str]| {
        let before = site.service.served();
        let (status, answer) = raw("127.0.0.1", gateway.port, first, lines).await?;
        anyhow::Ok((status, answer, site.service.served() > before))
    };
    for line in NAMES.iter().flat_map(|name| spellings(name)) {
        let line = format!("{line}: forged");
        for lines in [[&good_line, &line], [&line, &good_line]] {
            let lines = lines.map(String::as_str);
            let (status, answer, _) = ask("GET /orders", &lines).await?;
            ensure!(status == 200, "{line}: {answer}");
            check_told(gateway, &answer, &good).context(line.clone())?;
        }
    }
    // What a client names in Connection, a proxy takes away (RFC 9110 §7.6.1): not what it added itself.
    for named in NAMES.map(|name| format!("X-Keywright-{name}")) {
        let line = format!("Connection: close, {named}");
        let (status, answer, _) = ask("GET /orders", &[&good_line, &line]).await?;
        ensure!(status == 200, "{line}: {answer}");
        check_told(gateway, &answer, &good).context(line)?;
    }
    let key_names = [
        "X-API-Key",
        "Authorization",
        "X-Forwarded-For",
        "X-Forwarded-Uri",
        "Host",
    ];
    for line in key_names.map(|name| format!("Connection: close, {name}")) {
        let (status, answer, served) = ask("GET /orders", &[&good_line, &line]).await?;
        ensure!(served == (status == 200), "{line}: {answer}");
        if served {
            check_told(gateway, &answer, &good).context(line)?;
        }
    }
    // Of two keys nobody could say which one counts.
    let bearer = |key: &Issued| format!("Authorization: Bearer {}", key.secret);
    let (good_bearer, poor_bearer) = (bearer(&good), bearer(&poor));
    for lines in [
        [&good_bearer, &poor_bearer],
        [&poor_bearer, &good_bearer],
        [&good_line, &poor_line],
        [&poor_line, &good_line],
        [&good_line, &poor_bearer],
        [&poor_line, &good_bearer],
    ] {
        let lines = lines.map(String::as_str);
        let (status, answer, served) = ask("GET /orders", &lines).await?;
        ensure!(
            (status == 400 || status == 401) && !served,
            "{lines:?}: {answer}"
        );
    }
    for line in [
        "X-Keywright-Scope: orders:write",
        "X-Keywright-Scope:",
        "X-Keywright-Scope: orders:read or orders:write",
        "X_Keywright_Scope: orders:write",
        "X-Keywright-Environment: live",
        "X-Keywright-Type: secret",
        "X-Original-URI: /verify?scope=orders:write",
        "X-Forwarded-Uri: /verify?scope=orders:write",
        "X-Envoy-Original-Path: /verify?scope=orders:write",
        "X-Envoy-Auth-Partial-Body: false",
        "X-HTTP-Method-Override: OPTIONS",
        "Connection: close, X-Keywright-Scope",
    ] {
        for lines in [[poor_line.as_str(), line], [line, poor_line.as_str()]] {
            let (status, answer, served) = ask("GET /orders", &lines).await?;
            ensure!(
                (status == 400 || status == 403) && !served,
                "{line}: {answer}"
            );
        }
    }
    for target in TARGETS {
        for method in ["GET", "HEAD", "POST", "OPTIONS"] {
            let first = format!("{method} {target}");
            let (_, answer, served) = ask(&first, &[]).await?;
            ensure!(!served, "{first} without a key: {answer}");
            let (_, answer, served) = ask(&first, &[&poor_line]).await?;
            ensure!(!served, "{first} without the scope: {answer}");
        }
        let first = format!("GET {target}");
        let (_, answer, served) = ask(&first, &[&good_line]).await?;
        if served {
            check_told(gateway, &answer, &good).context(first)?;
        }
    }
    // Its own query is the service's, and costs what every request costs.
    let limit = json!({ "limits": [{ "name": "requests", "count": 1, "period_ms": 3_600_000 }] });
    let once = site.issue("orders:read", limit).await?.line();
    let (status, answer, _) = ask("GET /orders?cost=0&scope=x", &[&once]).await?;
    ensure!(status == 200, "{answer}");
    ensure!(answer.contains("get /orders?cost=0&scope=x "), "{answer}");
    let (status, answer, _) = ask("GET /orders?cost=0", &[&once]).await?;
    ensure!(status == 429, "{answer}");
    Ok(())
}

/// Addresses that say more than a path.
pub(super) const TARGETS: [&str; 18] = [
    "/orders?scope=orders:write",
    "/orders?scope=orders:write&scope=orders:write",
    "/?scope=orders:write&environment=live&cost=0",
    "?scope=orders:write",
    "/verify?scope=orders:write",
    "/verify/../x?scope=orders:write",
    "/../verify?scope=orders:write",
    // The server answers it with 200 to everybody.
    "/readyz",
    "/../readyz",
    "/../../readyz",
    "/%2e%2e/readyz",
    "/..%2freadyz",
    "/..%5creadyz",
    "/..;/readyz",
    "//readyz",
    "/orders%3Fscope=orders:write",
    "/orders%23",
    "http://127.0.0.1/orders?scope=orders:write",
];

/// The server learns the client's address and route from the gateway, whatever the client says. The gateway is trusted.
pub(super) async fn a_forged_address_counts_for_nothing(
    site: &Site,
    gateway: &Gateway,
) -> Result<()> {
    let ask = async |key: &Issued, line: &str| {
        let (first, key) = ("POST /orders/7?page=2", key.line());
        let lines = [key.as_str(), "Content-Length: 0", line];
        raw("127.0.0.2", gateway.port, first, &lines).await
    };
    let own = site
        .issue("orders:read", json!({ "networks": ["127.0.0.2/32"] }))
        .await?;
    let other = site
        .issue("orders:read", json!({ "networks": ["10.9.8.0/24"] }))
        .await?;
    for line in [
        "X-Forwarded-For: 10.9.8.7",
        "X-Forwarded-For: 10.9.8.7, 10.9.8.7",
        "X-Forwarded-For: 10.9.8.7\r\nX-Forwarded-For: 10.9.8.7",
        "Forwarded: for=10.9.8.7",
        "X-Real-Ip: 10.9.8.7",
        "X-Client-Ip: 10.9.8.7",
    ] {
        let (status, answer) = ask(&own, line).await?;
        ensure!(status == 200, "{line}: {answer}");
        let (status, answer) = ask(&other, line).await?;
        ensure!(status == 403, "{line}: {answer}");
    }
    let path = format!("/api/v1/keys/{}/preview", own.id);
    let board = manage(&site.server, &path, json!({ "revoke": true })).await?;
    let lines = board["lines"].as_array().context("no lines")?;
    ensure!(lines.len() == 1, "{board}");
    ensure!(lines[0]["caller"]["route"] == "POST /orders/*", "{board}");
    Ok(())
}

/// Waits until a gateway answers; `log` is what it wrote. Some listen before they know their routes, and say 404.
pub(super) async fn answers(port: u16, log: &std::path::Path) -> Result<()> {
    let end = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        let answer = raw("127.0.0.1", port, "GET /", &[]).await;
        if answer.is_ok_and(|(status, _)| status != 404) {
            return Ok(());
        }
        let said = std::fs::read_to_string(log).unwrap_or_default();
        ensure!(std::time::Instant::now() < end, "it does not start: {said}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
