//! One page: which index to take, how far to go, and how many there are in all.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use sqlx::{AnyConnection, Connection as _};

use super::cursor::{Cursor, fingerprint};
use super::summary::summary;
use super::{ApiKeyFilter, ApiKeyOrder, ApiKeyPage, ApiKeyQuery, ApiKeyTotal};
use crate::store::Kind;
use crate::store::filters::{self, Clause, Ends, Exact, Part};
use crate::store::listing::{self, ListRow, Stretch};
use crate::store::search::Common;
use crate::{LocalRegistry, RegistryError};

/// A source of at most so many keys is read and sorted for each page. With more, walking along the
/// order finds a page's keys sooner: both take about 10 ms where they meet, with a million keys.
const GATHERED: i64 = 5_000;
/// Totals are exact up to here.
const COUNTED: i64 = 10_000;
/// The search index is asked for so many keys at most, and for a few first: a search that finds more
/// is served by a walk along the order, which soon meets a page of them.
const PROBED: i64 = 2_000;
const PROBED_FIRST: i64 = 64;
/// Nor is it asked for the rest if those few took so long.
const PROBE_TIME: Duration = Duration::from_millis(15);
/// PostgreSQL reads all that its index has for a search before it tells of the first key: where that takes longer, it
/// is ended, and counts as much.
const PROBE_LIMIT: &str = "SET LOCAL statement_timeout = 30";
/// Keys that a walk looks at before it first looks whether that was enough; then 8 times as many.
const FIRST_STRETCH: i64 = 2_000;
/// A walk that looked at more keys than this ends the page, however little it found.
const LONGEST_WALK: i64 = 100_000;
/// And so does one that took this long: with what a page asks for besides, it then comes within
/// 100 ms. The first stretch is always walked, so that every page gets on.
const WALK_TIME: Duration = Duration::from_millis(60);
/// How long a sample of texts says which trigrams are common.
const SAMPLE_KEPT: Duration = Duration::from_secs(60);

impl LocalRegistry {
    /// One page of keys. A page of the same filter and order, by its cursor, goes on where the one
    /// before ended: no key comes twice, and none is missed that did not change meanwhile.
    ///
    /// # Errors
    /// [`RegistryError::Cursor`] for a cursor of another list; [`RegistryError::Key`] for what is
    /// no tag.
    pub async fn list_api_keys(&self, query: &ApiKeyQuery) -> Result<ApiKeyPage, RegistryError> {
        let is_probing = AtomicBool::new(false);
        match self.list_page(query, Some(&is_probing)).await {
            // The limit of a look into the index may end what takes it back, and with it the whole transaction. Whatever
            // else was in the way still is: nobody waits for that twice.
            Err(RegistryError::Locked) if is_probing.load(Ordering::Relaxed) => {
                self.list_page(query, None).await
            }
            answer => answer,
        }
    }

    async fn list_page(
        &self,
        query: &ApiKeyQuery,
        is_probing: Option<&AtomicBool>,
    ) -> Result<ApiKeyPage, RegistryError> {
        let list = fingerprint(&query.filter, query.order);
        let cursor = query.cursor.as_deref();
        let after = cursor.map(|text| Cursor::decode(text, list)).transpose()?;
        let now = self.now();
        let mut transaction = self.shared.pool.begin().await?;
        let common = self.common(&mut transaction, &query.filter).await?;
        let ask = Ask {
            kind: self.shared.kind,
            is_probing,
            parts: filters::parts(&query.filter, query.order, now, &common)?,
            order: query.order,
            limit: query.limit.clamp(1, 500) as usize,
        };
        let source = ask.narrowest(&mut transaction, after.is_none()).await?;
        let (mut rows, mut next) = ask.page(&mut transaction, source, after.as_ref()).await?;
        if rows.len() > ask.limit {
            rows.truncate(ask.limit);
            next = rows.last().map(|row| place(row, query.order));
        }
        let total = match (&after, &next) {
            (Some(_), _) => None,
            (None, None) => Some(exactly(rows.len())),
            (None, Some(_)) => Some(ask.total(&mut transaction, source, rows.len()).await?),
        };
        let items = rows.into_iter().map(|row| summary(row, now));
        Ok(ApiKeyPage {
            items: items.collect::<Result<_, _>>()?,
            next_cursor: next.map(|place| place.encode(list)),
            total,
        })
    }
}

impl LocalRegistry {
    /// Which trigrams are common, for a filter that searches.
    async fn common(
        &self,
        connection: &mut AnyConnection,
        filter: &ApiKeyFilter,
    ) -> Result<Arc<Common>, RegistryError> {
        let kind = self.shared.kind;
        let searches =
            !filter.text.trim().is_empty() || filter.tag.is_some() || filter.scope.is_some();
        if kind == Kind::Postgres || !searches {
            return Ok(Arc::new(Common::unknown(kind)));
        }
        let kept = || {
            let kept = &self.shared.common;
            kept.lock().unwrap_or_else(PoisonError::into_inner)
        };
        if let Some((at, common)) = &*kept()
            && at.elapsed() < SAMPLE_KEPT
        {
            return Ok(Arc::clone(common));
        }
        let common = Arc::new(Common::sample(connection, kind).await?);
        *kept() = Some((Instant::now(), Arc::clone(&common)));
        Ok(common)
    }
}

/// How many keys the search index finds; `i64::MAX` for more than `most`, or if that takes long. While the limit of
/// PostgreSQL is set, `is_probing` says so: it is left where that took the whole transaction along.
async fn probe(
    connection: &mut AnyConnection,
    (kind, is_probing): (Kind, &AtomicBool),
    source: &filters::Clause,
    most: i64,
) -> Result<i64, RegistryError> {
    if kind == Kind::Sqlite {
        return found(connection, source, most).await;
    }
    is_probing.store(true, Ordering::Relaxed);
    let mut bounded = connection.begin().await?;
    sqlx::raw_sql(PROBE_LIMIT).execute(&mut *bounded).await?;
    let count = found(&mut bounded, source, most).await;
    // The limit ends with what it was set in.
    bounded.rollback().await?;
    is_probing.store(false, Ordering::Relaxed);
    match count {
        // What was ended is said to be in the way of something else: nothing is, of what only reads.
        Err(RegistryError::Locked) => Ok(i64::MAX),
        other => other,
    }
}

/// The same as far as it takes: a few first, which soon says whether there are many.
async fn found(
    connection: &mut AnyConnection,
    source: &filters::Clause,
    most: i64,
) -> Result<i64, RegistryError> {
    let began = Instant::now();
    for (most, is_last) in [(most.min(PROBED_FIRST), most <= PROBED_FIRST), (most, true)] {
        let count = listing::count_source(connection, source, most + 1).await?;
        if count <= most {
            return Ok(count);
        }
        if is_last || began.elapsed() > PROBE_TIME {
            break;
        }
    }
    Ok(i64::MAX)
}

/// How many keys to look at next: eight times as many, or as many as there is time for.
fn next_length(length: i64, walked: i64, took: Duration) -> i64 {
    let micros = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
    let left = micros(WALK_TIME.saturating_sub(took));
    let within = walked.saturating_mul(left) / micros(took).max(1);
    within.clamp(FIRST_STRETCH, length * 8)
}

fn exactly(count: usize) -> ApiKeyTotal {
    ApiKeyTotal {
        count: i64::try_from(count).unwrap_or(i64::MAX),
        is_estimate: false,
    }
}

fn place(row: &ListRow, order: ApiKeyOrder) -> Cursor {
    use ApiKeyOrder as By;
    let (number, text) = match order {
        By::CreatedDesc | By::CreatedAsc => (row.created_at, ""),
        By::ExpiresAsc | By::ExpiresDesc => (row.expires_order, ""),
        By::LastUsedAsc | By::LastUsedDesc => (row.last_used_order, ""),
        By::NameAsc | By::NameDesc => (0, row.name_key.as_str()),
    };
    Cursor {
        number,
        text: text.to_owned(),
        id: row.id.clone(),
    }
}

/// The source of one of the parts, and how many keys it has.
#[derive(Clone, Copy)]
struct Narrowest {
    part: usize,
    count: i64,
}

struct Ask<'a> {
    kind: Kind,
    /// The search index is asked how many keys it finds where there is this, which says that it is being asked.
    is_probing: Option<&'a AtomicBool>,
    parts: Vec<Part>,
    order: ApiKeyOrder,
    limit: usize,
}

impl Ask<'_> {
    /// Whether a walk along the order meets keys that it must leave out.
    fn has_checks(&self) -> bool {
        self.parts.iter().any(|part| part.seek.is_none())
    }

    /// The part with the fewest keys, if any has few.
    async fn narrowest(
        &self,
        connection: &mut AnyConnection,
        is_first: bool,
    ) -> Result<Option<Narrowest>, RegistryError> {
        let mut few = match (is_first, self.has_checks()) {
            (true, _) => COUNTED,
            (false, true) => GATHERED,
            (false, false) => return Ok(None),
        };
        let mut narrowest = None;
        for (part, source) in self.sources() {
            let count = match (self.parts[part].is_search, self.is_probing) {
                (true, None) => continue,
                (true, Some(is_probing)) => {
                    let how = (self.kind, is_probing);
                    probe(connection, how, source, few.min(PROBED)).await?
                }
                (false, _) => listing::count_source(connection, source, few + 1).await?,
            };
            if count <= few {
                narrowest = Some(Narrowest { part, count });
                few = count;
            }
        }
        Ok(narrowest)
    }

    fn sources(&self) -> impl Iterator<Item = (usize, &filters::Clause)> {
        let all = self.parts.iter().enumerate();
        all.filter_map(|(index, part)| Some((index, part.source.as_ref()?)))
    }

    fn source(&self, narrowest: Narrowest) -> Option<&filters::Clause> {
        self.parts.get(narrowest.part)?.source.as_ref()
    }

    /// Rows, one more than the limit if there are; else where a walk ended before it found them.
    async fn page(
        &self,
        connection: &mut AnyConnection,
        narrowest: Option<Narrowest>,
        after: Option<&Cursor>,
    ) -> Result<(Vec<ListRow>, Option<Cursor>), RegistryError> {
        let few = narrowest.filter(|few| few.count <= GATHERED && self.has_checks());
        let Some(source) = few.and_then(|few| self.source(few)) else {
            return self.walk(connection, after).await;
        };
        let (parts, limit) = (&self.parts, self.limit as i64 + 1);
        let rows = listing::gather(connection, parts, source, self.order, after, limit).await?;
        Ok((rows, None))
    }

    async fn walk(
        &self,
        connection: &mut AnyConnection,
        after: Option<&Cursor>,
    ) -> Result<(Vec<ListRow>, Option<Cursor>), RegistryError> {
        for part in &self.parts {
            let Some(split) = &part.split else { continue };
            let rest = match &split.rest {
                Some(rest) => listing::count_source(connection, rest, GATHERED + 1).await?,
                None => 0,
            };
            if rest > GATHERED {
                continue;
            }
            let (mut rows, until) = self.walk_along(connection, Some(split.ends), after).await?;
            if let Some(source) = split.rest.as_ref().filter(|_| rest > 0) {
                let until = until.as_ref();
                self.mix_in(connection, source, (&mut rows, until), after)
                    .await?;
            }
            return Ok((rows, until));
        }
        self.walk_along(connection, None, after).await
    }

    /// Adds to what a walk found, up to where it ended, those that stand elsewhere in the order.
    async fn mix_in(
        &self,
        connection: &mut AnyConnection,
        rest: &Clause,
        (rows, until): (&mut Vec<ListRow>, Option<&Cursor>),
        after: Option<&Cursor>,
    ) -> Result<(), RegistryError> {
        let (parts, limit) = (&self.parts, self.limit as i64 + 1);
        let found = listing::gather(connection, parts, rest, self.order, after, limit).await?;
        // Only the orders of ends have others.
        let ascends = self.order != ApiKeyOrder::ExpiresDesc;
        let before = |one: (i64, &str), other: (i64, &str)| {
            let order = one.cmp(&other);
            if ascends { order } else { order.reverse() }
        };
        rows.extend(found.into_iter().filter(|row| {
            let place = (row.expires_order, row.id.as_str());
            until.is_none_or(|until| before(place, (until.number, &until.id)).is_le())
        }));
        rows.sort_by(|one, other| {
            before(
                (one.expires_order, &one.id),
                (other.expires_order, &other.id),
            )
        });
        Ok(())
    }

    async fn walk_along(
        &self,
        connection: &mut AnyConnection,
        ends: Option<Ends>,
        after: Option<&Cursor>,
    ) -> Result<(Vec<ListRow>, Option<Cursor>), RegistryError> {
        let began = Instant::now();
        let (mut rows, mut after) = (Vec::new(), after.cloned());
        let (mut length, mut walked) = (FIRST_STRETCH, 0);
        loop {
            let mut stretch = Stretch {
                ends,
                after: after.as_ref(),
                until: None,
            };
            let until = if self.has_checks() {
                listing::place_after(connection, &self.parts, self.order, stretch, length).await?
            } else {
                None
            };
            stretch.until = until.as_ref();
            let wanted = (self.limit + 1 - rows.len()) as i64;
            rows.extend(listing::walk(connection, &self.parts, self.order, stretch, wanted).await?);
            walked += length;
            let took = began.elapsed();
            if rows.len() > self.limit
                || until.is_none()
                || walked > LONGEST_WALK
                || took >= WALK_TIME
            {
                return Ok((rows, until));
            }
            after = until;
            length = next_length(length, walked, took);
        }
    }

    /// How many there are in all. The first page did not hold them.
    async fn total(
        &self,
        connection: &mut AnyConnection,
        narrowest: Option<Narrowest>,
        shown: usize,
    ) -> Result<ApiKeyTotal, RegistryError> {
        if let (Some(few), [part]) = (narrowest, self.parts.as_slice())
            && match part.is_exact {
                Exact::Always => true,
                Exact::WhileOwnersAreOn => !listing::is_an_owner_off(connection).await?,
                Exact::Never => false,
            }
        {
            return Ok(ApiKeyTotal {
                count: few.count,
                is_estimate: false,
            });
        }
        if let Some(source) = narrowest.and_then(|few| self.source(few)) {
            return Ok(ApiKeyTotal {
                count: listing::count_gathered(connection, &self.parts, source).await?,
                is_estimate: false,
            });
        }
        let seen = listing::count_all(connection, COUNTED + 1).await?;
        let is_search = self.parts.iter().any(|part| part.is_search);
        let sample = if is_search && seen > COUNTED {
            PROBED
        } else {
            COUNTED + 1
        };
        let (seen, found) = if self.parts.is_empty() {
            (seen, seen)
        } else {
            listing::count_sample(connection, &self.parts, sample).await?
        };
        if seen < sample {
            return Ok(ApiKeyTotal {
                count: found,
                is_estimate: false,
            });
        }
        let all = listing::estimate_all(connection).await?.max(seen);
        let share = i128::from(all) * i128::from(found) / i128::from(seen);
        let at_least = (shown as i64).max(found);
        Ok(ApiKeyTotal {
            count: i64::try_from(share).unwrap_or(i64::MAX).max(at_least),
            is_estimate: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_grows_eightfold_or_to_what_there_is_time_for() {
        let ms = Duration::from_millis;
        assert_eq!(next_length(2_000, 2_000, ms(1)), 16_000);
        // 1 ms for each 250 keys, and 52 ms are left.
        assert_eq!(next_length(2_000, 2_000, ms(8)), 13_000);
        assert_eq!(next_length(2_000, 2_000, ms(59)), FIRST_STRETCH);
        assert_eq!(next_length(2_000, 2_000, Duration::ZERO), 16_000);
    }
}
