//! Opens every page of a fresh app, light and dark, takes pictures and looks for errors.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::{memory, process, session::Session, webdriver, webdriver::Driver};

/// Those of `ui/src/lib/router.svelte.ts`.
const PAGES: &[&str] = &[
    "keys", "notices", "accounts", "sessions", "activity", "flows", "settings",
];
const THEMES: &[&str] = &["light", "dark"];

/// What a page must have become before a picture is taken.
const AT_REST: &str = "return document.documentElement.dataset.ready === 'true' \
    && document.fonts.status === 'loaded' \
    && document.querySelector('[aria-busy=\"true\"]') === null";

/// What is wrong on a page: the codes of errors a person would see.
const ERRORS: &str = "return [...document.querySelectorAll('[data-error-code]')] \
    .filter((element) => element.checkVisibility()) \
    .map((element) => `${element.dataset.errorCode}: ${element.textContent.trim()}`)";

/// Runs the app with a new, empty home and returns whether every page is sound.
pub(crate) fn run(app: &Path) -> Result<()> {
    let pictures = crate::target().join("smoke");
    let _ = fs::remove_dir_all(&pictures);
    fs::create_dir_all(&pictures)?;
    let session = process::step("start a private session", || Session::start(None))?;
    let home = session.folder().join("app");
    let mut command = session.command("WebKitWebDriver");
    command.env("KEYWRIGHT_HOME", &home);
    let mut driver = Driver::start(command, &pictures.join("app.log"))?;
    let visit = Visit {
        app,
        home,
        pictures,
    };
    let result = process::step("open every page, light and dark", || visit.all(&mut driver));
    if result.is_err() {
        let log = visit.home.join("logs/keywright.log");
        let _ = driver.screenshot(&visit.pictures.join("failed.png"));
        eprintln!("{}", webdriver::tail(&log, "the app's log"));
    }
    result
}

struct Visit<'a> {
    app: &'a Path,
    home: PathBuf,
    pictures: PathBuf,
}

impl Visit<'_> {
    fn all(&self, driver: &mut Driver) -> Result<()> {
        driver.open(self.app)?;
        let ready = "return document.documentElement.dataset.ready === 'true'";
        driver.wait_for("the first window", ready, Duration::from_secs(15))?;
        let mut wrong = Vec::new();
        for theme in THEMES {
            show_theme(driver, theme)?;
            for page in PAGES {
                let errors = self.page(driver, page, theme)?;
                wrong.extend(
                    errors
                        .into_iter()
                        .map(|error| format!("{page} ({theme}): {error}")),
                );
            }
        }
        self.report(driver)?;
        if !wrong.is_empty() {
            bail!("pages show errors:\n  {}", wrong.join("\n  "));
        }
        Ok(())
    }

    fn page(&self, driver: &Driver, page: &str, theme: &str) -> Result<Vec<String>> {
        driver.execute("location.hash = arguments[0]", json!([format!("#/{page}")]))?;
        let shown = format!("'[data-testid=\"page-{page}\"] [data-page-heading]'");
        let at_rest = format!("{AT_REST} && document.querySelector({shown}) !== null");
        driver.wait_for(&format!("page {page}"), &at_rest, Duration::from_secs(10))?;
        driver.two_frames()?;
        let file = self.pictures.join(format!("{page}-{theme}.png"));
        driver.screenshot(&file)?;
        println!("picture: {}", file.display());
        let found = driver.execute(ERRORS, json!([]))?;
        let found = found.as_array().context("the page does not answer")?.iter();
        let mut wrong: Vec<String> = found
            .map(|error| error.as_str().unwrap_or("?").to_owned())
            .collect();
        if let Some(other) = same_picture(&file)? {
            wrong.push(format!("looks exactly like {}", other.display()));
        }
        Ok(wrong)
    }

    fn report(&self, driver: &Driver) -> Result<()> {
        let memory = memory::of_tree(driver.app_pid(self.app)?);
        let log = fs::read_to_string(self.home.join("logs/keywright.log")).unwrap_or_default();
        let paint = first_paint_ms(&log).context("the log has no first_paint_ms")?;
        println!("first paint: {:.2} s after the start", paint / 1000.0);
        println!(
            "memory: {:.0} MiB ({:.0} MiB resident, shared pages counted twice) in {} processes",
            memory.pss_mib(),
            memory.rss_mib(),
            memory.processes
        );
        Ok(())
    }
}

/// Another picture beside this one with the same bytes: then a page or a theme did not come.
fn same_picture(file: &Path) -> Result<Option<PathBuf>> {
    let bytes = fs::read(file)?;
    let folder = file.parent().context("a picture lies in a folder")?;
    let others = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    let mut others = others.filter(|other| other != file && other.extension() == file.extension());
    Ok(others.find(|other| fs::read(other).is_ok_and(|found| found == bytes)))
}

/// Chooses a theme where a person does, in the side bar, and checks that it came.
fn show_theme(driver: &Driver, theme: &str) -> Result<()> {
    driver.click(&format!("[data-testid=\"theme-{theme}\"]"))?;
    let shown = format!("return document.documentElement.dataset.theme === '{theme}'");
    driver.wait_for(&format!("theme {theme}"), &shown, Duration::from_secs(5))
}

/// The time to the first frame that the app wrote into its log.
pub(crate) fn first_paint_ms(log: &str) -> Option<f64> {
    let (_, rest) = log.rsplit_once("first_paint_ms=")?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_of_the_interface_is_opened() {
        let file = crate::root().join("ui/src/lib/router.svelte.ts");
        let text = fs::read_to_string(file).unwrap();
        let (_, rest) = text.split_once("export const PAGES = [").unwrap();
        let (list, _) = rest.split_once(']').unwrap();
        let pages: Vec<_> = list
            .split(',')
            .map(|page| page.trim().trim_matches('"'))
            .collect();
        assert_eq!(pages, PAGES);
    }

    #[test]
    fn a_page_that_did_not_come_is_noticed() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let file = |name: &str| folder.path().join(name);
        for (name, bytes) in [("a.png", "1"), ("b.png", "2"), ("app.log", "1")] {
            fs::write(file(name), bytes)?;
        }
        assert_eq!(same_picture(&file("a.png"))?, None);
        fs::write(file("c.png"), "1")?;
        assert_eq!(same_picture(&file("a.png"))?, Some(file("c.png")));
        Ok(())
    }

    #[test]
    fn first_paint_is_read_from_the_last_start() {
        let log = "a first_paint_ms=900 b\n2 INFO first_paint_ms=412\n3 INFO other=1\n";
        assert_eq!(first_paint_ms(log), Some(412.0));
        assert_eq!(first_paint_ms("first_paint_ms=38.5"), Some(38.5));
        assert_eq!(first_paint_ms("first_paint_ms="), None);
        assert_eq!(first_paint_ms("nothing"), None);
    }
}
