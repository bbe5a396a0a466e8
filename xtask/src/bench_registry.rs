//! The registry, measured in process by its own examples.

use anyhow::Result;

use crate::{
    bench::Lines,
    instructions,
    postgres::{self, Cluster},
    process,
    tools::{self, Need},
};

const PACKAGE: &str = "keywright-registry";
/// As many keys as a row with 10 M in its name says; a smoke run takes less.
const LARGE: i64 = 10_000_000;
const SMOKE: i64 = 10_000;

/// Everything but lists of 10 M keys, which take half an hour to fill.
pub(crate) fn all(lines: &mut Lines) -> Result<()> {
    some(&[], lines)?;
    lists(lines)?;
    instructions(lines)
}

/// `bench_registry` with these words; without any, all of it.
pub(crate) fn some(words: &[&str], lines: &mut Lines) -> Result<()> {
    tools::ensure(&[Need::Database])?;
    let database = Cluster::start()?;
    let mut cargo = lines.example(PACKAGE, "bench_registry");
    cargo.env(postgres::VARIABLE, database.url());
    let small = lines.smoke && !words.contains(&"durable");
    if lines.smoke {
        cargo.args(["--racing", "2"]);
    }
    cargo.args(if small { &["1k", "flood"] } else { words });
    lines.pass_on(&mut cargo)
}

/// Lists of keys on both databases.
pub(crate) fn lists(lines: &mut Lines) -> Result<()> {
    tools::ensure(&[Need::Database])?;
    let database = Cluster::start()?;
    let mut cargo = lines.example(PACKAGE, "bench_lists");
    cargo.env(postgres::VARIABLE, database.url());
    cargo.args(["sqlite", "postgres"]);
    if lines.smoke {
        cargo.arg("small");
    }
    lines.pass_on(&mut cargo)
}

/// Lists of 10 M keys: of the file that was given, or of one that is filled for it and goes.
pub(crate) fn large_lists(what: &str, lines: &mut Lines) -> Result<()> {
    let folder = tempfile::tempdir_in(crate::target())?;
    let file = match lines.file.clone() {
        Some(file) => file,
        None => {
            let file = folder.path().join("lists.db");
            let size = if lines.smoke { SMOKE } else { LARGE };
            let mut cargo = lines.example(PACKAGE, "bench_lists");
            cargo.arg("fill").arg(&file).arg(size.to_string());
            process::run(cargo.arg("whole"))?;
            file
        }
    };
    let mut cargo = lines.example(PACKAGE, "bench_lists");
    cargo.arg("file").arg(&file).arg(what);
    lines.pass_on(&mut cargo)
}

/// Instructions of the paths in process.
pub(crate) fn instructions(lines: &mut Lines) -> Result<()> {
    instructions::run(lines)
}
