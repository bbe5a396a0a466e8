//! `docs/errors.md` and the sources say the same codes: programs go by them, so that none may be renamed, added or left
//! without a word on what to do unseen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use axum::http::StatusCode;

/// Files whose functions `code` name what a caller is told, from the folder of all crates.
const TOLD: [&str; 18] = [
    "domain/src/api_keys/environment.rs",
    "domain/src/api_keys/imports.rs",
    "domain/src/api_keys/lifecycle.rs",
    "domain/src/api_keys/policy.rs",
    "domain/src/api_keys/settings.rs",
    "domain/src/api_keys/verification.rs",
    "domain/src/people/error.rs",
    "domain/src/people/sessions.rs",
    "domain/src/schedules/error.rs",
    "domain/src/scopes/requirement.rs",
    "registry/src/error.rs",
    "registry/src/portable/escrow.rs",
    "registry/src/portable/import_lines.rs",
    "registry/src/portable/promotion_bundle.rs",
    "registry/src/verification.rs",
    "server/src/keys/bearer.rs",
    "server/src/passwords.rs",
    "server/src/signing/keys.rs",
];
/// Others: pages and the audit trail say them, or commands.
const NOT_TOLD: [&str; 7] = [
    "domain/src/id_token.rs",
    "domain/src/people/grants.rs",
    "domain/src/people/linking.rs",
    "registry/src/people/requests.rs",
    "registry/src/portable/backup.rs",
    "registry/src/portable/exports.rs",
    "server/src/secrets.rs",
];
/// A state like the others, and no refusal.
const NO_CODES: [&str; 1] = ["active"];
/// Files of the server in which a problem is made with a code that stands elsewhere: how often, and which codes are
/// meant that no function `code` has.
const ELSEWHERE: &[(&str, usize, &[&str])] = &[
    ("caller.rs", 1, &[]),
    (
        "clients/tokens.rs",
        1,
        &["invalid_max_uses", "note_too_long"],
    ),
    (
        "http/csrf.rs",
        1,
        &["csrf_invalid", "csrf_missing", "origin_rejected"],
    ),
    ("key_service/import.rs", 1, &[]),
    ("key_service/later_run.rs", 1, &[]),
    ("key_service/promotions.rs", 5, &[]),
    ("keys/bearer.rs", 3, &[]),
    ("keys/verify.rs", 1, &[]),
    ("keys/verify/asked.rs", 2, &[]),
    (
        "oauth2/access_token.rs",
        1,
        &["issuer_mismatch", "token_expired", "token_not_yet_valid"],
    ),
    (
        "oauth2/dpop.rs",
        1,
        &["invalid_dpop_proof", "use_dpop_nonce"],
    ),
    (
        "operations/answers.rs",
        1,
        &["bad_request", "body_too_large"],
    ),
    ("sessions/session.rs", 1, &[]),
    ("sign_in/browser_client.rs", 1, &["refresh_reuse"]),
    ("sign_in/mod.rs", 1, &[]),
    ("users/invitations.rs", 2, &[]),
    ("users/mod.rs", 2, &[]),
    ("users/people.rs", 2, &[]),
    ("users/roles.rs", 2, &[]),
];
/// By what the registry refuses lines of an import and keys that are to move: the code is the first or the second of
/// what is in the parentheses.
const ONE_BY_ONE: [&str; 5] = [
    "LineProblem::new(",
    "Self::new(",
    "Fate::Refused(",
    "PromotionRefused::new(",
    "refuse(",
];
/// Files whose functions `code` name what pages say.
const OF_PAGES: [&str; 3] = [
    "domain/src/id_token.rs",
    "domain/src/people/linking.rs",
    "registry/src/people/requests.rs",
];
/// The heading of the page's second table.
const PAGES: &str = "\n## Codes of pages\n";
/// Made by functions of [`super::Problem`] itself, or named by a constant.
const BY_NAME: [&str; 3] = ["insufficient_scope", "key_in_url", "rate_limited"];

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All sources but tests, by their path below `folder`, without comments and tests within.
fn sources(folder: &Path) -> BTreeMap<String, String> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(one) = folders.pop() {
        for entry in fs::read_dir(one).unwrap().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if path.is_dir() && name != "tests" {
                folders.push(path);
            } else if name.ends_with(".rs") && !name.contains("test") && name != "codes.rs" {
                let text = fs::read_to_string(&path).unwrap();
                let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
                let is_code = |line: &&str| !line.trim_start().starts_with("//");
                let code: Vec<_> = text.lines().filter(is_code).collect();
                let path = path.strip_prefix(folder).unwrap().to_str().unwrap();
                found.insert(path.to_owned(), code.join("\n"));
            }
        }
    }
    found
}

fn is_code(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_lowercase())
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// A code that a text begins with, in quotes.
fn quoted(text: &str) -> Option<&str> {
    let (code, _) = text.trim_start().strip_prefix('"')?.split_once('"')?;
    is_code(code).then_some(code)
}

/// What a problem is made with: its status where that stands there, and its code.
fn made_with(constructor: &str, arguments: &str) -> (Option<u16>, Option<String>) {
    let status = match constructor {
        "bad_request" => Some(400),
        "unauthorized" | "invalid_token" => Some(401),
        "not_found" => Some(404),
        _ => None,
    };
    if status.is_some() {
        return (status, quoted(arguments).map(str::to_owned));
    }
    let Some((status, rest)) = arguments.split_once(',') else {
        return (None, None);
    };
    let name = status.trim().strip_prefix("StatusCode::");
    let known = (100..600).filter_map(|code| StatusCode::from_u16(code).ok());
    let named = |code: &StatusCode| {
        let reason = code.canonical_reason()?.to_uppercase();
        Some(reason.replace([' ', '-'], "_"))
    };
    let status = name.and_then(|name| {
        known
            .filter(|code| named(code).as_deref() == Some(name))
            .map(|code| code.as_u16())
            .next()
    });
    (status, quoted(rest).map(str::to_owned))
}

/// The bodies of all functions `code` that a text defines.
fn bodies(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("fn code(") {
        let Some((signature, _)) = text[at..].split_once('{') else {
            continue;
        };
        if !signature.contains("&'static str") {
            continue;
        }
        let body = &text[at + signature.len()..];
        let mut depth = 0;
        let end = body.find(|letter| {
            depth += i32::from(letter == '{') - i32::from(letter == '}');
            depth == 0
        });
        found.push(&body[..end.unwrap()]);
    }
    found
}

/// Codes of the sources, each with the statuses that stand beside it.
fn of_sources() -> BTreeMap<String, BTreeSet<u16>> {
    let mut codes: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
    let mut elsewhere: BTreeMap<String, usize> = BTreeMap::new();
    let server = sources(&crates().join("server/src"));
    for (path, text) in &server {
        for constructor in [
            "bad_request",
            "unauthorized",
            "invalid_token",
            "not_found",
            "new",
        ] {
            for part in text.split(&format!("Problem::{constructor}(")).skip(1) {
                let (status, code) = made_with(constructor, part);
                match code {
                    Some(code) => codes.entry(code).or_default().extend(status),
                    None => *elsewhere.entry(path.clone()).or_default() += 1,
                }
            }
        }
    }
    let listed = ELSEWHERE.iter();
    let listed: BTreeMap<_, _> = listed
        .map(|(path, times, _)| ((*path).to_owned(), *times))
        .collect();
    assert_eq!(elsewhere, listed, "problems whose code stands elsewhere");
    for (path, _, named) in ELSEWHERE {
        for code in *named {
            assert!(
                server[*path].contains(&format!("\"{code}\"")),
                "{path}: {code}"
            );
            codes.entry((*code).to_owned()).or_default();
        }
    }
    codes.extend(BY_NAME.map(|code| (code.to_owned(), BTreeSet::new())));
    for text in sources(&crates().join("registry/src")).values() {
        for way in ONE_BY_ONE {
            for part in text.split(way).skip(1) {
                let second = part.split_once(',').and_then(|(_, rest)| quoted(rest));
                for code in [quoted(part), second].into_iter().flatten() {
                    codes.entry(code.to_owned()).or_default();
                }
            }
        }
    }
    for folder in ["domain", "registry", "server"] {
        for (path, text) in sources(&crates().join(folder).join("src")) {
            let path = format!("{folder}/src/{path}");
            for body in bodies(&text) {
                if NOT_TOLD.contains(&&*path) {
                    continue;
                }
                assert!(TOLD.contains(&&*path), "{path}: are its codes told?");
                let words = body.split('"').skip(1).step_by(2);
                let words = words.filter(|word| is_code(word) && !NO_CODES.contains(word));
                for word in words {
                    codes.entry(word.to_owned()).or_default();
                }
            }
        }
    }
    codes
}

/// The page before its second table, and that table.
fn page() -> (String, String) {
    let page = fs::read_to_string(crates().join("../docs/errors.md")).unwrap();
    let (first, second) = page.split_once(PAGES).unwrap();
    (first.to_owned(), second.to_owned())
}

/// Rows of the page: code, statuses, what to do.
fn of_page() -> BTreeMap<String, (String, String)> {
    let mut rows = BTreeMap::new();
    let mut before = String::new();
    for line in page().0.lines() {
        let Some(line) = line.strip_prefix("| `") else {
            before.clear();
            continue;
        };
        let mut cells = line.trim_end_matches(" |").split(" | ");
        let code = cells.next().unwrap().trim_end_matches('`').to_owned();
        let (status, what) = (cells.next().unwrap(), cells.next().unwrap());
        assert!(cells.next().is_none() && what.len() > 8, "{line}");
        assert!(before < code, "{code} stands behind {before}");
        before.clone_from(&code);
        let row = (status.to_owned(), what.to_owned());
        assert!(rows.insert(code.clone(), row).is_none(), "{code} twice");
    }
    rows
}

#[test]
fn the_page_of_codes_has_each_code_of_the_sources_and_no_other() {
    let (sources, page) = (of_sources(), of_page());
    assert!(sources.len() > 150, "{}", sources.len());
    let missing: Vec<_> = sources
        .keys()
        .filter(|code| !page.contains_key(*code))
        .collect();
    assert!(missing.is_empty(), "docs/errors.md lacks {missing:?}");
    let stale: Vec<_> = page
        .keys()
        .filter(|code| !sources.contains_key(*code))
        .collect();
    assert!(stale.is_empty(), "no source has {stale:?}");
    for (code, statuses) in sources {
        let written = &page[&code].0;
        let written: Vec<_> = written.split(", ").collect();
        for status in statuses {
            let status = status.to_string();
            assert!(
                written.contains(&&*status),
                "{code}: {status}, not {written:?}"
            );
        }
    }
}

/// Codes that pages say below what is to be done.
fn said_by_pages() -> BTreeSet<String> {
    let mut codes = BTreeSet::new();
    for (path, text) in sources(&crates().join("server/src")) {
        for way in ["Failure::new(", "Failure::provider(", "Stopped::shown("] {
            let parts = text.split(way).skip(1);
            codes.extend(parts.filter_map(quoted).map(str::to_owned));
        }
        for part in text.split("error_page(").skip(1) {
            let first = part.split('"').nth(1).filter(|word| is_code(word));
            codes.extend(first.map(str::to_owned));
        }
        if path.starts_with("rp/") {
            let words = text.split('"').skip(1).step_by(2);
            let words = words.filter(|word| word.starts_with("idp_") && is_code(word));
            codes.extend(words.map(str::to_owned));
        }
    }
    for path in OF_PAGES {
        let text = fs::read_to_string(crates().join(path)).unwrap();
        for body in bodies(&text) {
            let words = body.split('"').skip(1).step_by(2);
            codes.extend(words.filter(|word| is_code(word)).map(str::to_owned));
        }
    }
    codes
}

#[test]
fn the_second_table_has_each_code_of_a_page_that_the_first_has_not() {
    let (said, first) = (said_by_pages(), of_page());
    assert!(said.len() > 40, "{}", said.len());
    let second = page().1;
    let rows = second.lines().filter_map(|line| line.strip_prefix("| "));
    let mut told = BTreeSet::new();
    for row in rows.skip(1) {
        let (what, codes) = row.split_once(" | ").unwrap();
        assert!(what.len() > 8, "{row}");
        for code in codes.trim_end_matches(" |").split(", ") {
            let code = code.trim_matches('`').to_owned();
            assert!(said.contains(&code), "no page says {code}");
            assert!(told.insert(code), "twice: {row}");
        }
    }
    let is_told = |code: &&String| told.contains(*code) || first.contains_key(*code);
    let missing: Vec<_> = said.iter().filter(|code| !is_told(code)).collect();
    assert!(missing.is_empty(), "docs/errors.md lacks {missing:?}");
}
