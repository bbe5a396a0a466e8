//! Drives the app through WebKitWebDriver: a small client for the few commands we need.
//! W3C WebDriver; the app is named in `webkitgtk:browserOptions`.

use std::{
    fs,
    net::TcpListener,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use ureq::Agent;

use crate::{process, reap};

/// An app that dies at its start leaves the driver waiting for ever.
const START_LIMIT: Duration = Duration::from_secs(15);
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// A driver with the app it started; dropping it ends both.
pub(crate) struct Driver {
    child: Child,
    agent: Agent,
    base: String,
    session: Option<String>,
    log: PathBuf,
}

impl Driver {
    /// Starts the driver by `command`, which carries the environment of the app, and writes what
    /// driver and app print into `log`.
    pub(crate) fn start(mut command: Command, log: &Path) -> Result<Self> {
        let port = free_port()?;
        let file =
            fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        command.args([&format!("--port={port}"), "--host=127.0.0.1"]);
        command.env("TAURI_WEBVIEW_AUTOMATION", "true");
        command
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0);
        let child = command.spawn().context("cannot start WebKitWebDriver")?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None);
        let driver = Self {
            child,
            agent: config.timeout_global(Some(START_LIMIT)).build().into(),
            base: format!("http://127.0.0.1:{port}"),
            session: None,
            log: log.to_path_buf(),
        };
        let end = Instant::now() + START_LIMIT;
        while driver
            .agent
            .get(format!("{}/status", driver.base))
            .call()
            .is_err()
        {
            if Instant::now() > end {
                bail!("WebKitWebDriver does not answer\n{}", driver.said());
            }
            process::pause(Duration::from_millis(20))?;
        }
        Ok(driver)
    }

    /// Starts the app and attaches to its web view.
    pub(crate) fn open(&mut self, app: &Path) -> Result<()> {
        let options = json!({ "binary": app, "args": [] });
        let wanted = json!({ "capabilities": {
            "alwaysMatch": { "webkitgtk:browserOptions": options } } });
        let answer = self.post("/session", &wanted).map_err(|error| {
            anyhow!(
                "the app did not start under WebDriver: {error:#}\n{}",
                self.said()
            )
        })?;
        self.session = answer["sessionId"].as_str().map(str::to_owned);
        self.session
            .as_ref()
            .context("the driver named no session")?;
        Ok(())
    }

    /// Runs a script in the page and returns what it returns.
    pub(crate) fn execute(&self, script: &str, arguments: Value) -> Result<Value> {
        self.call(
            "execute/sync",
            &json!({ "script": script, "args": arguments }),
        )
    }

    /// Waits until the page has shown two more frames.
    pub(crate) fn two_frames(&self) -> Result<()> {
        let script = "const done = arguments[0]; \
            requestAnimationFrame(() => requestAnimationFrame(() => done(true)));";
        self.call("execute/async", &json!({ "script": script, "args": [] }))
            .map(drop)
    }

    /// Clicks, as a person would, on the only element a CSS selector finds.
    pub(crate) fn click(&self, selector: &str) -> Result<()> {
        let wanted = json!({ "using": "css selector", "value": selector });
        let found = self
            .call("element", &wanted)
            .with_context(|| format!("at {selector}"))?;
        let element = found
            .as_object()
            .and_then(|object| object.values().next()?.as_str());
        let element = element.with_context(|| format!("nothing to click at {selector}"))?;
        self.call(&format!("element/{element}/click"), &json!({}))
            .map(drop)
    }

    /// Writes a picture of the page (PNG).
    pub(crate) fn screenshot(&self, file: &Path) -> Result<()> {
        let id = self.session.as_deref().context("no session")?;
        let url = format!("{}/session/{id}/screenshot", self.base);
        let answer = value(self.request(self.agent.get(url).call())?)?;
        let bytes = BASE64_STANDARD.decode(answer.as_str().context("no picture")?)?;
        fs::write(file, bytes).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Asks `ready` until it answers true; says what did not happen otherwise.
    pub(crate) fn wait_for(&self, what: &str, ready: &str, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        // While a page loads, a script may fail.
        while self.execute(ready, json!([])).ok() != Some(Value::Bool(true)) {
            if Instant::now() > end {
                bail!("{what}: not within {} s\n{}", limit.as_secs(), self.said());
            }
            process::pause(Duration::from_millis(25))?;
        }
        Ok(())
    }

    /// The app's process.
    pub(crate) fn app_pid(&self, app: &Path) -> Result<u32> {
        let app = fs::canonicalize(app)?;
        let is_app =
            |pid: &u32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == app);
        reap::tree_of(self.child.id())
            .into_iter()
            .find(is_app)
            .context("the app is not running")
    }

    /// What driver and app have printed: the last lines.
    pub(crate) fn said(&self) -> String {
        tail(&self.log, "app and driver printed")
    }

    fn call(&self, path: &str, body: &Value) -> Result<Value> {
        let id = self.session.as_deref().context("no session")?;
        self.post(&format!("/session/{id}/{path}"), body)
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let limit = if path == "/session" {
            START_LIMIT
        } else {
            CALL_LIMIT
        };
        let request = self.agent.post(format!("{}{path}", self.base));
        let request = request.config().timeout_global(Some(limit)).build();
        value(self.request(request.send_json(body))?)
    }

    fn request(
        &self,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Value> {
        process::go_on()?;
        let mut answer = answer.context("WebDriver")?;
        // A screenshot is larger than the default limit allows for.
        Ok(answer
            .body_mut()
            .with_config()
            .limit(64 << 20)
            .read_json()?)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if let Some(id) = &self.session {
            let url = format!("{}/session/{id}", self.base);
            let request = self.agent.delete(url).config();
            let _ = request
                .timeout_global(Some(Duration::from_secs(3)))
                .build()
                .call();
        }
        // Let the app close its files before it is ended.
        thread::sleep(Duration::from_millis(100));
        reap::end_tree(&mut self.child);
    }
}

/// The `value` of an answer, or the error in it.
fn value(mut answer: Value) -> Result<Value> {
    let value = answer["value"].take();
    match value["error"].as_str() {
        Some(error) => bail!("{error}: {}", value["message"].as_str().unwrap_or_default()),
        None => Ok(value),
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// The last lines of a log file under a heading; empty if there are none.
pub(crate) fn tail(file: &Path, heading: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines
        .get(lines.len().saturating_sub(30)..)
        .unwrap_or_default();
    if last.is_empty() {
        String::new()
    } else {
        format!("--- {heading}:\n{}", last.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_driver_are_errors() {
        let wrong = json!({ "value": { "error": "no such element", "message": "gone" } });
        assert!(value(wrong).is_err_and(|error| error.to_string() == "no such element: gone"));
        assert_eq!(value(json!({ "value": null })).ok(), Some(Value::Null));
        assert_eq!(value(json!({ "value": "x" })).ok(), Some(json!("x")));
    }
}
