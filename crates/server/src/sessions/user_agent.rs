//! What a browser says it is, in few words. Small rules of our own: nothing is decided by it, and it
//! can say anything.

use serde::Serialize;

/// Longest text that is shown of what is not recognised.
const LONGEST: usize = 40;

/// A device, as a person would call it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct Device {
    /// `computer`, `phone`, `tablet`, `program`, or `unknown`.
    pub(crate) device: String,
    /// Such as `Firefox 128`.
    pub(crate) browser: String,
    /// Such as `Linux`.
    pub(crate) os: String,
}

/// In this order: most browsers name older ones beside themselves.
const BROWSERS: [(&str, &str); 14] = [
    ("EdgA/", "Edge"),
    ("EdgiOS/", "Edge"),
    ("Edg/", "Edge"),
    ("OPR/", "Opera"),
    ("Vivaldi/", "Vivaldi"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("FxiOS/", "Firefox"),
    ("Firefox/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("HeadlessChrome/", "Chrome"),
    ("Chromium/", "Chromium"),
    ("Chrome/", "Chrome"),
    ("Version/", "Safari"),
    ("curl/", "curl"),
];

const SYSTEMS: [(&str, &str, &str); 9] = [
    ("iPhone", "iOS", "phone"),
    ("iPad", "iPadOS", "tablet"),
    ("Android", "Android", "phone"),
    ("Windows", "Windows", "computer"),
    ("CrOS", "ChromeOS", "computer"),
    ("Macintosh", "macOS", "computer"),
    ("Mac OS X", "macOS", "computer"),
    ("Linux", "Linux", "computer"),
    ("X11", "Unix", "computer"),
];

/// Reads `User-Agent`.
pub(crate) fn read(text: &str) -> Device {
    let system = SYSTEMS.iter().find(|(mark, ..)| text.contains(mark));
    let browser = BROWSERS
        .iter()
        .filter(|(mark, name)| {
            text.contains(mark) && (*name != "Safari" || text.contains("Safari"))
        })
        .map(|(mark, name)| named(text, mark, name))
        .next();
    let program = browser.is_none() || text.starts_with("curl/");
    let device = match system {
        // Tablets of this system are those that do not say they are phones.
        Some((_, "Android", _)) if !text.contains("Mobile") => "tablet",
        Some((_, _, device)) => device,
        None if text.trim().is_empty() => "unknown",
        None if program => "program",
        None => "unknown",
    };
    Device {
        device: device.to_owned(),
        browser: browser.unwrap_or_else(|| first_words(text)),
        os: system.map_or("unknown", |(_, os, _)| os).to_owned(),
    }
}

impl Device {
    /// “Firefox 128 on Linux”.
    pub(crate) fn shown(&self) -> String {
        if self.os == "unknown" {
            self.browser.clone()
        } else {
            format!("{} on {}", self.browser, self.os)
        }
    }
}

fn named(text: &str, mark: &str, name: &str) -> String {
    let version: String = text
        .split_once(mark)
        .map_or("", |(_, rest)| rest)
        .chars()
        .take_while(char::is_ascii_digit)
        .take(6)
        .collect();
    format!("{name} {version}").trim_end().to_owned()
}

/// What is not recognised, capped; pages escape it.
fn first_words(text: &str) -> String {
    let words: String = text
        .trim()
        .chars()
        .filter(|c| !c.is_control())
        .take(LONGEST)
        .collect();
    if words.is_empty() {
        "Unknown browser".to_owned()
    } else {
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ac_113_browsers_and_systems_are_recognised() {
        for (text, device, shown) in [
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
                "computer",
                "Firefox 128 on Linux",
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
                 Chrome/126.0.0.0 Safari/537.36 Edg/126.0.0.0",
                "computer",
                "Edge 126 on Windows",
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like \
                 Gecko) Version/17.5 Safari/605.1.15",
                "computer",
                "Safari 17 on macOS",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, \
                 like Gecko) CriOS/126.0.6478.54 Mobile/15E148 Safari/604.1",
                "phone",
                "Chrome 126 on iOS",
            ),
            (
                "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) \
                 Chrome/126.0.0.0 Mobile Safari/537.36",
                "phone",
                "Chrome 126 on Android",
            ),
            (
                "Mozilla/5.0 (Linux; Android 14; SM-X700) AppleWebKit/537.36 (KHTML, like Gecko) \
                 Chrome/126.0.0.0 Safari/537.36",
                "tablet",
                "Chrome 126 on Android",
            ),
            ("curl/8.5.0", "program", "curl 8"),
            ("Test browser", "program", "Test browser"),
            ("", "unknown", "Unknown browser"),
        ] {
            let read = read(text);
            assert_eq!(
                (read.device.as_str(), read.shown().as_str()),
                (device, shown)
            );
        }
        let long = read(&"é\u{7}".repeat(300));
        assert_eq!(long.browser.chars().count(), LONGEST);
        assert!(!long.browser.contains('\u{7}'));
    }
}
