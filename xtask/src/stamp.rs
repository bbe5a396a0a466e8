//! Remembers by content what a step was last done for, so that it is done again only when needed.

use std::{
    collections::BTreeSet,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// One line that changes when a file under `paths` is changed, added, renamed or removed.
/// Folders are read with everything below them; what does not exist counts as absent.
pub(crate) fn of(base: &Path, paths: &[&str]) -> Result<String> {
    let mut files = BTreeSet::new();
    for path in paths {
        collect(&base.join(path), &mut files)?;
    }
    let mut hasher = DefaultHasher::new();
    for file in files {
        file.strip_prefix(base).unwrap_or(&file).hash(&mut hasher);
        fs::read(&file)
            .with_context(|| format!("cannot read {}", file.display()))?
            .hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

fn collect(path: &Path, files: &mut BTreeSet<PathBuf>) -> Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            collect(&entry?.path(), files)?;
        }
    } else if path.exists() {
        files.insert(path.to_path_buf());
    }
    Ok(())
}

/// Whether the step was last done for `stamp`.
pub(crate) fn is_current(file: &Path, stamp: &str) -> bool {
    fs::read_to_string(file).is_ok_and(|before| before.trim() == stamp)
}

/// Notes that the step is done for `stamp`.
pub(crate) fn write(file: &Path, stamp: &str) -> Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(file, stamp).with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_with_content_name_and_presence() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let base = folder.path();
        fs::create_dir(base.join("src"))?;
        fs::write(base.join("src/a"), "1")?;
        let now = || of(base, &["src", "config"]);
        let mut seen = vec![now()?];
        fs::write(base.join("src/a"), "2")?;
        seen.push(now()?);
        fs::rename(base.join("src/a"), base.join("src/b"))?;
        seen.push(now()?);
        fs::write(base.join("config"), "")?;
        seen.push(now()?);
        fs::write(base.join("src/c"), "2")?;
        seen.push(now()?);
        assert_eq!(
            seen.iter().collect::<BTreeSet<_>>().len(),
            seen.len(),
            "{seen:?}"
        );
        fs::write(base.join("elsewhere"), "3")?;
        assert_eq!(seen.last(), Some(&now()?));
        Ok(())
    }

    #[test]
    fn current_only_after_it_was_written() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("deep/stamp");
        assert!(!is_current(&file, "x"));
        write(&file, "x")?;
        assert!(is_current(&file, "x"));
        assert!(!is_current(&file, "y"));
        Ok(())
    }
}
