//! What tests need, part by part: what cannot be had on a machine costs the tests that need it, and no others.

use std::path::PathBuf;

use anyhow::{Error, Result};

use crate::{
    npm,
    postgres::Cluster,
    process,
    tools::{self, Need},
};

/// Tests whose part could not be had, by the beginnings or parts of their names.
const WINDOW: &[&str] = &["desktop::"];
/// Those that start Chromium themselves, or by a script of tests/peers.
const BROWSER: &[&str] = &[
    "desktop::",
    "server::pages::",
    "server::every_page::",
    "host_cookies_in_chromium_over_https",
];
const SCHEMATHESIS: &[&str] = &["server::schema::"];
const GATEWAYS: &[&str] = &["server::gateway::traefik::", "server::gateway::envoy::"];

/// Nothing compiles without it: the app's crate takes it in.
const INTERFACE: &str = "interface";

/// What there is, and what is missing.
#[derive(Default)]
pub(crate) struct SetUp {
    pub(crate) database: Option<Cluster>,
    pub(crate) browser: Option<PathBuf>,
    pub(crate) schemathesis: Option<PathBuf>,
    pub(crate) gateways: Option<PathBuf>,
    pub(crate) failed: Vec<Failed>,
}

/// A part that could not be had.
pub(crate) struct Failed {
    pub(crate) name: &'static str,
    pub(crate) error: Error,
    /// The tests that are left out then. Those of every other part fail, and say what they miss.
    pub(crate) costs: &'static [&'static str],
}

/// One part: how it is called, what it costs, and how it is made.
struct Part {
    name: &'static str,
    costs: &'static [&'static str],
    make: fn(&mut SetUp) -> Result<()>,
}

const fn part(
    name: &'static str,
    costs: &'static [&'static str],
    make: fn(&mut SetUp) -> Result<()>,
) -> Part {
    Part { name, costs, make }
}

/// The interface and the database first: without the one nothing compiles, without the other little passes.
const QUICK: &[Part] = &[
    part("compilers", &[], |_| tools::ensure(&[Need::Build])),
    part(INTERFACE, &[], |_| npm::ensure_ui()),
    part("database", &[], |all| {
        tools::ensure(&[Need::Database])?;
        all.database = Some(Cluster::start()?);
        Ok(())
    }),
    part("git", &[], |_| tools::ensure(&[Need::Git])),
    part("session", &[], |_| tools::ensure(&[Need::Session])),
    part("scripts", &[], |_| {
        let peers = "tests/peers";
        if crate::root().join(peers).join("package.json").is_file() {
            npm::ensure_packages(peers)?;
        }
        Ok(())
    }),
    part("nginx and Caddy", &[], |_| tools::ensure(&[Need::Gateway])),
    part("Redis", &[], |_| tools::ensure(&[Need::Counter])),
    part("clock", &[], |_| tools::ensure(&[Need::Clock])),
    part("networks", &[], |_| tools::ensure(&[Need::Network])),
];
const FULL: &[Part] = &[
    part("window", WINDOW, |_| {
        tools::ensure(&[Need::Drive, Need::Beside])
    }),
    part("browser", BROWSER, |all| {
        all.browser = Some(tools::ensure_browser()?);
        Ok(())
    }),
    part("schemathesis", SCHEMATHESIS, |all| {
        tools::ensure(&[Need::Python])?;
        all.schemathesis = Some(tools::ensure_schemathesis()?);
        Ok(())
    }),
    part("Traefik and Envoy", GATEWAYS, |all| {
        tools::ensure(&[Need::Python])?;
        all.gateways = Some(tools::ensure_gateways()?);
        Ok(())
    }),
];

/// All packages that the parts need, in one go: asking apt part by part takes longer.
const QUICK_NEEDS: &[Need] = &[
    Need::Build,
    Need::Database,
    Need::Git,
    Need::Session,
    Need::Gateway,
    Need::Counter,
    Need::Clock,
    Need::Network,
];
const FULL_NEEDS: &[Need] = &[Need::Drive, Need::Beside, Need::Python];

/// Installs, builds and starts what the tests need. Fails only on Ctrl-C.
pub(crate) fn run(quick: bool) -> Result<SetUp> {
    // Before minutes of installing: this is not installed for anybody.
    let node = part(INTERFACE, &[], |_| tools::ensure_node());
    let without = make(&[&node])?;
    if without.is_vain() {
        return Ok(without);
    }
    let mut needs = QUICK_NEEDS.to_vec();
    let mut parts: Vec<&Part> = QUICK.iter().collect();
    if !quick {
        needs.extend(FULL_NEEDS);
        parts.extend(FULL);
    }
    // apt installs none of a list if it cannot have one: then each part asks for its own.
    if let Err(error) = tools::ensure(&needs) {
        process::go_on()?;
        eprintln!("note: {error:#}: what can be had is installed part by part");
    }
    make(&parts)
}

fn make(parts: &[&Part]) -> Result<SetUp> {
    let mut all = SetUp::default();
    for part in parts {
        let made = (part.make)(&mut all);
        process::go_on()?;
        if let Err(error) = made {
            eprintln!("set-up: {}: {error:#}", part.name);
            all.failed.push(Failed {
                name: part.name,
                error,
                costs: part.costs,
            });
        }
        if all.is_vain() {
            break;
        }
    }
    Ok(all)
}

impl SetUp {
    /// The tests of the whole system that are left out. Quick: those that drive a window or a browser, or need what
    /// takes long to be installed.
    pub(crate) fn left_out(&self, quick: bool) -> Vec<&'static str> {
        let mut all: Vec<&str> = self
            .failed
            .iter()
            .flat_map(|one| one.costs)
            .copied()
            .collect();
        if quick {
            all.extend(FULL.iter().flat_map(|part| part.costs));
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whether no test can be run at all.
    pub(crate) fn is_vain(&self) -> bool {
        self.missing(INTERFACE).is_some()
    }

    /// Why the tests that need this part cannot be run.
    pub(crate) fn missing(&self, name: &str) -> Option<&Failed> {
        self.failed.iter().find(|one| one.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_cannot_be_had_costs_its_own_tests_and_no_other_part() {
        let missing = part("browser", BROWSER, |_| anyhow::bail!("Chromium is a snap"));
        let mended = part("gateways", GATEWAYS, |all| {
            all.gateways = Some("made".into());
            Ok(())
        });
        let all = make(&[&missing, &mended]).unwrap();
        assert!(all.gateways.is_some());
        assert_eq!(all.failed.len(), 1);
        assert_eq!(all.failed[0].error.to_string(), "Chromium is a snap");
        assert!(all.missing("browser").is_some() && all.missing("gateways").is_none());
        let left_out = all.left_out(false);
        assert!(left_out.contains(&"server::pages::"));
        assert!(!left_out.contains(&"server::gateway::envoy::"));
    }

    #[test]
    fn what_nothing_works_without_comes_first_and_quick_tests_start_no_browser() {
        let names: Vec<_> = QUICK.iter().map(|part| part.name).collect();
        assert_eq!(names[..3], ["compilers", "interface", "database"]);
        let left_out = SetUp::default().left_out(true);
        for name in BROWSER.iter().chain(SCHEMATHESIS).chain(GATEWAYS) {
            assert!(left_out.contains(name), "{name}");
        }
        assert!(SetUp::default().left_out(false).is_empty());
    }

    #[test]
    fn without_the_interface_nothing_is_installed_or_tried_for_nothing() {
        let missing = part(INTERFACE, &[], |_| anyhow::bail!("no node"));
        let later = part("database", &[], |all| {
            all.gateways = Some("made".into());
            Ok(())
        });
        let all = make(&[&missing, &later]).unwrap();
        assert!(all.is_vain() && all.gateways.is_none());
        // Any other part leaves tests that can be run.
        let browser = part("browser", BROWSER, |_| anyhow::bail!("Chromium is a snap"));
        let all = make(&[&browser, &later]).unwrap();
        assert!(!all.is_vain() && all.gateways.is_some());
        assert!(QUICK.iter().any(|part| part.name == INTERFACE));
    }

    /// A test that starts a browser by a script and is not listed would fail where there is none.
    #[test]
    fn tests_that_start_a_browser_are_known() {
        let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default();
        let files = |folder: &str| {
            let all = std::fs::read_dir(crate::root().join(folder)).unwrap();
            all.map(|entry| entry.unwrap().path())
        };
        let scripts: Vec<String> = files("tests/peers")
            .filter(|path| read(path).contains("./browser.mjs"))
            .map(|path| format!("\"{}\"", path.file_name().unwrap().to_string_lossy()))
            .collect();
        assert!(!scripts.is_empty());
        for path in files("tests/server") {
            let text = read(&path);
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let starts = scripts.iter().any(|script| text.contains(script.as_str()));
            let is_known = BROWSER
                .iter()
                .any(|known| known.contains(&format!("::{name}::")) || text.contains(known));
            assert!(!starts || is_known, "{name}");
        }
    }
}
