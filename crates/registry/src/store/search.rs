//! Search: texts are folded here, on writing and on asking, so that both databases answer alike.
//! `api_key_search` holds the folded text of each key behind a trigram index: an FTS5 table on
//! SQLite, filled in the background; a view over the keys themselves on PostgreSQL.

use std::collections::HashMap;

use sqlx::AnyConnection;
use unicode_normalization::UnicodeNormalization;

use super::Kind;
use crate::RegistryError;

/// A text without what search and order by name do not tell apart: upper and lower case, and the
/// two ways to write a letter with a mark. Context does not matter (a final sigma is a sigma), so
/// that every part of a text folds to a part of the folded text.
pub(crate) fn fold(text: &str) -> String {
    // ASCII is what nearly every text is, and stays itself under normalisation.
    // So do the quotation marks of our own summaries.
    let is_plain = |letter: char| letter.is_ascii() || matches!(letter, '“' | '”');
    if text.is_ascii() || text.chars().all(is_plain) {
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

/// What the search index is asked for: all keys that hold a text, and perhaps some that do not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Prefilter {
    /// Three characters in a row, several times, as FTS5 wants them.
    Match(String),
    /// A pattern, for PostgreSQL's trigrams.
    Like(String),
}

/// So many of a text's trigrams are asked for, those that the fewest keys have: SQLite reads the
/// list of keys of each of them, and that of a common one is as long as the registry.
const ASKED: usize = 4;
/// Texts that say how common a trigram is.
const SAMPLE: i64 = 500;

/// Which trigrams are common, by a sample of keys; and which database asks.
#[derive(Debug)]
pub(crate) struct Common {
    kind: Kind,
    counts: HashMap<[char; 3], u32>,
}

impl Common {
    /// For a database whose own index knows, and for questions without a search.
    pub(crate) fn unknown(kind: Kind) -> Self {
        Self {
            kind,
            counts: HashMap::new(),
        }
    }

    /// Which database asks.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Counts trigrams in the texts of the newest keys.
    pub(crate) async fn sample(
        connection: &mut AnyConnection,
        kind: Kind,
    ) -> Result<Self, RegistryError> {
        let texts: Vec<(String,)> = sqlx::query_as(
            "SELECT search_text FROM api_keys ORDER BY created_at DESC, id DESC LIMIT $1",
        )
        .bind(SAMPLE)
        .fetch_all(connection)
        .await?;
        let mut counts = HashMap::new();
        for (text,) in &texts {
            for trigram in trigrams(text) {
                *counts.entry(trigram).or_default() += 1;
            }
        }
        Ok(Self { kind, counts })
    }

    /// None if the text has no three characters in a row: no trigram, no use of the index.
    pub(crate) fn prefilter(&self, text: &str) -> Option<Prefilter> {
        match self.kind {
            Kind::Sqlite => {
                let folded = fold(text.trim());
                let mut wanted = Vec::new();
                for trigram in trigrams(&folded) {
                    if !wanted.contains(&trigram) {
                        wanted.push(trigram);
                    }
                }
                wanted.sort_by_key(|trigram| self.counts.get(trigram).copied().unwrap_or(0));
                wanted.truncate(ASKED);
                let quoted = |trigram: &[char; 3]| {
                    format!("\"{}\"", String::from_iter(trigram).replace('"', "\"\""))
                };
                let all: Vec<String> = wanted.iter().map(quoted).collect();
                (!all.is_empty()).then(|| Prefilter::Match(all.join(" AND ")))
            }
            Kind::Postgres => {
                let is_wild = |letter: char| matches!(letter, '%' | '_' | '\\');
                let folded = fold(text.trim());
                let has_trigram = folded.split(is_wild).any(|run| run.chars().count() >= 3);
                has_trigram.then(|| Prefilter::Like(like_pattern(text)))
            }
        }
    }
}

fn trigrams(text: &str) -> impl Iterator<Item = [char; 3]> {
    let next = text.chars().skip(1);
    let last = text.chars().skip(2);
    let all = text.chars().zip(next).zip(last);
    all.map(|((first, second), third)| [first, second, third])
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
    }

    #[test]
    fn the_rarest_trigrams_are_asked_for_with_wildcards_as_they_are() {
        let mut common = Common::unknown(Kind::Sqlite);
        let asked = |common: &Common, text: &str| match common.prefilter(text) {
            Some(Prefilter::Match(text)) => text,
            other => format!("{other:?}"),
        };
        assert_eq!(asked(&common, " A_b% "), "\"a_b\" AND \"_b%\"");
        assert_eq!(asked(&common, "x\"y"), "\"x\"\"y\"");
        assert_eq!(asked(&common, "aaaaaa"), "\"aaa\"", "each once");
        assert_eq!(asked(&common, "äö"), "None", "characters, not bytes");
        for (count, trigram) in ["abc", "bcd", "cde", "def", "efg"].iter().rev().enumerate() {
            let letters: Vec<char> = trigram.chars().collect();
            let letters = [letters[0], letters[1], letters[2]];
            common.counts.insert(letters, 1 + count as u32);
        }
        assert_eq!(
            asked(&common, "abcdefgh"),
            "\"fgh\" AND \"efg\" AND \"def\" AND \"cde\""
        );
        let postgres = Common::unknown(Kind::Postgres);
        let like = |text: &str| Some(Prefilter::Like(text.to_owned()));
        assert_eq!(postgres.prefilter("A_bcd%"), like("%a\\_bcd\\%%"));
        assert_eq!(postgres.prefilter("ab_cd"), None);
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
        assert_eq!(fold("Key “A”"), "key “a”");
        for text in ["İ", "ẞtraße", "Ǆ", "e\u{301}\u{323}", "ﬁn", "ΑΣ Σ", "🔑 K"] {
            assert_eq!(fold(&fold(text)), fold(text), "{text}");
        }
    }
}
