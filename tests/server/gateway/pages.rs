//! Pages of another origin, as a browser asks for them (Fetch standard, "CORS protocol"): the preflight, which has no
//! key, is answered by the gateway and reaches nobody behind it, and what follows tells the page what it may read.

use anyhow::{Context as _, Result, ensure};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::json;

use super::checks::{self, Gateway, TARGETS};
use super::site::{Site, raw};
use super::{DOCS, Nginx, behind_changed_caddy, behind_changed_nginx, changed, header};

/// The page that docs/gateways.md lets ask.
const PAGE: &str = "https://app.example.org";
/// Nobody that it lets.
const OTHERS: [&str; 6] = [
    "https://other.example.org",
    "https://app.example.org.example.net",
    "https://app.example.org:8443",
    "http://app.example.org",
    "https://app.example.orgs",
    "null",
];

/// What the page says for a gateway under "Pages of another origin".
pub(super) fn block(gateway: &str) -> Result<String> {
    let section = DOCS
        .split("\n## Pages of another origin\n")
        .nth(1)
        .context("docs/gateways.md has no such section")?;
    let block = section
        .split(&format!("\n### {gateway}\n"))
        .nth(1)
        .and_then(|rest| rest.split("```").nth(1))
        .and_then(|block| block.split_once('\n'))
        .with_context(|| format!("nothing for {gateway}"))?;
    Ok(block.1.to_owned())
}

/// The parts of a block, each below a comment of its own.
fn parts<'a, const N: usize>(block: &'a str, titles: [&str; N]) -> Result<[&'a str; N]> {
    let mut found = [""; N];
    let mut rest = block;
    for (number, title) in titles.iter().enumerate() {
        let (before, after) = rest
            .split_once(&format!("# {title}\n"))
            .with_context(|| format!("no part: {title}"))?;
        match number.checked_sub(1) {
            Some(last) => found[last] = before,
            None => ensure!(before.trim().is_empty(), "{before}"),
        }
        rest = after;
    }
    found[N - 1] = rest;
    Ok(found)
}

fn nginx(page: &Nginx) -> Result<Nginx> {
    let block = block("nginx")?;
    let [http, first, each] = parts(
        &block,
        [
            "In `http`:",
            "First in `location /`:",
            "In `location /` and in the three `location @keywright_…`:",
        ],
    )?;
    let mut server = changed(
        &page.server,
        "location / {\n",
        &format!("location / {{\n{first}{each}"),
    )?;
    for name in ["401", "403", "other"] {
        let place = format!("location @keywright_{name} {{\n");
        server = changed(&server, &place, &format!("{place}{each}"))?;
    }
    Ok(Nginx {
        http: format!("{}{http}", page.http),
        server,
    })
}

fn caddy(page: &str) -> Result<String> {
    let block = block("Caddy")?;
    let [site, route, service] = parts(
        &block,
        [
            "Before `route`:",
            "First in `route`:",
            "In the `reverse_proxy` to your service:",
        ],
    )?;
    let page = changed(page, "route {\n", &format!("{site}route {{\n{route}"))?;
    let place = "reverse_proxy 127.0.0.1:";
    let (before, after) = page.split_once(place).context("no service")?;
    let (port, after) = after.split_once('\n').context("no service")?;
    Ok(format!("{before}{place}{port}\n{service}{after}"))
}

/// Each value of a field, as often as it came.
fn all<'a>(answer: &'a Response, name: &str) -> Result<Vec<&'a str>> {
    let values = answer.headers().get_all(name).iter();
    values.map(|value| Ok(value.to_str()?)).collect()
}

/// Which pages a browser gives this answer to. More than one value would be none to it.
fn allowed(answer: &Response) -> Result<Vec<&str>> {
    all(answer, "access-control-allow-origin")
}

/// The page sees this answer, with that field of it.
fn check_seen(answer: &Response, status: u16, field: &str) -> Result<()> {
    ensure!(answer.status() == status, "{status}: {answer:?}");
    ensure!(allowed(answer)? == [PAGE], "{status}: {answer:?}");
    let vary = all(answer, "vary")?.join(", ").to_lowercase();
    ensure!(vary.contains("origin"), "{status}: {answer:?}");
    let exposed = all(answer, "access-control-expose-headers")?.join(", ");
    let mut exposed = exposed.split(',').map(str::trim);
    ensure!(
        field.is_empty() || exposed.any(|one| one.eq_ignore_ascii_case(field)),
        "{field} of a {status} is hidden: {answer:?}"
    );
    ensure!(
        field.is_empty() || !header(answer, field).is_empty(),
        "a {status} has no {field}: {answer:?}"
    );
    Ok(())
}

fn preflight(request: RequestBuilder, origin: &str) -> RequestBuilder {
    request
        .header("origin", origin)
        .header("access-control-request-method", "PUT")
        .header("access-control-request-headers", "content-type,x-api-key")
}

/// A page that may gets answers, whatever they are, another one gets none, and no preflight gets through. `gone` is
/// what the gateway answers while the server is away.
pub(super) async fn get_what_they_may(site: &mut Site, gateway: &Gateway, gone: u16) -> Result<()> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let port = gateway.port;
    let ask = |method: Method, path: &str| {
        client.request(method, format!("http://127.0.0.1:{port}{path}"))
    };
    let get = |path: &str, origin: &str| ask(Method::GET, path).header("origin", origin);
    let own = json!({ "origins": [PAGE] });
    let key = site.issue_as("pk_live", "orders:read", own).await?;
    let poor = site.issue("orders:write", json!({})).await?;

    for path in ["/", "/orders/7?page=2", "/verify", "/readyz"] {
        let answer = preflight(ask(Method::OPTIONS, path), PAGE).send().await?;
        ensure!([200, 204].contains(&answer.status().as_u16()), "{answer:?}");
        ensure!(allowed(&answer)? == [PAGE], "{path}: {answer:?}");
        let methods = header(&answer, "access-control-allow-methods");
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            ensure!(methods.contains(method), "{method}: {answer:?}");
        }
        let fields = header(&answer, "access-control-allow-headers").to_lowercase();
        for field in ["authorization", "x-api-key", "content-type"] {
            ensure!(fields.contains(field), "{field}: {answer:?}");
        }
        ensure!(
            header(&answer, "access-control-max-age") == "600",
            "{answer:?}"
        );
        // With a key as well: it is the gateway that answers.
        let with_key = ask(Method::OPTIONS, path).header("x-api-key", &key.secret);
        preflight(with_key, PAGE).send().await?;
        for other in OTHERS {
            let answer = preflight(ask(Method::OPTIONS, path), other).send().await?;
            ensure!(allowed(&answer)?.is_empty(), "{other}: {answer:?}");
        }
    }
    for target in TARGETS {
        let lines = [
            &format!("Origin: {PAGE}"),
            "Access-Control-Request-Method: GET",
            &poor.line(),
        ];
        raw("127.0.0.1", port, &format!("OPTIONS {target}"), &lines).await?;
    }
    // Not every OPTIONS is a preflight: what is none needs a key as everything does.
    let plain = ask(Method::OPTIONS, "/orders").header("origin", PAGE);
    check_seen(&plain.send().await?, 401, "www-authenticate")?;
    ensure!(site.service.served() == 0, "a preflight got through");

    let good = get("/orders", PAGE).header("x-api-key", &key.secret);
    let good = good.send().await?;
    check_seen(&good, 200, "")?;
    ensure!(good.text().await?.starts_with("get /orders "));
    for other in OTHERS {
        let answer = get("/orders", other).header("x-api-key", &key.secret);
        let answer = answer.send().await?;
        ensure!(answer.status() == 403, "{other}: {answer:?}");
        ensure!(allowed(&answer)?.is_empty(), "{other}: {answer:?}");
    }
    ensure!(
        site.service.served() == 1,
        "another page's request got through"
    );

    let none = get("/orders", PAGE).send().await?;
    check_seen(&none, 401, "www-authenticate")?;
    let refused = get("/orders", PAGE).bearer_auth(&poor.secret);
    check_seen(&refused.send().await?, 403, "www-authenticate")?;
    let url = format!("/orders?key={}", poor.secret);
    let in_url = get(&url, PAGE).bearer_auth(&poor.secret);
    check_seen(&in_url.send().await?, 400, "")?;
    let limit = json!({ "limits": [{ "name": "requests", "count": 1, "period_ms": 3_600_000 }] });
    let once = site.issue("orders:read", limit).await?;
    let limited = || get("/orders", PAGE).bearer_auth(&once.secret);
    // Caddy and Traefik hand no limits on of a request that got through.
    check_seen(&limited().send().await?, 200, "")?;
    check_seen(&limited().send().await?, 429, "retry-after")?;

    checks::no_trick_gets_more(site, gateway).await?;
    let served = site.service.served();
    site.server.signal("KILL")?;
    let _ = site.server.ended().await?;
    let answer = preflight(ask(Method::OPTIONS, "/"), PAGE).send().await?;
    ensure!(allowed(&answer)? == [PAGE], "{answer:?}");
    let alone = get("/orders", PAGE).header("x-api-key", &key.secret);
    check_seen(&alone.send().await?, gone, "")?;
    ensure!(site.service.served() == served, "it got through");
    Ok(())
}

#[tokio::test]
async fn ac_123_pages_of_another_origin_get_through_nginx() -> Result<()> {
    let (mut site, gateway, _nginx, _folder) =
        behind_changed_nginx("", |_, page| nginx(&page)).await?;
    get_what_they_may(&mut site, &gateway, 503).await
}

#[tokio::test]
async fn ac_123_pages_of_another_origin_get_through_caddy() -> Result<()> {
    let (mut site, gateway, _caddy, _folder) =
        behind_changed_caddy("", |page| caddy(&page)).await?;
    get_what_they_may(&mut site, &gateway, 502).await
}
