//! Keys in URLs, where logs, histories and other sites' servers see them (AC-124).

use keywright_domain::SecretText;
use keywright_domain::api_keys::find_keys;
use keywright_domain::api_keys::format::MARKER;

/// Names of query parameters that have no other purpose than to carry a key.
const OF_KEYS: [&str; 4] = ["api_key", "apikey", "api-key", "key"];
/// The same of keys or tokens. OAuth has these two for tokens, and its endpoints answers of their own for them
/// (RFC 6750 §2.3): in addresses of ours they say nothing of a key.
const OF_TOKENS: [&str; 2] = ["access_token", "token"];
/// What stands under such a name and has fewer bytes is no key.
const SHORTEST: usize = 16;

/// Whether somebody else's URL carries a key: anything of our format anywhere in it, or a parameter that is named
/// for one and looks like nothing else, as keys of other makers do. Returns what may be keys, for the record (AC-124).
pub(crate) fn in_url(url: &str) -> Option<Vec<SecretText>> {
    found(url, &[&OF_KEYS, &OF_TOKENS])
}

/// The same of a path and query that this server was asked for.
pub(crate) fn in_own_url(address: &str) -> Option<Vec<SecretText>> {
    found(address, &[&OF_KEYS])
}

fn found(url: &str, names: &[&[&str]]) -> Option<Vec<SecretText>> {
    let mut found: Vec<SecretText> = Vec::new();
    // Where nothing is encoded, no marker means no key, and nothing has to be copied to see that.
    if url.contains('%') || url.contains(MARKER) {
        let decoded = percent_decoded(url);
        let keys =
            find_keys(&decoded).map(|found| SecretText::new(decoded[found.range].to_owned()));
        found.extend(keys);
    }
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let query = query.split('#').next().unwrap_or("");
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let mut known = names.iter().flat_map(|names| names.iter());
        let is_named = known.any(|known| name.eq_ignore_ascii_case(known));
        // One of ours under such a name is there already.
        if is_named && value.len() >= SHORTEST && find_keys(&value).next().is_none() {
            found.push(SecretText::new(value.into_owned()));
        }
    }
    (!found.is_empty()).then_some(found)
}

fn percent_decoded(url: &str) -> String {
    // `form_urlencoded` decodes one value: the whole URL as the value of nothing.
    let once = url.replace(['&', '=', '?', '#', '/'], " ");
    url::form_urlencoded::parse(once.as_bytes())
        .map(|(name, value)| format!("{name} {value}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(found: Option<Vec<SecretText>>) -> Vec<String> {
        let found = found.unwrap_or_default().into_iter();
        found.map(|one| one.expose().to_owned()).collect()
    }

    #[test]
    fn ac_124_keys_of_other_makers_are_found_by_the_name_that_they_stand_under() {
        let foreign = "ghp_16C7e42F292c6912E7710c838347Ae178B4a";
        for name in [
            "api_key",
            "API-Key",
            "apikey",
            "key",
            "access_token",
            "Token",
        ] {
            let url = format!("/orders?page=2&{name}={foreign}#x");
            assert_eq!(texts(in_url(&url)), [foreign], "{name}");
            let own = texts(in_own_url(&url));
            let of_oauth = name.eq_ignore_ascii_case("token") || name == "access_token";
            assert_eq!(own.is_empty(), of_oauth, "{name}: {own:?}");
        }
        assert_eq!(
            texts(in_url("/o?key=a%2Bb%20c-0123456789")),
            ["a+b c-0123456789"]
        );
        for harmless in [
            format!("/orders?q={foreign}"),
            "/orders?key=short".to_owned(),
            format!("/key={foreign}"),
        ] {
            assert_eq!(texts(in_url(&harmless)), [] as [&str; 0], "{harmless}");
        }
    }
}
