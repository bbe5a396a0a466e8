//! The one window: its size, its place on disk, and where it may not go.

use keywright_app::Home;
use keywright_protocol::settings::Theme;
use tauri::utils::config::Color;
use tauri::{App, AppHandle, Manager, WebviewUrl, WebviewWindowBuilder};

pub(crate) const LABEL: &str = "main";

pub(crate) fn open(tauri: &App, home: &Home, theme: Theme) -> tauri::Result<()> {
    let builder = WebviewWindowBuilder::new(tauri, LABEL, WebviewUrl::App("index.html".into()))
        .title("Keywright")
        .inner_size(1180.0, 760.0)
        .min_inner_size(820.0, 560.0)
        .center()
        .data_directory(home.folder().join("webview"))
        .on_navigation(is_our_own)
        .on_new_window(|_, _| tauri::webview::NewWindowResponse::Deny);
    let builder = match theme {
        Theme::System => builder,
        Theme::Light => builder.theme(Some(tauri::Theme::Light)),
        Theme::Dark => builder
            .theme(Some(tauri::Theme::Dark))
            .background_color(Color(20, 22, 24, 255)),
    };
    builder.build()?;
    Ok(())
}

/// The window shows the app and nothing else: no remote page ever loads in it.
fn is_our_own(url: &tauri::Url) -> bool {
    matches!(
        (url.scheme(), url.host_str()),
        ("tauri", Some("localhost")) | ("http" | "https", Some("tauri.localhost"))
    )
}

/// A second start of the app on this home lands here.
pub(crate) fn bring_forward(handle: &AppHandle) {
    let Some(window) = handle.get_webview_window(LABEL) else {
        return;
    };
    let shown = window
        .unminimize()
        .and_then(|()| window.show())
        .and_then(|()| window.set_focus());
    match shown {
        Ok(()) => tracing::info!("brought forward by a second start"),
        Err(error) => tracing::warn!(%error, "the window could not be brought forward"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ac_192_the_window_goes_nowhere_else() -> Result<(), Box<dyn std::error::Error>> {
        assert!(is_our_own(&"tauri://localhost/index.html#/keys".parse()?));
        for foreign in [
            "https://example.com/",
            "http://127.0.0.1:8080/",
            "file:///etc/passwd",
            "data:text/html,x",
            "tauri://elsewhere/",
        ] {
            assert!(!is_our_own(&foreign.parse()?), "{foreign}");
        }
        Ok(())
    }
}
