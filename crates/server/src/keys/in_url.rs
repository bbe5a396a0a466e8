//! Keys in URLs, where logs, histories and other sites' servers see them (AC-124).

use keywright_domain::SecretText;
use keywright_domain::api_keys::find_keys;
use keywright_domain::api_keys::format::MARKER;

/// Names of query parameters that have no other purpose than to carry a key.
const NAMES: [&str; 6] = [
    "api_key",
    "apikey",
    "api-key",
    "key",
    "access_token",
    "token",
];

/// Whether a URL carries a key: anything of our format anywhere in it, or a parameter that is named for
/// one and looks like nothing else. Returns the texts of our format, for the record (AC-124).
pub(crate) fn in_url(url: &str) -> Option<Vec<SecretText>> {
    // Where nothing is encoded, no marker means no key, and nothing has to be copied to see that.
    if url.contains('%') || url.contains(MARKER) {
        let decoded = percent_decoded(url);
        let found: Vec<SecretText> = find_keys(&decoded)
            .map(|found| SecretText::new(decoded[found.range].to_owned()))
            .collect();
        if !found.is_empty() {
            return Some(found);
        }
    }
    let (_, query) = url.split_once('?')?;
    let query = query.split('#').next().unwrap_or("");
    let named = url::form_urlencoded::parse(query.as_bytes()).any(|(name, value)| {
        value.len() >= 16 && NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
    });
    named.then(Vec::new)
}

fn percent_decoded(url: &str) -> String {
    // `form_urlencoded` decodes one value: the whole URL as the value of nothing.
    let once = url.replace(['&', '=', '?', '#', '/'], " ");
    url::form_urlencoded::parse(once.as_bytes())
        .map(|(name, value)| format!("{name} {value}"))
        .collect()
}
