//! Figures, their page and the rules for Prometheus name the same: a rule about a figure that is not there never calls
//! anybody, and a figure that no page explains helps nobody.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::test_support::TestServer;

const PAGE: &str = "docs/monitoring.md";
const RULES: &str = "packaging/monitoring/alerts.yml";

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::read_to_string(root.join(path)).unwrap()
}

/// All names of figures in a text.
fn named(text: &str) -> BTreeSet<String> {
    let is_of_name = |letter: char| letter.is_ascii_lowercase() || "_0123456789".contains(letter);
    let mut found = BTreeSet::new();
    for prefix in ["keywright_", "process_"] {
        for (at, _) in text.match_indices(prefix) {
            let before = text[..at].chars().next_back();
            let name: String = text[at..]
                .chars()
                .take_while(|one| is_of_name(*one))
                .collect();
            // `keywright_server::requests` is a name of the log's.
            let is_module = text[at + name.len()..].starts_with("::");
            if !before.is_some_and(is_of_name) && !is_module {
                found.insert(name);
            }
        }
    }
    found
}

/// The figures of a server that was asked something, as a query names them.
async fn shown() -> BTreeSet<String> {
    let server = TestServer::start().await;
    server.server.do_due_work().await.unwrap();
    server.browser().get("/healthz").await;
    super::super::metrics::look(server.server.app()).await;
    let text = server.server.app().operations.metrics.text();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let kinds = text.lines().filter_map(|line| {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        let ending = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let name = format!("{name}{ending}");
        // Each has at least one line from the start: a first rise is seen.
        let has_line = text.lines().any(|line| line.starts_with(&name));
        assert!(has_line, "{name} has no line: {text}");
        Some(name)
    });
    kinds.collect()
}

#[tokio::test]
async fn figures_and_their_page_name_the_same() {
    let shown = shown().await;
    assert!(shown.len() > 40, "{shown:?}");
    assert_eq!(named(&read(PAGE)), shown);
    for path in [RULES, "docs/server.md", "docs/nodes.md", "docs/webhooks.md"] {
        let others: Vec<_> = named(&read(path)).difference(&shown).cloned().collect();
        assert!(others.is_empty(), "{path} names {others:?}");
    }
}

/// Enough of YAML for what the file has; Prometheus itself is not here.
#[test]
fn rules_are_whole() {
    let text = read(RULES);
    let rules: Vec<&str> = text.split("\n      - alert: ").skip(1).collect();
    assert!(rules.len() >= 10, "{}", rules.len());
    let mut names = BTreeSet::new();
    for rule in rules {
        let (name, body) = rule.split_once('\n').unwrap();
        assert!(names.insert(name), "{name} twice");
        assert!(name.starts_with("Keywright"), "{name}");
        for member in [
            "expr: ",
            "labels: {severity: ",
            "annotations:\n",
            "summary: \"",
        ] {
            assert_eq!(body.matches(member).count(), 1, "{name}: {member}");
        }
        let is_known = ["page}", "ticket}"].iter().any(|one| body.contains(one));
        assert!(is_known, "{name}");
        for (open, close) in [('(', ')'), ('{', '}'), ('[', ']')] {
            let count = |letter: char| body.matches(letter).count();
            assert_eq!(count(open), count(close), "{name}: {open}{close}");
        }
        assert_eq!(body.matches('"').count() % 2, 0, "{name}");
        assert!(!body.contains('\t'), "{name}");
        // Every program has these.
        let process = body.matches("process_").count();
        let ours = body.matches("{job=\"keywright\"}").count();
        assert!(process <= ours, "{name}: of which process?");
        assert!(name == "KeywrightDown" || !named(body).is_empty(), "{name}");
    }
}
