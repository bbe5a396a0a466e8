//! Names of parameters that somebody meant as one of ours: unknown ones are ignored, but a typing error that
//! loses where a person goes on to is named (AC-119).

use super::Params;

/// The first unknown name that is close to a known one, cut to a length that can be shown, and the known one.
pub(crate) fn meant<'a>(params: &Params, known: &[&'a str]) -> Option<(String, &'a str)> {
    params
        .iter()
        .filter(|(name, _)| !known.contains(name))
        .find_map(|(name, _)| {
            let meant = known.iter().find(|known| is_close(name, known))?;
            Some((name.chars().take(40).collect(), *meant))
        })
}

/// The same letters in another case or with other dashes, or two letters off.
pub(crate) fn is_close(name: &str, known: &str) -> bool {
    let plain = |text: &str| -> Vec<char> {
        text.chars()
            .filter(|c| c.is_alphanumeric())
            .take(41)
            .flat_map(char::to_lowercase)
            .collect()
    };
    distance(&plain(name), &plain(known)) <= 2
}

/// Levenshtein's.
fn distance(one: &[char], other: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.iter().enumerate() {
        let mut before = at;
        let mut next = vec![at + 1];
        for (column, theirs) in other.iter().enumerate() {
            let above = row.get(column + 1).copied().unwrap_or(usize::MAX - 1);
            let left = next.last().copied().unwrap_or(usize::MAX - 1);
            let changed = before + usize::from(letter != theirs);
            next.push(changed.min(above + 1).min(left + 1));
            before = above;
        }
        row = next;
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 3] = ["token_type_hint", "redirectTo", "csrf_token"];

    #[test]
    fn ac_119_what_was_meant_is_named() {
        for typo in [
            "redirectto",
            "redirect_to",
            "RedirectTo",
            "redirecTo",
            "redirectTto",
            "redirect",
        ] {
            assert!(is_close(typo, "redirectTo"), "{typo}");
        }
        for other in ["state", "ui_locales", "id_token_hint", "redirect_uri_x"] {
            assert!(!KNOWN.iter().any(|known| is_close(other, known)), "{other}");
        }
        assert!(is_close("token_type_hnt", "token_type_hint"));
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        assert_eq!(distance(&chars("kitten"), &chars("sitting")), 3);
        assert_eq!(distance(&[], &chars("ab")), 2);
    }

    #[test]
    fn a_known_name_is_no_typing_error_and_a_long_one_is_cut() {
        let find = |query: &str| meant(&Params::parse(query).unwrap(), &KNOWN);
        assert_eq!(find("redirectTo=/a&state=1&token_type_hint=x"), None);
        let found = find("state=1&redirecTo=/a").unwrap();
        assert_eq!(found, ("redirecTo".to_owned(), "redirectTo"));
        let dashes = format!("redirectTo{}", "-".repeat(60));
        let (shown, _) = find(&format!("{dashes}=/a")).unwrap();
        assert_eq!(shown.len(), 40);
    }
}
