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
    wrong
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
