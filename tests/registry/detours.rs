//! That the suite over HTTP goes over HTTP: what the app asks a server for must not be asked of the server's own
//! registry behind its back, which [`HttpRegistry`](super::over_http::HttpRegistry) would allow.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

/// What both can do and the suite asks only of the registry: a notice's reader is the caller at a server, and any
/// reader that a test names in the registry; scopes are read from a server by `secure` and by the app's own tests.
const ELSEWHERE: [&str; 3] = ["list_scopes", "mark_notice_read", "mark_notices_read_until"];

#[test]
fn the_suite_over_http_asks_over_http_whatever_the_app_does() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let app = use_cases(&root.join("crates/app/src/remote"), "pub async fn ")?;
    let registry = use_cases(&root.join("crates/registry/src"), "pub async fn ")?;
    let suite = use_cases(
        &root.join("tests/registry/over_http.rs"),
        "pub(crate) async fn ",
    )?;
    let both: BTreeSet<_> = app.intersection(&registry).cloned().collect();
    assert!(both.len() > 25, "these are not the sources: {both:?}");
    let detours: Vec<_> = both.difference(&suite).collect();
    assert_eq!(detours, ELSEWHERE, "asked of the server's own registry");
    Ok(())
}

/// The names of methods in a file, or in all of a folder.
fn use_cases(place: &Path, begin: &str) -> Result<BTreeSet<String>> {
    if place.is_dir() {
        let mut found = BTreeSet::new();
        for entry in std::fs::read_dir(place)? {
            found.extend(use_cases(&entry?.path(), begin)?);
        }
        return Ok(found);
    }
    let text = std::fs::read_to_string(place)?;
    let names = text.lines().filter_map(|line| {
        let rest = line.trim_start().strip_prefix(begin)?;
        let end = rest.find(['(', '<'])?;
        rest.get(..end).map(str::to_owned)
    });
    Ok(names.collect())
}
