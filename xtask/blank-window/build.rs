//! Lets the page call `painted`.

fn main() {
    tauri_build::build();
}
