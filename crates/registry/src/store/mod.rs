//! All SQL. Each statement is written once, in the text that SQLite and PostgreSQL share:
//! `$1` placeholders, `RETURNING`, `ON CONFLICT`, integer milliseconds. Row types stay in here.

pub(crate) mod accounts;
pub(crate) mod api_keys;
pub(crate) mod audit;
pub(crate) mod checkpoints;
pub(crate) mod credits;
pub(crate) mod file;
pub(crate) mod heads;
pub(crate) mod images;
pub(crate) mod listing;
pub(crate) mod many;
pub(crate) mod people;
pub(crate) mod peppers;
pub(crate) mod policies;
pub(crate) mod postgres;
pub(crate) mod principals;
pub(crate) mod rotations;
pub(crate) mod scopes;
pub(crate) mod secrets;
pub(crate) mod uses;

use sqlx::{Any, AnyPool, Transaction};

use crate::RegistryError;

/// Which database is behind the pool. Only `file`, `postgres` and [`begin`] may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

/// Begins a transaction that writes. SQLite: `IMMEDIATE`, because a deferred one that upgrades to
/// a write fails at once when another process writes. PostgreSQL: the lock on `heads` does it.
pub(crate) async fn begin(
    pool: &AnyPool,
    kind: Kind,
) -> Result<Transaction<'static, Any>, RegistryError> {
    let statement = match kind {
        Kind::Sqlite => "BEGIN IMMEDIATE",
        Kind::Postgres => "BEGIN",
    };
    Ok(pool.begin_with(statement).await?)
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
