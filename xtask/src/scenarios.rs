//! The table of scenarios and the tests that carry their numbers, read from the tests' names.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use anyhow::{Result, bail};

const FILE: &str = "docs/scenarios.md";
/// Where tests are.
const FOLDERS: [&str; 5] = ["crates", "src-tauri", "tests", "ui/src", "ui/tests"];
const SKIPPED: [&str; 3] = ["node_modules", "target", "dist"];

/// Acceptance scenarios that exist, by chapter.
const ACCEPTANCE: [(&str, u16, u16); 13] = [
    ("Signing in on the desktop", 1, 26),
    ("ID tokens and JWTs", 30, 44),
    ("Authorization server", 50, 66),
    ("Relying party", 70, 79),
    ("Access, expiry, refresh", 80, 97),
    ("Sessions, cookies, CSRF", 100, 119),
    ("API keys", 120, 149),
    ("Registry, local and remote", 150, 158),
    ("Keychain", 160, 169),
    ("Command line and device grant", 170, 175),
    ("Passwords, roles, audit", 180, 185),
    ("The interface", 190, 198),
    ("Operations", 200, 206),
];
/// Rules of the server's and of the native client's checklists.
const SERVER_RULES: u16 = 67;
const CLIENT_RULES: u16 = 17;

/// `cargo xtask scenarios`.
pub(crate) fn write() -> Result<()> {
    fs::write(crate::root().join(FILE), table()?)?;
    println!("wrote {FILE}");
    Ok(())
}

/// Fails if the file in the tree is not what the tests' names say.
pub(crate) fn check() -> Result<()> {
    if fs::read_to_string(crate::root().join(FILE)).ok().as_deref() == Some(table()?.as_str()) {
        return Ok(());
    }
    bail!("{FILE} is out of date\nhint: cargo xtask scenarios");
}

type Found = BTreeMap<String, BTreeSet<String>>;

fn table() -> Result<String> {
    let mut found = Found::new();
    for folder in FOLDERS {
        let path = crate::root().join(folder);
        if path.is_dir() {
            sources(&path, &mut |name, text| {
                if name.ends_with(".rs") {
                    rust(text, &mut found);
                } else if name.ends_with(".test.ts") || name.ends_with(".spec.ts") {
                    script(text, &mut found);
                }
            })?;
        }
    }
    let mut text = String::from(
        "# Scenarios and their tests\n\nWritten by `cargo xtask scenarios` from the tests' names; \
         `cargo xtask check` compares. A scenario\nwithout a test is not shown by anything here.\n\n\
         What each source asked for, row by row: [S0 and S1](requirements/s0-s1.md), \
         [S2 and S4](requirements/s2-s4.md).\n",
    );
    for (title, first, last) in ACCEPTANCE {
        section(&mut text, title, &found, first..=last, |n| {
            format!("AC-{n:03}")
        });
    }
    let server = "OpenID Provider and relying party (S1 to S67)";
    section(&mut text, server, &found, 1..=SERVER_RULES, |n| {
        format!("S{n}")
    });
    let client = "Native client (C1 to C17)";
    section(&mut text, client, &found, 1..=CLIENT_RULES, |n| {
        format!("C{n}")
    });
    Ok(text)
}

fn section(
    text: &mut String,
    title: &str,
    found: &Found,
    numbers: std::ops::RangeInclusive<u16>,
    name: impl Fn(u16) -> String,
) {
    let _ = write!(text, "\n## {title}\n\n| id | tests |\n|---|---|\n");
    let mut missing = Vec::new();
    for number in numbers {
        let id = name(number);
        match found.get(&id) {
            Some(tests) => {
                let tests: Vec<_> = tests.iter().map(|test| format!("`{test}`")).collect();
                let _ = writeln!(text, "| {id} | {} |", tests.join("<br>"));
            }
            None => missing.push(id),
        }
    }
    if !missing.is_empty() {
        let _ = writeln!(
            text,
            "\nWithout a test of that name: {}.",
            missing.join(", ")
        );
    }
}

/// Every source below a folder, with its name and its text.
pub(crate) fn sources(folder: &Path, each: &mut dyn FnMut(&str, &str)) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or("");
        if path.is_dir() {
            if !SKIPPED.contains(&name) {
                sources(&path, each)?;
            }
        } else if [".rs", ".ts"].iter().any(|ending| name.ends_with(ending)) {
            each(name, &fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

/// The functions of a file, and whether a test attribute stands before each; other attributes may stand
/// between.
pub(crate) fn functions(text: &str) -> Vec<(String, bool)> {
    let (mut found, mut is_test) = (Vec::new(), false);
    for line in text.lines().map(str::trim_start) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        }
        let Some(at) = line.find("fn ").filter(|_| !line.starts_with("//")) else {
            continue;
        };
        let name: String = line[at + 3..]
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect();
        found.push((name, is_test));
        is_test = false;
    }
    found
}

fn rust(text: &str, found: &mut Found) {
    for (name, is_test) in functions(text) {
        // Tests that a macro makes for two databases have no attribute of their own.
        if is_test || name.starts_with("ac_") {
            for id in ids(&name) {
                found.entry(id).or_default().insert(name.clone());
            }
        }
    }
}

/// Names of vitest and browser tests: `AC-040 …`.
fn script(text: &str, found: &mut Found) {
    for line in text.lines().map(str::trim_start) {
        let opens = ["it(", "test(", "describe("]
            .iter()
            .any(|word| line.starts_with(word));
        let Some(name) = line.split(['"', '`', '\'']).nth(1).filter(|_| opens) else {
            continue;
        };
        let words = name
            .to_lowercase()
            .replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        for id in ids(&words) {
            found.entry(id).or_default().insert(name.to_owned());
        }
    }
}

/// The numbers in a test's name.
fn ids(name: &str) -> Vec<String> {
    let words: Vec<&str> = name.split('_').collect();
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
    let mut ids = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let next = words.get(at + 1).copied().unwrap_or("");
        if *word == "ac" && next.len() == 3 && is_number(next) {
            ids.push(format!("AC-{next}"));
        }
        // `s3_49` is a requirement of the third source, not a rule of the checklist.
        let is_source = next.len() == 2 && is_number(next);
        for (letter, sign) in [('s', 'S'), ('c', 'C')] {
            if let Some(number) = word.strip_prefix(letter)
                && is_number(number)
                && number.len() <= 2
                && !(letter == 's' && is_source)
            {
                ids.push(format!("{sign}{number}"));
            }
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_from_names() {
        assert_eq!(
            ids("ac_001_ac_002_c1_signing_in"),
            ["AC-001", "AC-002", "C1"]
        );
        assert_eq!(ids("s11_iss_comes_back"), ["S11"]);
        assert_eq!(ids("ac_070_s3_49_cookies"), ["AC-070"]);
        assert!(ids("at_most_100_keys_of_ac").is_empty());
    }

    #[test]
    fn only_tests_count() {
        let mut found = Found::new();
        rust(
            "fn s1_no() {}\n#[tokio::test]\nasync fn s2_yes() {}\nfn s3_no() {}",
            &mut found,
        );
        script(
            "it(\"AC-040: refuses\", () => {\n// it(\"AC-041\")",
            &mut found,
        );
        assert_eq!(found.keys().collect::<Vec<_>>(), ["AC-040", "S2"]);
    }
}
