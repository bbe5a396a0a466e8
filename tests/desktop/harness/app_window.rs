//! The app's window, driven through WebKitWebDriver.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use keywright_app::Home;
use serde_json::{Value, json};

use super::driver::Driver;
use super::page::Page;
use super::process::{self, pause, signal};
use super::session::{self, Desktop};

/// The app, running in a session on a folder of its own.
pub(crate) struct AppWindow {
    page: Page,
    driver: Driver,
    home: PathBuf,
    program: PathBuf,
}

impl Deref for AppWindow {
    type Target = Page;

    fn deref(&self) -> &Page {
        &self.page
    }
}

impl Desktop {
    /// Starts the app on the session's own folder and waits until its first page shows its data.
    pub(crate) async fn open(&self) -> Result<AppWindow> {
        AppWindow::open(self, &self.app_home()).await
    }

    /// Writes settings for the next start.
    pub(crate) fn settings(&self, settings: &Value) -> Result<()> {
        Ok(fs::write(
            self.app_home().join("settings.json"),
            settings.to_string(),
        )?)
    }
}

impl AppWindow {
    pub(crate) async fn open(desktop: &Desktop, home: &Path) -> Result<Self> {
        Self::start(desktop, home, |_| {}).await
    }

    /// Starts it where no program can be found, and so nothing that opens a browser.
    pub(crate) async fn open_without_programs(desktop: &Desktop) -> Result<Self> {
        let folder = desktop.path("bin");
        fs::create_dir(&folder)?;
        for program in ["setpriv", "WebKitWebDriver"] {
            let at = desktop.output("which", &[program])?;
            std::os::unix::fs::symlink(at.trim(), folder.join(program))?;
        }
        let change = |command: &mut Command| {
            command.env("PATH", &folder);
        };
        Self::start(desktop, &desktop.app_home(), change).await
    }

    async fn start(
        desktop: &Desktop,
        home: &Path,
        change: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        let program = session::app()?;
        let said = desktop.path("driver.log");
        let mut command = desktop.lasting("WebKitWebDriver");
        command.arg("--host=127.0.0.1");
        command
            .env("TAURI_WEBVIEW_AUTOMATION", "true")
            .env("KEYWRIGHT_HOME", home);
        change(&mut command);
        let driver = Driver::start(command, &said)?;
        let options = json!({ "binary": program, "args": [] });
        let wanted = json!({ "webkitgtk:browserOptions": options });
        let client = driver.connect(wanted, &said).await?;
        let page = Page {
            client,
            logs: vec![said, home.join("logs/keywright.log")],
        };
        let window = Self {
            page,
            driver,
            home: home.to_path_buf(),
            program,
        };
        window
            .until(
                "the first page",
                "document.documentElement.dataset.ready === 'true'",
            )
            .await?;
        // A banner about the keychain moves everything below it: wait for it, or for none.
        let checked = "document.querySelector('[data-testid=keychain-chip]').dataset.state \
            !== 'unknown'";
        window.until("the keychain is checked", checked).await?;
        Ok(window)
    }

    /// The service name of this folder's keychain entries.
    pub(crate) fn service(&self) -> Result<String> {
        Ok(Home::at(&self.home)?.keychain_service().to_owned())
    }

    /// The app's process, found by its program and its folder.
    pub(crate) fn process(&self) -> Result<u32> {
        let home = format!("KEYWRIGHT_HOME={}", self.home.display());
        let is_app = |id: &u32| {
            fs::read_link(format!("/proc/{id}/exe")).is_ok_and(|exe| exe == self.program)
        };
        let found = process::with_variable(&home).into_iter().find(is_app);
        found.context("the app is not running")
    }

    /// What the app has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.home.join("logs/keywright.log")).unwrap_or_default()
    }

    /// Waits until the app is gone by itself, and ends the driver.
    pub(crate) fn wait_until_closed(self, id: u32) -> Result<()> {
        self.wait_until_gone(id, "its window was closed")
    }

    /// Ends the app with a signal and waits until it is gone, and the driver with it.
    pub(crate) fn end(self, name: &str) -> Result<()> {
        let id = self.process()?;
        signal(name, &id.to_string());
        self.wait_until_gone(id, name)
    }

    fn wait_until_gone(self, id: u32, why: &str) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(5);
        while fs::read_link(format!("/proc/{id}/exe")).is_ok() {
            ensure!(Instant::now() < end, "the app does not end: {why}");
            pause(10);
        }
        signal("KILL", &format!("-{}", self.driver.group()));
        Ok(())
    }

    /// Calls a command the way a script in the web view would: `{"ok": …}` or `{"error": …}`.
    pub(crate) async fn invoke(&self, command: &str, arguments: Value) -> Result<Value> {
        let script = "const done = arguments[arguments.length - 1]; \
            window.__TAURI_INTERNALS__.invoke(arguments[0], arguments[1]) \
              .then((ok) => done({ ok }), (error) => done({ error }));";
        let arguments = vec![json!(command), arguments];
        Ok(self.client.execute_async(script, arguments).await?)
    }

    /// What a command answers.
    pub(crate) async fn ask(&self, command: &str, arguments: Value) -> Result<Value> {
        let mut answer = self.invoke(command, arguments).await?;
        ensure!(answer.get("error").is_none(), "{command}: {answer}");
        Ok(answer["ok"].take())
    }

    /// Goes to a page of the app by its entry in the sidebar.
    pub(crate) async fn go(&self, page: &str) -> Result<()> {
        self.click(&format!("nav-{page}")).await?;
        self.see(&format!("page-{page}")).await.map(drop)
    }

    /// The code of the error that an element shows, once it does.
    pub(crate) async fn error_code(&self, testid: &str) -> Result<String> {
        self.attribute(testid, "data-error-code").await
    }
}
