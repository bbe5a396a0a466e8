//! All SQL. Each statement is written once, in the text that SQLite and PostgreSQL share:
//! `$1` placeholders, `RETURNING`, `ON CONFLICT`, integer milliseconds. Row types stay in here.

pub(crate) mod accounts;
pub(crate) mod api_keys;
pub(crate) mod audit;
pub(crate) mod candidates;
pub(crate) mod file;
pub(crate) mod listing;
pub(crate) mod scopes;
pub(crate) mod secrets;

use sqlx::{Any, AnyPool, Transaction};

use crate::RegistryError;

/// Begins a transaction that may write. `IMMEDIATE`, because a deferred one that upgrades to a
/// write fails at once when another process writes.
pub(crate) async fn begin(pool: &AnyPool) -> Result<Transaction<'static, Any>, RegistryError> {
    Ok(pool.begin_with("BEGIN IMMEDIATE").await?)
}

/// A part of a text, as LIKE wants it, with its own wildcards taken literally.
pub(crate) fn like_pattern(text: &str) -> String {
    let mut pattern = String::from("%");
    for letter in text.trim().to_lowercase().chars() {
        if matches!(letter, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    #[test]
    fn wildcards_in_a_search_are_literal() {
        assert_eq!(super::like_pattern(" A_b%c\\ "), "%a\\_b\\%c\\\\%");
    }
}
