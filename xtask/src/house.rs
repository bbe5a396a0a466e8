//! Rules of the house that no other tool holds.

use std::{fs, path::Path};

use anyhow::{Result, bail};

use crate::process;

/// Longer files are split.
const MOST_LINES: usize = 800;

const SOURCES: &[&str] = &[
    "css", "html", "js", "json", "md", "mjs", "rs", "sh", "sql", "svelte", "toml", "ts",
];

/// Written by programs, not by people.
const GENERATED: &[&str] = &["package-lock.json", "bindings.ts", "flows.json"];

/// Numbers that can be guessed from those before, or that follow from a seed. Secrets are made here, so
/// nothing that ships has them; in two parts, so that this file does not break its own rule.
const GUESSABLE: &[&str] = &[
    concat!("Math.", "random"),
    concat!("Small", "Rng"),
    concat!("fast", "rand"),
    concat!("seed_from", "_u64"),
];

/// Fails with every place that breaks a rule.
pub(crate) fn check() -> Result<()> {
    let mut git = process::command("git");
    let list =
        process::output(git.args(["ls-files", "--cached", "--others", "--exclude-standard"]))?;
    let mut wrong = Vec::new();
    for path in list.lines().filter(|path| is_source(path)) {
        // A file may be gone from the tree and still be in the index.
        if let Ok(text) = fs::read_to_string(crate::root().join(path)) {
            wrong.extend(judge(path, &text));
        }
    }
    if !wrong.is_empty() {
        bail!("\n    {}", wrong.join("\n    "));
    }
    Ok(())
}

fn is_source(path: &str) -> bool {
    let path = Path::new(path);
    let ending = path
        .extension()
        .and_then(|ending| ending.to_str())
        .unwrap_or_default();
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    SOURCES.contains(&ending) && !GENERATED.contains(&name) && !path.starts_with("src-tauri/gen")
}

fn judge(path: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let lines = text.lines().count();
    if lines > MOST_LINES {
        wrong.push(format!(
            "{path}: {lines} lines, more than {MOST_LINES}: split it"
        ));
    }
    // In two parts, so that this file does not break its own rule.
    let statement = concat!("sqlx::", "query");
    let may = ["crates/registry/", "tests/"]
        .iter()
        .any(|folder| path.starts_with(folder));
    if path.ends_with(".rs") && !may && text.contains(statement) {
        wrong.push(format!("{path}: SQL outside the registry"));
    }
    for guessable in GUESSABLE {
        if ships(path) && text.contains(guessable) {
            wrong.push(format!("{path}: {guessable} can be guessed"));
        }
    }
    wrong
}

/// Program text that becomes part of the product: no tests, nor what stands in for others there.
fn ships(path: &str) -> bool {
    let is_program = [".rs", ".ts", ".svelte", ".js"];
    let beside = ["tests/", "ui/tests/", "ui/src/mock/", "fuzz/"];
    let is_test =
        path.ends_with("/tests.rs") || path.contains("/tests/") || path.contains("/examples/");
    is_program.iter().any(|ending| path.ends_with(ending))
        && !is_test
        && !beside.iter().any(|folder| path.starts_with(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_are_named() {
        assert!(judge("a.rs", &"x\n".repeat(MOST_LINES)).is_empty());
        assert_eq!(judge("a.rs", &"x\n".repeat(MOST_LINES + 1)).len(), 1);
    }

    #[test]
    fn sql_stays_in_the_registry() {
        let text = concat!("let rows = sqlx::", "query(\"select 1\");");
        assert!(judge("crates/registry/src/store/keys.rs", text).is_empty());
        assert_eq!(judge("crates/app/src/keys.rs", text).len(), 1);
    }

    #[test]
    fn s0_09_secrets_come_from_no_generator_that_can_be_guessed() {
        for (path, text) in [
            (
                "crates/domain/src/pkce.rs",
                concat!("Small", "Rng::from_rng(x)"),
            ),
            (
                "crates/app/src/a.rs",
                concat!("StdRng::seed_from", "_u64(7)"),
            ),
            (
                "crates/server/assets/passkeys.js",
                concat!("Math.", "random()"),
            ),
            ("ui/src/lib/a.ts", concat!("Math.", "random()")),
        ] {
            assert_eq!(judge(path, text).len(), 1, "{path}");
        }
        for path in [
            "tests/registry/scanner.rs",
            "ui/src/mock/keys.ts",
            "crates/domain/src/schedules/tests.rs",
            "docs/performance.md",
        ] {
            let text = concat!("Math.", "random and Small", "Rng");
            assert!(judge(path, text).is_empty(), "{path}");
        }
        // What is used in their place.
        let text = "UnwrapErr(SysRng); random_token(&mut rand::rng())";
        assert!(judge("crates/app/src/a.rs", text).is_empty());
    }

    #[test]
    fn generated_files_are_left_alone() {
        assert!(is_source("ui/src/lib/host.ts"));
        for path in [
            "ui/src/lib/bindings.ts",
            "ui/package-lock.json",
            "Cargo.lock",
            "src-tauri/gen/schemas/x.json",
        ] {
            assert!(!is_source(path), "{path}");
        }
    }
}
