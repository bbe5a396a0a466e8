//! What the repository knows. There may be none: an unpacked archive, a machine without git, a folder of somebody
//! else's that git does not read.

use std::{fs, path::Path};

use anyhow::{Result, ensure};

use crate::process;

/// Asks git about the repository whose root is this folder, and about no other that the folder lies in.
pub(crate) fn ask(root: &Path, words: &[&str]) -> Result<String> {
    let top = git(root, &["rev-parse", "--show-toplevel"])?;
    ensure!(
        fs::canonicalize(top.trim_end())? == fs::canonicalize(root)?,
        "{} is no repository of its own",
        root.display()
    );
    git(root, words)
}

fn git(root: &Path, words: &[&str]) -> Result<String> {
    let mut git = process::command("git");
    process::output(git.current_dir(root).env("TZ", "UTC").args(words))
}

/// The version of a package that is made here: the program's, and, but for what a tag names, the commit it was made
/// of. A package manager takes two packages of one version for the same.
pub(crate) fn version(root: &Path, program: &str) -> String {
    let one_line = |words: &[&str]| ask(root, words).map(|text| text.trim().to_owned());
    let date = "--date=format-local:%Y%m%d%H%M%S";
    let Ok(commit) = one_line(&["log", "-1", date, "--format=%cd.%h"]) else {
        return program.to_owned();
    };
    let changed = one_line(&["status", "--porcelain", "--untracked-files=no"]);
    let tags = one_line(&["tag", "--points-at", "HEAD"]).unwrap_or_default();
    let is_tagged = tags
        .lines()
        .any(|tag| tag.trim_start_matches('v') == program);
    match changed.as_deref() {
        Ok("") if is_tagged => program.to_owned(),
        Ok("") => format!("{program}+git{commit}"),
        // Not what the commit is: each is one of its own.
        _ => format!("{program}+git{commit}.{}", seconds()),
    }
}

fn seconds() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// git, as somebody who has a name.
    pub(crate) fn set(root: &Path, words: &[&str]) {
        let who = [
            "-c",
            "user.name=A Test",
            "-c",
            "user.email=test@example.org",
        ];
        let mut git = process::command("git");
        for config in ["GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"] {
            git.env(config, "/dev/null");
        }
        process::output(git.current_dir(root).args(who).args(words)).unwrap();
    }

    fn is_newer(one: &str, other: &str) -> bool {
        let words = ["--compare-versions", one, "gt", other];
        process::output(process::command("dpkg").args(words)).is_ok()
    }

    #[test]
    fn each_commit_and_each_change_has_a_version_of_its_own_and_a_tag_the_programs() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert_eq!(version(root, "0.1.0"), "0.1.0", "an unpacked archive");
        set(root, &["init", "--quiet"]);
        fs::write(root.join("a"), "1").unwrap();
        set(root, &["add", "a"]);
        set(root, &["commit", "--quiet", "--message", "one"]);
        let clean = version(root, "0.1.0");
        assert!(clean.starts_with("0.1.0+git20"), "{clean}");
        assert_eq!(clean, version(root, "0.1.0"), "the same, the same");
        assert!(is_newer(&clean, "0.1.0") && is_newer("0.1.1", &clean));
        fs::write(root.join("a"), "2").unwrap();
        let changed = version(root, "0.1.0");
        assert!(is_newer(&changed, &clean), "{changed} after {clean}");
        set(root, &["commit", "--quiet", "--all", "--message", "two"]);
        set(root, &["tag", "v0.1.0"]);
        assert_eq!(version(root, "0.1.0"), "0.1.0");
        // A folder inside is an archive that was unpacked there.
        let inside = root.join("inside");
        fs::create_dir(&inside).unwrap();
        assert_eq!(version(&inside, "0.2.0"), "0.2.0");
    }
}
