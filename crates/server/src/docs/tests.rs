use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use keywright_domain::flows::choosing::SESSIONS_AND_TOKENS;
use keywright_domain::flows::{FLOWS, find, pieces};

use super::guides::{GUIDES, is_served, without_unserved_links};
use super::llms::with_whole_addresses;
use crate::test_support::{Answer, Browser, TestServer};

/// The pages, and the texts.
fn pages() -> Vec<String> {
    let flows = FLOWS.iter().map(|flow| format!("/docs/flows/{}", flow.id));
    let fixed = ["/docs", "/docs/flows"].map(str::to_owned);
    fixed.into_iter().chain(flows).collect()
}

fn texts() -> Vec<String> {
    let guides = GUIDES
        .iter()
        .map(|guide| format!("/docs/guides/{}", guide.name));
    let fixed = ["/llms.txt", "/llms-full.txt"].map(str::to_owned);
    fixed.into_iter().chain(guides).collect()
}

fn is_public_and_careful(path: &str, answer: &Answer) {
    assert_eq!(answer.status, StatusCode::OK, "{path}");
    assert_eq!(
        answer.header("cache-control"),
        "public, max-age=3600",
        "{path}"
    );
    assert_eq!(answer.header("x-frame-options"), "DENY", "{path}");
    let policy = answer.header("content-security-policy");
    assert!(policy.contains("frame-ancestors 'none'"), "{path}");
    assert_eq!(answer.header("set-cookie"), "", "{path}");
}

/// Every address of ours in a page, without what stands behind `#` and `?`.
fn links(text: &str) -> BTreeSet<String> {
    let parts = text.split(" href=\"").skip(1);
    let targets = parts.filter_map(|part| part.split('"').next());
    let paths = targets.filter(|target| target.starts_with('/'));
    paths
        .filter_map(|target| target.split(['#', '?']).next())
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn s0_01_s0_58_every_page_is_public_links_on_and_no_link_is_dead() {
    let server = TestServer::start().await;
    let mut browser = server.browser();
    let mut linked = BTreeSet::new();
    for path in pages() {
        let answer = browser.get(&path).await;
        is_public_and_careful(&path, &answer);
        assert!(!answer.text.contains("<script"), "{path} needs no script");
        // S0-02, S1-35: before anything else.
        let skip = answer.text.find("Skip to content").unwrap();
        assert!(skip < answer.text.find("<header").unwrap(), "{path}");
        let found = links(&answer.text);
        for wanted in [
            "/docs",
            "/docs/flows",
            "/api/docs",
            "/llms.txt",
            "/llms-full.txt",
        ] {
            assert!(found.contains(wanted), "{path}: {wanted}");
        }
        linked.extend(found);
    }
    for path in texts() {
        is_public_and_careful(&path, &browser.get(&path).await);
    }
    let api = links(&browser.get("/api/docs").await.text);
    assert!(api.contains("/llms.txt") && api.contains("/docs"));
    for path in linked {
        assert_eq!(browser.get(&path).await.status, StatusCode::OK, "{path}");
    }
    for (path, code) in [
        ("/docs/flows/nonesuch", "flow_not_found"),
        ("/docs/guides/..%2F..%2FCargo.toml", "guide_not_found"),
    ] {
        let answer = browser.get(path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert!(answer.text.contains(code), "{path}");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
    }
}

#[tokio::test]
async fn ac_195_s0_03_a_flow_s_page_says_every_step() {
    let server = TestServer::start().await;
    let mut browser = server.browser();
    for flow in &FLOWS {
        let text = browser.get(&format!("/docs/flows/{}", flow.id)).await.text;
        let text = text.replace("<code>", "`").replace("</code>", "`");
        for step in flow.steps {
            let escaped = |text: &str| text.replace('&', "&amp;").replace('>', "&gt;");
            for said in [step.title, step.detail, &step.who()] {
                assert!(text.contains(&escaped(said)), "{}: {said}", flow.id);
            }
        }
        assert_eq!(text.matches("class=\"arrow ").count(), flow.steps.len());
        for said in flow.practices.iter().chain([&flow.note]) {
            assert!(text.contains(said), "{}: {said}", flow.id);
        }
        for title in [
            "What you will learn",
            "On this page",
            "Best practices",
            "See also",
            "Resources",
        ] {
            assert!(text.contains(title), "{}: {title}", flow.id);
        }
    }
}

#[tokio::test]
async fn s2_50_s4_04_the_first_page_says_what_one_learns_and_compares_sessions_and_tokens() {
    let server = TestServer::start().await;
    let text = server.browser().get("/docs").await.text;
    for title in ["What you will learn", "On this page", "Guides", "Resources"] {
        assert!(text.contains(title), "{title}");
    }
    // What the contents lead to is there.
    let contents = text.split("<p>On this page</p>").nth(1).unwrap();
    let contents = contents.split("</nav>").next().unwrap();
    let leads: Vec<_> = contents.split("href=\"#").skip(1).collect();
    assert!(leads.len() >= 5, "{contents}");
    for lead in leads {
        let id = lead.split('"').next().unwrap();
        assert!(text.contains(&format!("id=\"{id}\"")), "{id}");
    }
    let text = text.replace("<code>", "`").replace("</code>", "`");
    for [about, session, token] in SESSIONS_AND_TOKENS {
        let heading = format!("<th scope=\"row\">{about}</th>");
        let (_, rest) = text.split_once(&heading).unwrap();
        let (row, _) = rest.split_once("</tr>").unwrap();
        let cells: Vec<_> = row.split("</td>").collect();
        assert!(cells[0].ends_with(&format!(">{session}")), "{row}");
        assert!(cells[1].ends_with(&format!(">{token}")), "{row}");
    }
}

#[tokio::test]
async fn s0_01_llms_txt_lists_everything_and_the_full_one_says_it() {
    let server = TestServer::start().await;
    let mut browser = server.browser();
    let short = browser.get("/llms.txt").await.text;
    let full = browser.get("/llms-full.txt").await.text;
    // As llmstxt.org has it: a title, a summary, lists of links.
    assert!(short.starts_with("# Keywright\n\n> "));
    for flow in &FLOWS {
        let link = format!(
            "- [{}](http://127.0.0.1:8377/docs/flows/{}): ",
            flow.title, flow.id
        );
        assert!(short.contains(&link), "{link}");
        for step in flow.steps {
            assert!(full.contains(step.detail), "{} {}", flow.id, step.n);
        }
    }
    for guide in &GUIDES {
        assert!(short.contains(&format!("/docs/guides/{}): ", guide.name)));
        let text = with_whole_addresses(server.server.settings(), &guide.text());
        assert!(full.contains(&text), "{}", guide.name);
    }
    // Read from there, what is beside a guide is not beside it.
    let ends = full
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    let targets: Vec<&str> = ends.collect();
    assert!(
        targets
            .iter()
            .any(|target| target.contains("/docs/guides/nodes.md#"))
    );
    for target in targets {
        assert!(
            target.starts_with("http") || target.starts_with('#'),
            "{target}"
        );
    }
    // Every link leads somewhere.
    for part in short.split("](http://127.0.0.1:8377").skip(1) {
        let path = part.split([')', '#']).next().unwrap();
        assert_eq!(browser.get(path).await.status, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn s1_19_s1_20_sessions_and_tokens_stand_beside_each_other_on_the_page_and_in_the_text() {
    let server = TestServer::start().await;
    let mut browser = server.browser();
    let page = browser.get("/docs").await.text;
    let page = page.replace("<code>", "`").replace("</code>", "`");
    let full = browser.get("/llms-full.txt").await.text;
    for cell in SESSIONS_AND_TOKENS.as_flattened() {
        let escaped = cell.replace('&', "&amp;").replace('>', "&gt;");
        assert!(page.contains(&escaped), "{cell}");
        assert!(full.contains(cell), "{cell}");
    }
    let of_tokens = |about: &str| {
        let mut rows = SESSIONS_AND_TOKENS.iter();
        rows.find(|row| row[0] == about).unwrap()[2]
    };
    // Fast, and not to be ended early; what is renewed needs a safe place.
    assert!(of_tokens("Speed").contains("without a network"));
    assert!(of_tokens("Revoke").contains("A plain JWT ends when it expires"));
    let practices = find("authorization-code").unwrap().practices;
    let where_to = "refresh tokens in the system’s keychain";
    assert!(practices.iter().any(|line| line.contains(where_to)));
}

#[tokio::test]
async fn s0_01_below_a_path_every_link_has_it() {
    let server = TestServer::with(|settings| {
        *settings =
            crate::settings::Settings::new("http://127.0.0.1:8377/id", settings.data.clone())
                .unwrap();
    })
    .await;
    let mut browser = server.browser();
    for path in pages() {
        let answer = browser.get(&format!("/id{path}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        for link in links(&answer.text) {
            assert!(link.starts_with("/id/"), "{path}: {link}");
        }
    }
    let short = browser.get("/id/llms.txt").await.text;
    assert!(short.contains("(http://127.0.0.1:8377/id/docs/flows/device)"));
    assert!(!short.contains("8377/docs"));
}

async fn exists(browser: &mut Browser, verb: &str, path: &str) -> bool {
    let asked = path.replace(['{', '}'], "");
    let verb: Method = verb.parse().unwrap();
    let accept = [("accept", "application/json")];
    let answer = browser.send(verb, &asked, &accept, Body::empty()).await;
    // What is not there is a problem of this code, or a page that says so.
    let missing =
        answer.text.contains("\"not_found\"") || answer.text.contains("<code>not_found</code>");
    answer.status != StatusCode::METHOD_NOT_ALLOWED && !missing
}

#[tokio::test]
async fn ac_195_what_the_steps_name_exists_here() {
    let server = TestServer::start().await;
    let mut browser = server.browser();
    assert!(!exists(&mut browser, "GET", "/nonesuch").await);
    assert!(!exists(&mut browser, "PUT", "/oauth2/token").await);
    let discovery = browser
        .get("/.well-known/openid-configuration")
        .await
        .json();
    let lists = |name: &str, value: &str| {
        let values = discovery[name].as_array().unwrap();
        values.iter().any(|one| one == value)
    };
    let (mut endpoints, mut values) = (BTreeSet::new(), 0);
    for flow in &FLOWS {
        let texts = flow.steps.iter().map(|step| step.detail);
        let texts = texts.chain(flow.failures.iter().map(|failure| failure.detail));
        for (is_code, code) in texts.chain([flow.note]).flat_map(pieces) {
            if !is_code {
                continue;
            }
            if let Some((verb @ ("GET" | "POST"), path)) = code.split_once(' ') {
                assert!(
                    exists(&mut browser, verb, path).await,
                    "{}: {code}",
                    flow.id
                );
                endpoints.insert(code);
            }
            let Some((name, value)) = code.split_once('=') else {
                continue;
            };
            let listed = match name {
                "grant_type" => lists("grant_types_supported", value),
                "response_type" => lists("response_types_supported", value),
                "code_challenge_method" => lists("code_challenge_methods_supported", value),
                "scope" => value
                    .split('+')
                    .all(|scope| lists("scopes_supported", scope)),
                _ => continue,
            };
            assert!(listed, "{}: {code}", flow.id);
            values += 1;
        }
    }
    assert!(
        endpoints.len() >= 14 && values >= 6,
        "{endpoints:?} {values}"
    );
}

#[test]
fn links_that_lead_nowhere_become_their_text() {
    let text =
        "a [b](decisions/0001-x.md), [c](server.md#settings) and [d](https://e.example) [f](#g)";
    let expected = "a b, [c](server.md#settings) and [d](https://e.example) [f](#g)";
    assert_eq!(without_unserved_links(text), expected);
    for guide in &GUIDES {
        let text = guide.text();
        for part in text.split("](").skip(1) {
            let target = part.split(')').next().unwrap();
            assert!(is_served(target), "{}: {target}", guide.name);
        }
    }
}
