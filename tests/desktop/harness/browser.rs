//! The system's browser: Chromium, opened by the app through the desktop's own mechanism.

use std::cell::RefCell;
use std::fs;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fantoccini::wd::WindowHandle;
use serde_json::json;

use super::driver::Driver;
use super::page::Page;
use super::process::Part;
use super::session::Desktop;

/// Debian's Chromium, or what `CHROMIUM` names.
fn program() -> String {
    std::env::var("CHROMIUM").unwrap_or_else(|_| "/usr/lib/chromium/chromium".to_owned())
}

const FLAGS: &[&str] = &[
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-dev-shm-usage",
    "--password-store=basic",
    "--remote-debugging-port=0",
];

/// Notes each address it is given and whether its loopback port was listening by then (AC-002),
/// opens it, and comes back at once.
const HANDLER: &str = r#"#!/bin/bash
state=none
if [[ $1 =~ redirect_uri=http%3A%2F%2F127\.0\.0\.1%3A([0-9]+) ]]; then
  printf -v port '%04X' "${BASH_REMATCH[1]}"
  if grep -q "0100007F:$port 00000000:0000 0A" /proc/net/tcp; then state=listening; else state=deaf; fi
fi
echo "$state $1" >> FOLDER/opened
OPEN
"#;

/// A tab in the running browser. Chromium splits and unescapes what follows the question mark.
const OPEN_TAB: &str = r#"escaped=${1//%/%25}
escaped=${escaped//&/%26}
exec 3<>"/dev/tcp/127.0.0.1/$(head -1 FOLDER/chromium/DevToolsActivePort)"
printf 'PUT /json/new?%s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n' "$escaped" >&3
head -1 <&3 | grep -q 200"#;

/// The system's browser, and the tab it shows.
pub(crate) struct Browser {
    page: Page,
    opened: PathBuf,
    /// Tabs that were there before, or that a test has turned to.
    known: RefCell<Vec<WindowHandle>>,
    _driver: Driver,
    _chromium: Option<Part>,
}

impl Deref for Browser {
    type Target = Page;

    fn deref(&self) -> &Page {
        &self.page
    }
}

/// One call of the handler.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) was_listening: bool,
    pub(crate) url: String,
}

impl Browser {
    /// Starts Chromium and makes it the session's browser; the app then opens tabs in it.
    pub(crate) async fn start(desktop: &Desktop) -> Result<Self> {
        install(desktop, OPEN_TAB)?;
        let mut command = desktop.lasting(program());
        let chromium = Part::start(command.args(flags(desktop)).arg("about:blank"))?;
        Self::attach(desktop, Some(chromium)).await
    }

    /// Makes Chromium the session's browser without starting it: the handler does.
    pub(crate) fn install_cold(desktop: &Desktop) -> Result<()> {
        let line = [&[program()], flags(desktop).as_slice()].concat().join(" ");
        install(
            desktop,
            &format!(r#"setsid {line} "$1" </dev/null &>/dev/null &"#),
        )
    }

    /// Attaches to the Chromium of the session, whoever started it.
    pub(crate) async fn attach(desktop: &Desktop, chromium: Option<Part>) -> Result<Self> {
        let file = desktop.path("chromium/DevToolsActivePort");
        let end = Instant::now() + Duration::from_secs(15);
        let port = loop {
            let text = fs::read_to_string(&file).unwrap_or_default();
            if let Some((port, _)) = text.split_once('\n') {
                break port.to_owned();
            }
            ensure!(Instant::now() < end, "Chromium does not start");
            tokio::time::sleep(Duration::from_millis(30)).await;
        };
        let said = desktop.path("chromedriver.log");
        let driver = Driver::start(desktop.lasting("chromedriver"), &said)?;
        let options = json!({ "debuggerAddress": format!("127.0.0.1:{port}") });
        let client = driver
            .connect(json!({ "goog:chromeOptions": options }), &said)
            .await?;
        let page = Page {
            client,
            logs: vec![said],
        };
        // Of a Chromium that the app itself has started, no tab is known.
        let known = if chromium.is_some() {
            page.client.windows().await?
        } else {
            Vec::new()
        };
        let (opened, known) = (desktop.path("opened"), RefCell::new(known));
        Ok(Self {
            page,
            opened,
            known,
            _driver: driver,
            _chromium: chromium,
        })
    }

    /// The addresses the app has opened so far.
    pub(crate) fn opened(&self) -> Vec<Opened> {
        let text = fs::read_to_string(&self.opened).unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        let read = |(state, url): (&str, &str)| Opened {
            was_listening: state == "listening",
            url: url.to_owned(),
        };
        lines.map(read).collect()
    }

    /// Waits until the app has opened its `count`th address, and turns to the newest tab.
    pub(crate) async fn tab(&self, count: usize) -> Result<Opened> {
        let end = Instant::now() + Duration::from_secs(10);
        let opened = loop {
            if let Some(opened) = self.opened().into_iter().nth(count - 1) {
                break opened;
            }
            ensure!(Instant::now() < end, "the app opened no browser");
            tokio::time::sleep(Duration::from_millis(30)).await;
        };
        loop {
            for tab in self.client.windows().await? {
                if self.known.borrow().contains(&tab) {
                    continue;
                }
                self.client.switch_to_window(tab.clone()).await?;
                if self.client.current_url().await?.scheme() == "http" {
                    self.known.borrow_mut().push(tab);
                    return Ok(opened);
                }
            }
            ensure!(Instant::now() < end, "the address did not open: {opened:?}");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }
}

fn flags(desktop: &Desktop) -> Vec<String> {
    let folder = format!("--user-data-dir={}", desktop.path("chromium").display());
    FLAGS
        .iter()
        .map(|flag| (*flag).to_owned())
        .chain([folder])
        .collect()
}

/// Registers a handler for web addresses, the way a browser's package does.
fn install(desktop: &Desktop, open: &str) -> Result<()> {
    let folder = desktop.path("").display().to_string();
    let folder = folder.trim_end_matches('/');
    let handler = desktop.path("open-url");
    let text = HANDLER.replace("OPEN", open).replace("FOLDER", folder);
    fs::write(&handler, text)?;
    fs::set_permissions(&handler, fs::Permissions::from_mode(0o755))?;
    let applications = desktop.path("home/.local/share/applications");
    fs::create_dir_all(&applications)?;
    let entry = format!(
        "[Desktop Entry]\nType=Application\nName=Test browser\nExec={} %u\n\
         MimeType=x-scheme-handler/http;x-scheme-handler/https;text/html;\n",
        handler.display()
    );
    fs::write(applications.join("test-browser.desktop"), entry)?;
    let config = desktop.path("home/.config");
    fs::create_dir_all(&config)?;
    let defaults = "[Default Applications]\nx-scheme-handler/http=test-browser.desktop\n\
                    x-scheme-handler/https=test-browser.desktop\ntext/html=test-browser.desktop\n";
    fs::write(config.join("mimeapps.list"), defaults).context("mimeapps.list")
}
