//! Search: texts are folded here, on writing and on asking, so that both databases answer alike.
//! `api_key_search` holds the folded text of each key behind a trigram index: an FTS5 table on
//! SQLite, filled in the background; a view over the keys themselves on PostgreSQL.

use sqlx::AnyConnection;
use unicode_normalization::UnicodeNormalization;

use crate::RegistryError;

/// A text without what search and order by name do not tell apart: upper and lower case, and the
/// two ways to write a letter with a mark. Context does not matter (a final sigma is a sigma), so
/// that every part of a text folds to a part of the folded text.
pub(crate) fn fold(text: &str) -> String {
    // ASCII is what nearly every text is, and stays itself under normalisation.
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let sigma = |letter| if letter == 'ς' { 'σ' } else { letter };
    text.nfc()
        .flat_map(char::to_lowercase)
        .map(sigma)
        .nfc()
        .collect()
}

/// A part of a text, as `LIKE … ESCAPE '\'` wants it, with its own wildcards taken literally.
pub(crate) fn like_pattern(text: &str) -> String {
    let mut pattern = String::from("%");
    for letter in fold(text.trim()).chars() {
        if matches!(letter, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern
}

/// The same for a plain `LIKE`, which alone can use SQLite's trigram index: what would need an
/// escape stands for any character, so it finds a little too much. None if no three characters
/// in a row are certain: no trigram, no use of the index.
pub(crate) fn prefilter_pattern(text: &str) -> Option<String> {
    let is_wild = |letter: char| matches!(letter, '%' | '_' | '\\');
    let folded = fold(text.trim());
    let has_trigram = folded.split(is_wild).any(|run| run.chars().count() >= 3);
    has_trigram.then(|| format!("%{}%", folded.replace(is_wild, "_")))
}

/// Numbers of the first and the last key that wait for the search index; 0 for none.
pub(crate) async fn waiting(connection: &mut AnyConnection) -> Result<(i64, i64), RegistryError> {
    Ok(sqlx::query_as(
        "SELECT CAST(COALESCE((SELECT MIN(sequence) FROM api_key_search_pending), 0) AS BIGINT), \
         CAST(COALESCE((SELECT MAX(sequence) FROM api_key_search_pending), 0) AS BIGINT)",
    )
    .fetch_one(connection)
    .await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_in_a_search_are_literal() {
        assert_eq!(like_pattern(" A_b%c\\ "), "%a\\_b\\%c\\\\%");
        assert_eq!(prefilter_pattern("A_bcd%").as_deref(), Some("%a_bcd_%"));
        assert_eq!(prefilter_pattern("a\\bcd").as_deref(), Some("%a_bcd%"));
        assert_eq!(prefilter_pattern("ab_cd"), None);
        assert_eq!(prefilter_pattern("äö"), None, "characters, not bytes");
    }

    #[test]
    fn case_and_composition_are_folded_beyond_ascii() {
        assert_eq!(fold("ÄRGER"), fold("a\u{308}rger"));
        assert_eq!(fold("ΟΔΟΣ"), fold("οδος"));
        assert!(fold("ΟΔΟΣΑ").contains(&fold("ΟΔΟΣ")), "no final sigma");
        assert_eq!(fold("ĲSSEL"), "ĳssel");
    }

    #[test]
    fn folding_twice_changes_nothing() {
        for text in ["İ", "ẞtraße", "Ǆ", "e\u{301}\u{323}", "ﬁn", "ΑΣ Σ", "🔑 K"] {
            assert_eq!(fold(&fold(text)), fold(text), "{text}");
        }
    }
}
