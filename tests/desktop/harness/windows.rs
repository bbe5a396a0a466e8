//! The display's windows, as a window manager sees them.

use anyhow::{Context, Result, bail};
use x11rb::connection::Connection as _;
use x11rb::protocol::xproto::{
    AtomEnum, ClientMessageEvent, ConnectionExt as _, EventMask, Window,
};
use x11rb::rust_connection::RustConnection;
use x11rb::wrapper::ConnectionExt as _;

use super::session::Desktop;

/// Asks the window of this title to close, as its cross or Alt+F4 does (ICCCM §4.2.8.1).
pub(crate) fn ask_to_close(desktop: &Desktop, title: &str) -> Result<()> {
    let (display, screen) = x11rb::connect(Some(&desktop.display()?))?;
    let root = display.setup().roots[screen].root;
    let protocols = atom(&display, "WM_PROTOCOLS")?;
    let close = atom(&display, "WM_DELETE_WINDOW")?;
    let mut left = vec![root];
    while let Some(window) = left.pop() {
        left.extend(display.query_tree(window)?.reply()?.children);
        let knows = words(&display, window, protocols)?.contains(&close);
        if knows && name(&display, window)? == title {
            let message = ClientMessageEvent::new(
                32,
                window,
                protocols,
                [close, x11rb::CURRENT_TIME, 0, 0, 0],
            );
            display.send_event(false, window, EventMask::NO_EVENT, message)?;
            display.sync()?;
            return Ok(());
        }
    }
    bail!("no window of the title {title}")
}

fn atom(display: &RustConnection, name: &str) -> Result<u32> {
    Ok(display.intern_atom(false, name.as_bytes())?.reply()?.atom)
}

fn words(display: &RustConnection, window: Window, property: u32) -> Result<Vec<u32>> {
    let asked = display.get_property(false, window, property, AtomEnum::ATOM, 0, 64)?;
    let answer = asked.reply()?;
    Ok(answer.value32().map(Iterator::collect).unwrap_or_default())
}

fn name(display: &RustConnection, window: Window) -> Result<String> {
    let asked = display.get_property(false, window, AtomEnum::WM_NAME, AtomEnum::ANY, 0, 64)?;
    String::from_utf8(asked.reply()?.value).context("a title that is no UTF-8")
}
