//! Keys in addresses, where logs, histories and other sites' servers see them.

use url::form_urlencoded;

/// What every key of ours has in it.
const MARKER: &str = "KYWRT1";
/// The most of a key that stands before its marker, and after it.
const BEFORE: usize = 16 + 1 + 12;
const AFTER: usize = 32 + 6;
/// Names of query parameters that carry a key or a token in most services, and mostly nothing else.
const NAMES: [&str; 6] = [
    "api_key",
    "apikey",
    "api-key",
    "key",
    "access_token",
    "token",
];
/// What stands under such a name and has fewer bytes is no key; what has more neither.
const SHORTEST: usize = 16;
const LONGEST: usize = 512;
/// So many of one address.
const MOST: usize = 3;

/// Texts in a path with its query that are keys or look like some: anything with our marker, however it is encoded,
/// and what stands under a name for keys, which are these in place of [`NAMES`] where the service has names of its own.
/// Each may have letters around it; none if there is nothing.
pub(super) fn in_url(path_and_query: &str, names: Option<&[Box<str>]>) -> Option<Vec<String>> {
    let mut found: Vec<String> = Vec::new();
    if path_and_query.contains('%') || path_and_query.contains(MARKER) {
        let decoded = decoded(path_and_query);
        let markers = decoded.match_indices(MARKER);
        found.extend(markers.map(|(at, _)| around(&decoded, at)));
    }
    let query = path_and_query
        .split_once('?')
        .map_or("", |(_, query)| query);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let is_named = match names {
            None => NAMES.iter().any(|known| name.eq_ignore_ascii_case(known)),
            Some(own) => own.iter().any(|known| name.eq_ignore_ascii_case(known)),
        };
        if is_named && value.len() >= SHORTEST && !value.contains(MARKER) {
            // It is refused all the same.
            let told = if value.len() > LONGEST { "" } else { &*value };
            found.push(told.to_owned());
        }
    }
    if found.is_empty() {
        return None;
    }
    found.retain(|text| !text.is_empty());
    found.truncate(MOST);
    Some(found)
}

/// What belongs to the marker that stands there.
fn around(text: &str, marker: usize) -> String {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let (before, after) = text.as_bytes().split_at(marker);
    let before = before.iter().rev().take(BEFORE);
    let before: Vec<u8> = before.copied().take_while(is_part).collect();
    let after = after
        .iter()
        .take(MARKER.len() + AFTER)
        .take_while(|byte| is_part(byte));
    let all = before.iter().rev().chain(after);
    all.map(|byte| char::from(*byte)).collect()
}

fn decoded(text: &str) -> String {
    // One value: what separates values must not be decoded from something else.
    let once = text.replace(['&', '=', '?', '/', '+'], " ");
    form_urlencoded::parse(once.as_bytes())
        .map(|(name, value)| format!("{name} {value}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ac_124_keys_are_found_however_they_are_written_and_what_is_none_is_not() {
        let tail = "abcdefghijklKYWRT1ABCDEFGHIJKLMNOPQRSTUVWXYZ012345abcdef";
        let key = format!("sk_live_{tail}");
        for address in [
            format!("/orders/{key}/x"),
            format!("/orders?page=2&x={key}&y=1"),
            format!("/orders?x=a%3D{key}%0A"),
            format!(
                "/orders?x={}",
                key.replace('_', "%5F").replace("KY", "%4b%59")
            ),
            format!("/orders?api_key={key}"),
        ] {
            let found = in_url(&address, None).unwrap_or_else(|| panic!("{address}"));
            assert_eq!(found, [key.as_str()], "{address}");
        }
        for name in NAMES {
            let address = format!("/o?a=1&{}=0123456789-abcdef", name.to_uppercase());
            assert_eq!(
                in_url(&address, None).unwrap(),
                ["0123456789-abcdef"],
                "{address}"
            );
        }
        // Nothing to tell, and no way through.
        let long = format!("/o?token={}", "x".repeat(600));
        assert_eq!(in_url(&long, None), Some(Vec::new()));
        let many = format!("/o?{}", format!("x={key}&").repeat(9));
        assert_eq!(in_url(&many, None).unwrap().len(), MOST);
        assert_eq!(in_url("/KYWRT1", None).unwrap(), ["KYWRT1"]);
        for harmless in [
            "/",
            "/orders?key=short",
            "/orders?q=0123456789abcdef0123",
            "/%ff?%ff=%4",
        ] {
            assert_eq!(in_url(harmless, None), None, "{harmless}");
        }
    }

    #[test]
    fn ac_124_a_service_names_its_parameters_for_keys_and_ours_are_found_anyway() {
        let key = "sk_live_abcdefghijklKYWRT1ABCDEFGHIJKLMNOPQRSTUVWXYZ012345abcdef";
        let own: [Box<str>; 1] = ["secret".into()];
        for (names, named) in [(&own[..0], None), (&own[..], Some("0123456789-abcdef"))] {
            for name in NAMES {
                let address = format!("/o?{name}=0123456789-abcdef");
                assert_eq!(in_url(&address, Some(names)), None, "{address}");
                let address = format!("/o?{name}={key}");
                let found = in_url(&address, Some(names));
                assert_eq!(found.unwrap(), [key], "{address}");
            }
            let found = in_url("/o?Secret=0123456789-abcdef", Some(names));
            assert_eq!(found, named.map(|text| vec![text.to_owned()]));
        }
    }
}
