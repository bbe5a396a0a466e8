//! A blank window that tells when it has painted, in the same words as the app's log.

use std::{fs, path::PathBuf, sync::OnceLock, time::Instant};

static START: OnceLock<Instant> = OnceLock::new();

#[tauri::command]
fn painted() -> Result<(), String> {
    let took = START.get_or_init(Instant::now).elapsed().as_millis();
    let home = std::env::var_os("KEYWRIGHT_HOME").ok_or("KEYWRIGHT_HOME is not set")?;
    let logs = PathBuf::from(home).join("logs");
    fs::create_dir_all(&logs).map_err(|error| error.to_string())?;
    let line = format!("first_paint_ms={took}\n");
    fs::write(logs.join("keywright.log"), line).map_err(|error| error.to_string())
}

fn main() -> tauri::Result<()> {
    START.get_or_init(Instant::now);
    tauri::Builder::default()
        .invoke_handler(tauri::generate_handler![painted])
        .run(tauri::generate_context!())
}
