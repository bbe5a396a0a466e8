//! The TypeScript side of the commands, generated from the Rust types.

use std::{fs, path::PathBuf};

use anyhow::{Result, bail};

use crate::{
    npm, process,
    tools::{self, Need},
};

/// The commands and types; and the flows, for the mock host.
const FILES: [&str; 2] = ["ui/src/lib/bindings.ts", "ui/src/mock/flows.json"];

/// `cargo xtask bindings`.
pub(crate) fn write() -> Result<()> {
    tools::ensure(&[Need::Build])?;
    npm::ensure_ui()?;
    let files = FILES.map(|file| crate::root().join(file));
    process::step("generate the bindings", || generate(&files))?;
    println!("wrote {}", FILES.join(" and "));
    Ok(())
}

/// Fails if a file in the tree is not what the Rust types say.
pub(crate) fn check() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let fresh = ["bindings.ts", "flows.json"].map(|name| folder.path().join(name));
    generate(&fresh)?;
    for (fresh, file) in fresh.iter().zip(FILES) {
        let (fresh, ours) = (
            fs::read_to_string(fresh)?,
            fs::read_to_string(crate::root().join(file))?,
        );
        if let Some(line) = first_difference(&fresh, &ours) {
            bail!("{file} is out of date from line {line}\nhint: cargo xtask bindings");
        }
    }
    Ok(())
}

fn generate(files: &[PathBuf]) -> Result<()> {
    let mut cargo = process::cargo();
    cargo.args([
        "run",
        "--quiet",
        "--package",
        "keywright-desktop",
        "--example",
        "bindings",
        "--",
    ]);
    process::run(cargo.args(files))
}

fn first_difference(left: &str, right: &str) -> Option<usize> {
    let mut pair = (left.lines(), right.lines());
    (1..)
        .map_while(|line| match (pair.0.next(), pair.1.next()) {
            (None, None) => None,
            (one, other) => Some((line, one == other)),
        })
        .find(|(_, same)| !same)
        .map(|(line, _)| line)
}

#[cfg(test)]
mod tests {
    use super::first_difference;

    #[test]
    fn names_the_first_line_that_differs() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(first_difference("a\nb\n", "a\nc\n"), Some(2));
        assert_eq!(first_difference("a\n", "a\nb\n"), Some(2));
        assert_eq!(first_difference("", "a"), Some(1));
    }
}
