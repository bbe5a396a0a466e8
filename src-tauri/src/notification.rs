//! The system's notification of new notices, while another window is in front or another registry is in use: a
//! few sentences, nothing secret, and no buttons. What it is about is in the window.

use keywright_app::Arrived;
use tauri::{AppHandle, Manager as _};

use crate::window;

/// Shows it, unless the window says the same.
pub(crate) fn show(handle: &AppHandle, arrived: &Arrived) {
    let in_front = handle
        .get_webview_window(window::LABEL)
        .and_then(|window| window.is_focused().ok());
    if is_in_the_window(in_front == Some(true), arrived) {
        return;
    }
    let (title, text) = words(arrived);
    // It asks a service of the desktop, which may be slow or absent.
    tauri::async_runtime::spawn_blocking(move || {
        let shown = notify_rust::Notification::new()
            .appname("Keywright")
            .summary(&title)
            .body(&for_the_system(&text))
            .show();
        if let Err(error) = shown {
            tracing::debug!(%error, "the system shows no notifications");
        }
    });
}

/// In a window in front the list and its number say the same, but only of the registry in use.
fn is_in_the_window(in_front: bool, arrived: &Arrived) -> bool {
    in_front && arrived.in_use
}

fn words(arrived: &Arrived) -> (String, String) {
    let whose = if arrived.in_use {
        "your keys"
    } else {
        "the keys of this device"
    };
    let title = match arrived.count {
        1 => format!("A notice about {whose}"),
        count => format!("{count} notices about {whose}"),
    };
    let mut text = arrived.sentences.join("\n");
    let left = arrived.count.saturating_sub(arrived.sentences.len());
    if left > 0 {
        text.push_str(&format!("\nand {left} more"));
    }
    (title, text)
}

/// Services of Linux may read markup in a text (Desktop Notifications Specification, `body-markup`); names of
/// keys are foreign text.
fn for_the_system(text: &str) -> String {
    if cfg!(target_os = "linux") {
        text.replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_said_and_the_rest_is_counted() {
        let arrived = |count: usize, said: &[&str]| Arrived {
            in_use: true,
            count,
            sentences: said.iter().map(|one| (*one).to_owned()).collect(),
        };
        let (title, text) = words(&arrived(1, &["“a” expires tomorrow"]));
        assert_eq!(
            (&*title, &*text),
            ("A notice about your keys", "“a” expires tomorrow")
        );
        let (title, text) = words(&arrived(5, &["1", "2", "3"]));
        assert_eq!(
            (&*title, &*text),
            ("5 notices about your keys", "1\n2\n3\nand 2 more")
        );
    }

    #[test]
    fn a_window_in_front_says_only_what_is_of_the_registry_in_use() {
        let arrived = |in_use| Arrived {
            in_use,
            count: 1,
            sentences: vec!["“a” expires tomorrow".to_owned()],
        };
        assert!(is_in_the_window(true, &arrived(true)));
        assert!(!is_in_the_window(true, &arrived(false)));
        assert!(!is_in_the_window(false, &arrived(true)));
        let (title, _) = words(&arrived(false));
        assert_eq!(title, "A notice about the keys of this device");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn names_are_no_markup() {
        assert_eq!(
            for_the_system("“<img src=x>” & more"),
            "“&lt;img src=x&gt;” &amp; more"
        );
    }
}
