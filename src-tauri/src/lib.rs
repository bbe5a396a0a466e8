//! The desktop face: a Tauri shell over `keywright-app`. It parses, calls and renders; what is
//! decided is decided in the app. Only this room knows of Tauri.

mod closing;
pub mod commands;
mod events;
pub mod ipc;
mod logging;
mod notification;
mod window;

pub use ipc::export_bindings;

use std::sync::Arc;
use std::time::{Duration, Instant};

use keywright_app::{App, Home};
use tauri::{Manager, RunEvent, WindowEvent};

/// Runs the app until its window is closed. `started` is when the process began.
///
/// # Errors
/// If the app's folder cannot be used or no window can be opened.
pub fn run(started: Instant) -> anyhow::Result<()> {
    let home = Home::from_environment()?;
    logging::start(&home)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), home = %home.folder().display(), "starting");
    let ipc = ipc::builder();
    #[expect(clippy::disallowed_methods, reason = "written by Tauri's macro")]
    let mut context = tauri::generate_context!();
    // The identifier names the running instance: two homes must not meet.
    context.config_mut().identifier = home.identifier().to_owned();
    let built = tauri::Builder::default()
        .plugin(tauri_plugin_single_instance::init(|handle, _, _| {
            window::bring_forward(handle)
        }))
        .invoke_handler(ipc.invoke_handler())
        .setup(move |tauri| {
            ipc.mount_events(tauri.handle());
            let events = Arc::new(events::WindowEvents(tauri.handle().clone()));
            let theme_home = home.clone();
            let app = App::new(home, events, started)?;
            let theme = app.read_settings()?.theme;
            tauri.manage(app.clone());
            tauri.manage(closing::Closing::default());
            window::open(tauri, &theme_home, theme)?;
            end_with_the_session(tauri.handle().clone(), app.clone());
            tauri::async_runtime::spawn(async move { app.start() });
            Ok(())
        })
        .build(context)?;
    built.run(|handle, event| match event {
        RunEvent::WindowEvent {
            event: WindowEvent::CloseRequested { api, .. },
            ..
        } if !closing::may_close(handle) => api.prevent_close(),
        RunEvent::Exit => {
            if let Some(app) = handle.try_state::<App>() {
                tauri::async_runtime::block_on(app.close());
                tracing::info!("stopped");
            }
        }
        _ => {}
    });
    Ok(())
}

/// How long a change that is under way keeps a session from ending.
const LAST_CHANGE: Duration = Duration::from_secs(5);

/// Ctrl-C, a logout or a service manager end the app as closing its window does. Nobody is asked;
/// a delivery or a move that is under way has a moment to end.
fn end_with_the_session(handle: tauri::AppHandle, app: App) {
    tauri::async_runtime::spawn(async move {
        wait_for_signal().await;
        app.finish_work(LAST_CHANGE).await;
        handle.exit(0);
    });
}

#[cfg(unix)]
async fn wait_for_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

#[cfg(not(unix))]
async fn wait_for_signal() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}
