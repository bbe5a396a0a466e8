//! What the browser shows at the end of a sign-in: static text, nothing from outside, no script.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

/// Follows the system's light or dark look. "Finishing" goes away as soon as something comes
/// after it, so that the page can be sent in two parts without a script.
const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1b1f27;--soft:#5b6472;--paper:#f4f5f8;--card:#fff;--line:#dfe3ea;--good:#187a4b;--bad:#b3261e}\
@media(prefers-color-scheme:dark){:root{--ink:#eceff4;--soft:#a3adbb;--paper:#14171d;--card:#1d222b;--line:#2f3642;--good:#5fd39a;--bad:#ff8a80}}\
*{box-sizing:border-box}\
body{margin:0;min-height:100vh;display:grid;place-items:center;padding:1.5rem;background:var(--paper);color:var(--ink);font:1rem/1.5 system-ui,sans-serif}\
main{width:100%;max-width:26rem;padding:2.25rem 2rem;background:var(--card);border:1px solid var(--line);border-radius:1rem;text-align:center}\
.name{margin:0 0 1.5rem;color:var(--soft);font-size:.875rem;letter-spacing:.04em}\
.mark{width:3rem;height:3rem;margin:0 auto 1rem;border:2px solid currentColor;border-radius:50%;display:grid;place-items:center;font-size:1.5rem;line-height:1}\
.good .mark{color:var(--good)}.bad .mark{color:var(--bad)}\
h1{margin:0 0 .5rem;font-size:1.25rem;font-weight:600}\
section p{margin:0;color:var(--soft)}\
.finishing:not(:last-child){display:none}";

/// How a sign-in ended, as far as its browser page is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Succeeded,
    Declined,
    Failed,
}

/// The start of the result page, sent while the code is being exchanged.
pub(crate) fn finishing() -> String {
    let section = section(
        "finishing",
        "…",
        "Finishing sign-in…",
        "Keywright is checking the provider's answer.",
    );
    format!("{}{section}", head("Finishing sign-in"))
}

/// Its end, sent when the sign-in has ended.
pub(crate) fn ending(ending: Ending) -> String {
    let section = match ending {
        Ending::Succeeded => section(
            "good",
            "✓",
            "You are signed in",
            "You can close this tab and go back to Keywright.",
        ),
        Ending::Declined => section(
            "bad",
            "✕",
            "You declined access",
            "Nothing was stored. You can close this tab.",
        ),
        Ending::Failed => section(
            "bad",
            "✕",
            "The sign-in did not finish",
            "Keywright says why. You can close this tab.",
        ),
    };
    format!("{section}</main></body></html>")
}

/// A page for what is not the answer.
pub(crate) fn refused() -> String {
    let section = section(
        "bad",
        "✕",
        "This is not the pending sign-in",
        "Nothing was done. You can close this tab.",
    );
    format!(
        "{}{section}</main></body></html>",
        head("Not the pending sign-in")
    )
}

/// Allows our one style and nothing else.
pub(crate) fn content_security_policy() -> String {
    let hash = STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )
}

fn head(title: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title} · Keywright</title>\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><meta name=\"robots\" content=\"noindex\">\
         <style>{STYLE}</style></head><body><main><p class=\"name\">Keywright</p>"
    )
}

fn section(class: &str, mark: &str, title: &str, text: &str) -> String {
    format!(
        "<section class=\"{class}\" role=\"status\"><div class=\"mark\" aria-hidden=\"true\">{mark}</div><h1>{title}</h1><p>{text}</p></section>"
    )
}
