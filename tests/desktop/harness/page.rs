//! A page as a person meets it: found by `data-testid`, waited for, explained when it fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Error, Result, anyhow};
use fantoccini::actions::{InputSource, KeyAction, KeyActions};
use fantoccini::elements::Element;
use fantoccini::{Client, Locator};
use serde_json::{Value, json};

use super::driver::tail;

/// Nothing a person waits for takes longer here.
const LIMIT: Duration = Duration::from_secs(10);
const BETWEEN: Duration = Duration::from_millis(30);

/// A page, and the logs that explain it.
pub(crate) struct Page {
    pub(crate) client: Client,
    pub(crate) logs: Vec<PathBuf>,
}

/// What names an element in our own pages.
pub(crate) fn by(testid: &str) -> String {
    format!("[data-testid=\"{testid}\"]")
}

impl Page {
    /// Runs a script and returns what it returns.
    pub(crate) async fn run(&self, script: &str, arguments: &[Value]) -> Result<Value> {
        Ok(self.client.execute(script, arguments.to_vec()).await?)
    }

    /// Waits until an expression is true (or any value but null, false, 0 and "").
    pub(crate) async fn until(&self, what: &str, expression: &str) -> Result<Value> {
        self.until_within(LIMIT, what, expression).await
    }

    pub(crate) async fn until_within(
        &self,
        limit: Duration,
        what: &str,
        expression: &str,
    ) -> Result<Value> {
        let script = format!("return ({expression}) || null;");
        let end = Instant::now() + limit;
        loop {
            // While a page changes, a script may fail.
            match self.run(&script, &[]).await {
                Ok(value) if !value.is_null() => return Ok(value),
                Ok(_) => {}
                Err(error) if Instant::now() > end => {
                    return Err(self.explain(&format!("{what}: {error:#}")).await);
                }
                Err(_) => {}
            }
            if Instant::now() > end {
                return Err(self.explain(&format!("{what}: not within {limit:?}")).await);
            }
            tokio::time::sleep(BETWEEN).await;
        }
    }

    /// Waits for an element that is shown.
    pub(crate) async fn find(&self, selector: &str) -> Result<Element> {
        let end = Instant::now() + LIMIT;
        loop {
            let found = self.client.find(Locator::Css(selector)).await;
            if let Ok(element) = found
                && element.is_displayed().await.unwrap_or(false)
            {
                return Ok(element);
            }
            if Instant::now() > end {
                return Err(self.explain(&format!("{selector} is not shown")).await);
            }
            tokio::time::sleep(BETWEEN).await;
        }
    }

    /// Waits for an element by its test id.
    pub(crate) async fn see(&self, testid: &str) -> Result<Element> {
        self.find(&by(testid)).await
    }

    /// Clicks as soon as the element can be clicked.
    pub(crate) async fn click(&self, testid: &str) -> Result<()> {
        self.click_on(&by(testid)).await
    }

    pub(crate) async fn click_on(&self, selector: &str) -> Result<()> {
        let end = Instant::now() + LIMIT;
        loop {
            let element = self.find(selector).await?;
            let enabled = element.is_enabled().await.unwrap_or(false);
            // It may move, or be covered, while a dialog comes and goes.
            match element.click().await {
                Ok(()) if enabled => return Ok(()),
                Err(error) if Instant::now() > end => {
                    return Err(self.explain(&format!("click on {selector}: {error}")).await);
                }
                Ok(()) if Instant::now() > end => {
                    return Err(self.explain(&format!("{selector} is disabled")).await);
                }
                _ => tokio::time::sleep(BETWEEN).await,
            }
        }
    }

    /// Replaces what a field holds.
    pub(crate) async fn fill(&self, testid: &str, text: &str) -> Result<()> {
        let field = self.see(testid).await?;
        field.clear().await?;
        field.send_keys(text).await?;
        let holds = format!(
            "document.querySelector('{}')?.value === {}",
            by(testid),
            json!(text)
        );
        self.until(&format!("{testid} holds the text"), &holds)
            .await?;
        Ok(())
    }

    /// The text of an element, once it is shown.
    pub(crate) async fn text(&self, testid: &str) -> Result<String> {
        Ok(self.see(testid).await?.text().await?)
    }

    /// An attribute of an element, once it is shown; empty where it has none.
    pub(crate) async fn attribute(&self, testid: &str, name: &str) -> Result<String> {
        Ok(self
            .see(testid)
            .await?
            .attr(name)
            .await?
            .unwrap_or_default())
    }

    /// Waits until an element's text contains something.
    pub(crate) async fn reads(&self, testid: &str, text: &str) -> Result<()> {
        let has = format!(
            "[...document.querySelectorAll('{}')].some((e) => e.textContent.includes({}))",
            by(testid),
            json!(text)
        );
        self.until(&format!("{testid} reads {text:?}"), &has)
            .await?;
        Ok(())
    }

    /// Waits until nothing carries the test id.
    pub(crate) async fn gone(&self, testid: &str) -> Result<()> {
        let none = format!("document.querySelector('{}') === null", by(testid));
        self.until(&format!("{testid} is gone"), &none).await?;
        Ok(())
    }

    /// Whether something carries the test id now.
    pub(crate) async fn has(&self, testid: &str) -> Result<bool> {
        Ok(!self
            .client
            .find_all(Locator::Css(&by(testid)))
            .await?
            .is_empty())
    }

    /// Presses keys one after the other, as on a keyboard; modifiers are held over the rest.
    pub(crate) async fn press(&self, keys: &[char]) -> Result<()> {
        let mut actions = KeyActions::new("keyboard".to_owned());
        let held = |key: &&char| matches!(**key, key::CONTROL | key::SHIFT);
        for key in keys {
            actions = actions.then(KeyAction::Down { value: *key });
            if !held(&key) {
                actions = actions.then(KeyAction::Up { value: *key });
            }
        }
        for key in keys.iter().filter(held).rev() {
            actions = actions.then(KeyAction::Up { value: *key });
        }
        self.client.perform_actions(actions).await?;
        Ok(())
    }

    /// Types a text on the keyboard.
    pub(crate) async fn write(&self, text: &str) -> Result<()> {
        self.press(&text.chars().collect::<Vec<_>>()).await
    }

    /// Everything the document holds, invisible parts and values of fields included.
    pub(crate) async fn whole_document(&self) -> Result<String> {
        let script = "return document.documentElement.outerHTML + \
            [...document.querySelectorAll('input,textarea')].map((e) => e.value).join('\\n');";
        Ok(self
            .run(script, &[])
            .await?
            .as_str()
            .unwrap_or_default()
            .to_owned())
    }

    /// What was awaited, what the page says instead, the logs, and a picture.
    pub(crate) async fn explain(&self, what: &str) -> Error {
        let script = "return location.href + '\\n' + document.body.innerText.slice(0, 900);";
        let page = self
            .run(script, &[])
            .await
            .unwrap_or_else(|error| json!(error.to_string()));
        let picture = match self.picture().await {
            Ok(path) => path.display().to_string(),
            Err(error) => format!("no picture: {error}"),
        };
        let logs: Vec<String> = self.logs.iter().map(|log| tail(log)).collect();
        let page = page.as_str().unwrap_or_default();
        anyhow!(
            "{what}\n--- the page ({picture}):\n{page}\n{}",
            logs.join("\n")
        )
    }

    /// Writes what is to be seen into target/e2e.
    async fn picture(&self) -> Result<PathBuf> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/e2e");
        fs::create_dir_all(&folder)?;
        let name = std::thread::current()
            .name()
            .unwrap_or("unnamed")
            .replace("::", "-");
        let file = folder.canonicalize()?.join(format!("{name}.png"));
        let shot = tokio::time::timeout(Duration::from_secs(5), self.client.screenshot()).await;
        fs::write(&file, shot??)?;
        Ok(file)
    }
}

/// Keys without a character, as WebDriver writes them.
pub(crate) mod key {
    pub(crate) const TAB: char = '\u{e004}';
    pub(crate) const ENTER: char = '\u{e007}';
    pub(crate) const SHIFT: char = '\u{e008}';
    pub(crate) const CONTROL: char = '\u{e009}';
    pub(crate) const ESCAPE: char = '\u{e00c}';
    pub(crate) const SPACE: char = ' ';
    pub(crate) const RIGHT: char = '\u{e014}';
    pub(crate) const DOWN: char = '\u{e015}';
}
