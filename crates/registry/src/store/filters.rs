//! Filters of lists as pieces of SQL: constant texts and values for their placeholders. Each piece
//! has three forms, and which one is used decides which index the database takes, not its guess:
//! a `check` that no index can serve, a `source` of ids by an index of the filter's own, and a
//! `seek` for lists whose order has an index that begins with it. Where nearly all keys of a filter
//! stand together in the order's index, a `split` says where, and which the few others are.

use keywright_domain::api_keys::{SettingsError, Tags};
use keywright_domain::scopes::Scope;

use super::Kind;
use super::search::{self, Prefilter};
use crate::RegistryError;
use crate::api_keys::{ApiKeyFilter, ApiKeyOrder, StateFilter};

/// A key counts as expiring this long before its end.
pub(crate) const EXPIRING_MS: i64 = 30 * 24 * 60 * 60 * 1000;
/// No name or list of scopes is worth a longer search, and LIKE has limits.
const LONGEST_TEXT: usize = 1000;

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Number(i64),
    Text(String),
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// Constant text with a `?` for each value.
#[derive(Clone, Debug)]
pub(crate) struct Clause {
    pub(crate) text: &'static str,
    pub(crate) values: Vec<Value>,
}

fn clause<const N: usize>(text: &'static str, values: [Value; N]) -> Clause {
    Clause {
        text,
        values: values.into(),
    }
}

/// One filter. Keys are `k`, their owners `p`.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// A condition. A sign or an empty text beside a column keeps its indexes out.
    pub(crate) check: Clause,
    /// Ids by an index: all that pass the check, and perhaps others; some perhaps twice.
    pub(crate) source: Option<Clause>,
    /// Whether the source has exactly the keys that pass the check, each once.
    pub(crate) is_exact: Exact,
    /// Whether the source is the search index: each key it finds is read before it counts.
    pub(crate) is_search: bool,
    /// The condition for the index that serves the order.
    pub(crate) seek: Option<Clause>,
    /// Where in the order's index nearly all of its keys are; the check stays.
    pub(crate) split: Option<Split>,
}

/// When a source has exactly the keys that pass the check, each once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exact {
    Never,
    /// While no owner is suspended, and none had all keys revoked.
    WhileOwnersAreOn,
    Always,
}

/// A filter's keys in two: a stretch of the order's index, and ids of those that are outside of it.
#[derive(Clone, Debug)]
pub(crate) struct Split {
    pub(crate) ends: Ends,
    /// None if there are none.
    pub(crate) rest: Option<Clause>,
}

/// A stretch of the times that an order is by: after the first and up to the second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) low: i64,
    pub(crate) high: i64,
}

macro_rules! alive {
    () => {
        " AND +k.revoked_at IS NULL AND (p.keys_revoked_at IS NULL OR +k.created_at > p.keys_revoked_at) \
         AND +k.disabled_at IS NULL AND p.disabled_at IS NULL"
    };
}

macro_rules! revoked {
    () => {
        "(+k.revoked_at IS NOT NULL OR +k.created_at <= p.keys_revoked_at)"
    };
}

/// Keys that were revoked, one by one or with everything of their owner.
macro_rules! revoked_source {
    () => {
        "SELECT id FROM api_keys WHERE revoked_at IS NOT NULL UNION ALL \
         SELECT o.id FROM principals w CROSS JOIN api_keys o WHERE w.keys_revoked_at IS NOT NULL \
         AND o.owner_id = w.id AND o.created_at <= w.keys_revoked_at"
    };
}

/// Keys that are suspended, or whose owner is.
macro_rules! disabled_source {
    () => {
        "SELECT id FROM api_keys WHERE disabled_at IS NOT NULL AND revoked_at IS NULL UNION ALL \
         SELECT o.id FROM principals w CROSS JOIN api_keys o WHERE w.disabled_at IS NOT NULL \
         AND o.owner_id = w.id"
    };
}

/// The parts of a filter.
pub(crate) fn parts(
    filter: &ApiKeyFilter,
    order: ApiKeyOrder,
    now: i64,
    common: &search::Common,
) -> Result<Vec<Part>, RegistryError> {
    use ApiKeyOrder as By;
    let by_created = matches!(order, By::CreatedAsc | By::CreatedDesc);
    let mut parts = Vec::new();
    equalities(&mut parts, filter, by_created);
    if filter.created_from.is_some() || filter.created_until.is_some() {
        let (from, until) = (
            filter.created_from.unwrap_or(i64::MIN),
            filter.created_until.unwrap_or(i64::MAX),
        );
        let of = |text| clause(text, [from.into(), until.into()]);
        parts.push(Part {
            check: of("+k.created_at >= ? AND +k.created_at < ?"),
            source: Some(of(
                "SELECT id FROM api_keys WHERE created_at >= ? AND created_at < ?",
            )),
            is_exact: Exact::Always,
            is_search: false,
            seek: by_created.then(|| of("k.created_at >= ? AND k.created_at < ?")),
            split: None,
        });
    }
    if let Some(before) = filter.expires_before {
        let of = |text| clause(text, [before.into()]);
        parts.push(Part {
            check: of("+k.expires_order < ?"),
            source: Some(of("SELECT id FROM api_keys WHERE expires_order < ?")),
            is_exact: Exact::Always,
            is_search: false,
            seek: matches!(order, By::ExpiresAsc | By::ExpiresDesc)
                .then(|| of("k.expires_order < ?")),
            split: None,
        });
    }
    if let Some(since) = filter.unused_since {
        let of = |text| clause(text, [since.into()]);
        parts.push(Part {
            check: of("+k.last_used_order < ?"),
            source: Some(of("SELECT id FROM api_keys WHERE last_used_order < ?")),
            is_exact: Exact::Always,
            is_search: false,
            seek: matches!(order, By::LastUsedAsc | By::LastUsedDesc)
                .then(|| of("k.last_used_order < ?")),
            split: None,
        });
    }
    parts.extend(by_state(filter.state, order, now));
    if let Some(scope) = &filter.scope {
        parts.push(by_scope(scope, common));
    }
    if let Some(tag) = &filter.tag {
        parts.push(by_tag(tag, common)?);
    }
    if !filter.text.trim().is_empty() {
        parts.push(by_text(&filter.text, common));
    }
    Ok(parts)
}

/// A text that no stored one equals or holds. PostgreSQL refuses the character U+0000 as such.
pub(crate) fn is_impossible(text: &str) -> bool {
    text.contains('\0') || text.chars().nth(LONGEST_TEXT).is_some()
}

fn nothing() -> Part {
    Part {
        check: clause("1 = 0", []),
        source: Some(clause("SELECT id FROM api_keys WHERE 1 = 0", [])),
        is_exact: Exact::Never,
        is_search: false,
        seek: None,
        split: None,
    }
}

/// Owner, prefix, environment: their indexes go on with the time of creation, so that the first of
/// them that is given can be walked in that order.
fn equalities(parts: &mut Vec<Part>, filter: &ApiKeyFilter, by_created: bool) {
    let environment = filter.environment.as_ref().map(|one| one.as_str());
    let texts = [
        (
            filter.owner.as_deref(),
            "k.owner_id || '' = ?",
            "SELECT id FROM api_keys WHERE owner_id = ?",
            "k.owner_id = ?",
        ),
        (
            filter.prefix.as_deref(),
            "k.prefix || '' = ?",
            "SELECT id FROM api_keys WHERE prefix = ?",
            "k.prefix = ?",
        ),
        (
            environment,
            "k.environment || '' = ?",
            "SELECT id FROM api_keys WHERE environment = ?",
            "k.environment = ?",
        ),
    ];
    let mut may_seek = by_created;
    for (value, check, source, seek) in texts {
        let Some(value) = value else { continue };
        if is_impossible(value) {
            parts.push(nothing());
            continue;
        }
        parts.push(Part {
            check: clause(check, [value.into()]),
            source: Some(clause(source, [value.into()])),
            is_exact: Exact::Always,
            is_search: false,
            seek: may_seek.then(|| clause(seek, [value.into()])),
            split: None,
        });
        may_seek = false;
    }
}

/// Keys whose end lies in a stretch of time, by the index of their newest secret's end; and those
/// whose own end is another, by the index of these.
macro_rules! ending {
    ($stretch:literal, $stretch_of_others:literal) => {
        concat!(
            "SELECT id FROM api_keys WHERE ",
            $stretch,
            " UNION ALL SELECT id FROM api_keys WHERE works_until <> expires_order AND revoked_at IS NULL AND ",
            $stretch_of_others
        )
    };
}

/// Of the latter, those that a stretch of that time does not have.
macro_rules! others {
    ($condition:literal) => {
        concat!(
            "SELECT id FROM api_keys WHERE works_until <> expires_order AND revoked_at IS NULL AND ",
            $condition
        )
    };
}

fn by_state(state: StateFilter, order: ApiKeyOrder, now: i64) -> Option<Part> {
    let soon = now.saturating_add(EXPIRING_MS);
    let (check, source) = match state {
        StateFilter::All => return None,
        StateFilter::Live => (
            clause(concat!("+k.works_until > ?", alive!()), [now.into()]),
            clause(
                ending!("expires_order > ?", "works_until > ?"),
                [now.into(), now.into()],
            ),
        ),
        StateFilter::Rotating => (
            clause(concat!("+k.rotating_until > ?", alive!()), [now.into()]),
            clause(
                "SELECT id FROM api_keys WHERE rotating_until > 0 AND rotating_until > ?",
                [now.into()],
            ),
        ),
        StateFilter::Pending => (
            clause(concat!("+k.pending_until > ?", alive!()), [now.into()]),
            clause(
                "SELECT id FROM api_keys WHERE pending_until > 0 AND pending_until > ?",
                [now.into()],
            ),
        ),
        StateFilter::Expiring => (
            clause(
                concat!("+k.works_until > ? AND +k.works_until <= ?", alive!()),
                [now.into(), soon.into()],
            ),
            clause(
                ending!(
                    "expires_order > ? AND expires_order <= ?",
                    "works_until > ? AND works_until <= ?"
                ),
                [now.into(), soon.into(), now.into(), soon.into()],
            ),
        ),
        StateFilter::Expired => (
            clause(concat!("+k.works_until <= ?", alive!()), [now.into()]),
            clause(
                ending!("expires_order <= ?", "works_until <= ?"),
                [now.into(), now.into()],
            ),
        ),
        StateFilter::NeverUsed => (
            clause("+k.last_used_order = 0", []),
            clause("SELECT id FROM api_keys WHERE last_used_order = 0", []),
        ),
        StateFilter::Disabled => (
            clause(
                "(+k.disabled_at IS NOT NULL OR p.disabled_at IS NOT NULL) AND +k.revoked_at IS NULL \
                 AND (p.keys_revoked_at IS NULL OR +k.created_at > p.keys_revoked_at)",
                [],
            ),
            clause(disabled_source!(), []),
        ),
        StateFilter::Revoked => (clause(revoked!(), []), clause(revoked_source!(), [])),
    };
    Some(Part {
        check,
        source: Some(source),
        is_exact: match state {
            StateFilter::NeverUsed => Exact::Always,
            StateFilter::Disabled | StateFilter::Revoked => Exact::WhileOwnersAreOn,
            _ => Exact::Never,
        },
        is_search: false,
        seek: None,
        split: split(state, order, now),
    })
}

/// In the order of ends, keys of a state stand together, but for those that end at another time
/// than their newest secret: while they rotate, or when that secret was ended by hand.
fn split(state: StateFilter, order: ApiKeyOrder, now: i64) -> Option<Split> {
    use ApiKeyOrder as By;
    let soon = now.saturating_add(EXPIRING_MS);
    let by_end = matches!(order, By::ExpiresAsc | By::ExpiresDesc);
    let by_last_use = matches!(order, By::LastUsedAsc | By::LastUsedDesc);
    let (low, high, rest) = match state {
        StateFilter::Live if by_end => (
            now,
            i64::MAX,
            Some(clause(
                others!("works_until > ? AND expires_order <= ?"),
                [now.into(), now.into()],
            )),
        ),
        StateFilter::Expiring if by_end => (
            now,
            soon,
            Some(clause(
                others!(
                    "works_until > ? AND works_until <= ? AND (expires_order <= ? OR expires_order > ?)"
                ),
                [now.into(), soon.into(), now.into(), soon.into()],
            )),
        ),
        StateFilter::Expired if by_end => (
            i64::MIN,
            now,
            Some(clause(
                others!("works_until <= ? AND expires_order > ?"),
                [now.into(), now.into()],
            )),
        ),
        StateFilter::NeverUsed if by_last_use => (i64::MIN, 0, None),
        _ => return None,
    };
    let ends = Ends { low, high };
    Some(Split { ends, rest })
}

/// Keys that the search index finds, some others, and those that wait for it and hold a pattern.
macro_rules! found {
    ($prefilter:expr, $others:literal, $column:literal, $pattern:expr) => {
        match $prefilter {
            Prefilter::Match(text) => clause(
                concat!(
                    "SELECT id FROM api_key_search WHERE api_key_search MATCH ?",
                    $others,
                    " UNION ALL SELECT c.id FROM api_key_search_pending w CROSS JOIN api_keys c \
                     WHERE c.id = w.key_id AND ",
                    $column,
                    " LIKE ? ESCAPE '\\'"
                ),
                [text.into(), $pattern.into()],
            ),
            // PostgreSQL's index is as new as the keys. A table that is always empty, and may be read as a whole
            // only, made every plan seem equally bad: the worst ones were taken.
            Prefilter::Like(text) => clause(
                concat!(
                    "SELECT id FROM api_key_search WHERE search_text LIKE ?",
                    $others
                ),
                [text.into()],
            ),
        }
    };
}

/// Keys that hold a scope, by itself or by a wildcard.
fn by_scope(scope: &Scope, common: &search::Common) -> Part {
    let (resource, action) = scope.as_str().split_once(':').unwrap_or_default();
    let pattern = |resource: &str, action: &str| {
        let held = format!("{resource}:{action}").replace('_', "\\_");
        Value::Text(format!("% {held} %"))
    };
    let covering = [
        pattern(resource, action),
        pattern(resource, "*"),
        pattern("*", action),
        pattern("*", "*"),
    ];
    let plain = scope.as_str().replace('_', "\\_");
    Part {
        check: clause(
            "(' ' || k.scopes || ' ' LIKE ? ESCAPE '\\' OR ' ' || k.scopes || ' ' LIKE ? ESCAPE '\\' \
             OR ' ' || k.scopes || ' ' LIKE ? ESCAPE '\\' OR ' ' || k.scopes || ' ' LIKE ? ESCAPE '\\')",
            covering,
        ),
        source: common.prefilter(scope.as_str()).map(|prefilter| {
            found!(
                prefilter,
                " UNION ALL SELECT id FROM api_keys WHERE scopes LIKE '%*%'",
                "c.scopes",
                format!("%{plain}%")
            )
        }),
        is_exact: Exact::Never,
        is_search: true,
        seek: None,
        split: None,
    }
}

fn by_tag(tag: &str, common: &search::Common) -> Result<Part, RegistryError> {
    let pattern = Tags::like_pattern(tag)
        .map_err(|error| keywright_domain::api_keys::KeyError::from(SettingsError::from(error)))?;
    Ok(Part {
        check: clause("k.tags LIKE ? ESCAPE '\\'", [pattern.as_str().into()]),
        source: common
            .prefilter(tag)
            .map(|prefilter| found!(prefilter, "", "c.tags", pattern)),
        is_exact: Exact::Never,
        is_search: true,
        seek: None,
        split: None,
    })
}

fn by_text(text: &str, common: &search::Common) -> Part {
    if is_impossible(text) {
        return nothing();
    }
    let pattern = search::like_pattern(text);
    Part {
        check: clause(
            // PostgreSQL's index of trigrams would serve a walk, by a plan that knows no patterns, and read all
            // that it has for one of two letters, which has no trigram.
            match common.kind() {
                Kind::Sqlite => "k.search_text LIKE ? ESCAPE '\\'",
                Kind::Postgres => "k.search_text || '' LIKE ? ESCAPE '\\'",
            },
            [pattern.as_str().into()],
        ),
        source: common
            .prefilter(text)
            .map(|prefilter| found!(prefilter, "", "c.search_text", pattern)),
        is_exact: Exact::Never,
        is_search: true,
        seek: None,
        split: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a search is answered from, for each thing that can be searched for.
    fn sources(kind: Kind) -> Vec<&'static str> {
        let filter = ApiKeyFilter {
            text: "service".into(),
            tag: Some("team-1".into()),
            scope: Some(Scope::new("keys:read").unwrap()),
            ..ApiKeyFilter::default()
        };
        let common = search::Common::unknown(kind);
        let parts = parts(&filter, ApiKeyOrder::CreatedDesc, 0, &common).unwrap();
        let sources = parts.into_iter().filter(|part| part.is_search);
        sources.filter_map(|part| Some(part.source?.text)).collect()
    }

    #[test]
    fn postgresql_is_never_asked_for_keys_that_wait_for_the_search_index() {
        // None wait there. The table can only be read as a whole, which connections say is as bad as can be: beside
        // it the worst plan of all looked no worse, and each search read every key.
        let waits = |text: &&str| text.contains("api_key_search_pending");
        let (lite, postgres) = (sources(Kind::Sqlite), sources(Kind::Postgres));
        assert_eq!((lite.len(), postgres.len()), (3, 3));
        assert_eq!(lite.iter().filter(|text| waits(text)).count(), 3);
        assert_eq!(postgres.iter().filter(|text| waits(text)).count(), 0);
    }
}
