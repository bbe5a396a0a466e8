//! Reading keys of a registry on a server.

use std::borrow::Cow;

use keywright_domain::api_keys::lifecycle::KnownScope;
use keywright_domain::api_keys::{ApiKey, Rotation, find_keys};
use keywright_registry::{
    ApiKeyCounts, ApiKeyOrder, ApiKeyPage, ApiKeyQuery, ApiKeyTotal, AuditEvent, RegistryError,
    StateFilter,
};

use super::call::{Call, Credentials};
use super::error::is_offline;
use super::wire::{Counts, EventBody, Items, KeyBody, KeyPage, KeyRow, RotationBody, ScopeBody};
use super::{Known, RemoteRegistry};
use crate::AppError;

/// Nothing that is searched is longer, and no server takes a longer address.
const LONGEST_TEXT: usize = 2_000;
/// Keys of the page that a window asks for first.
const USUAL_PAGE: u32 = 100;

impl<C: Credentials> RemoteRegistry<C> {
    /// One page of keys.
    ///
    /// # Errors
    /// As the registry of this device; [`super::RemoteError`].
    pub async fn list_api_keys(&self, query: &ApiKeyQuery) -> Result<Known<ApiKeyPage>, AppError> {
        // On the wire an empty cursor is none.
        if query.cursor.as_deref() == Some("") {
            return Err(RegistryError::Cursor.into());
        }
        if query.filter.text.len() > LONGEST_TEXT {
            return Ok(Known::fresh(nothing(query)));
        }
        let is_first = query.cursor.is_none();
        let call = Call::get(&["keys"]).query(parameters(query));
        // Of a long list the first page is kept, and of the others what is needed to revoke: they would push out
        // everything else.
        let call = if is_first { call } else { call.once() };
        let generation = self.kept.generation();
        let page: Known<KeyPage> = match self.read(call).await {
            Err(error) if is_first && is_offline(&error) => self.first_page(query).ok_or(error)?,
            page => page?,
        };
        let total = page.value.total.filter(|_| is_first);
        let items = page.value.items.into_iter().map(KeyRow::read);
        let items: Option<Vec<_>> = items.collect();
        let items = items.ok_or_else(|| self.not_keywright())?;
        if page.as_of.is_none() {
            let seen = items.iter().cloned().map(crate::api_keys::summary_view);
            self.kept.see(generation, seen);
        }
        Ok(Known {
            value: ApiKeyPage {
                items,
                next_cursor: page.value.next_cursor,
                total: total.map(|count| ApiKeyTotal {
                    count,
                    is_estimate: page.value.total_is_estimate,
                }),
            },
            as_of: page.as_of,
        })
    }

    /// The first page as it was answered last to the same question, whatever its length: a list that was scrolled is
    /// asked for with longer pages.
    fn first_page(&self, query: &ApiKeyQuery) -> Option<Known<KeyPage>> {
        let query = ApiKeyQuery {
            limit: USUAL_PAGE,
            ..query.clone()
        };
        self.recall(&Call::get(&["keys"]).query(parameters(&query)))
    }

    /// Counts by state: of everybody's keys, or of one's own.
    ///
    /// # Errors
    /// [`super::RemoteError`].
    pub async fn count_api_keys(&self) -> Result<Known<ApiKeyCounts>, AppError> {
        let counts: Known<Counts> = self.read(Call::get(&["keys", "counts"])).await?;
        Ok(counts.with(ApiKeyCounts::from))
    }

    /// A key with its secrets.
    ///
    /// # Errors
    /// `key_not_found`, also for a key that this person may not see; [`super::RemoteError`].
    pub async fn find_api_key(&self, id: &str) -> Result<Known<ApiKey>, AppError> {
        let body: Known<KeyBody> = self.read(Call::get(&["keys", id])).await?;
        Ok(Known {
            value: self.key(body.value)?,
            as_of: body.as_of,
        })
    }

    /// The latest rotations of a key, newest first.
    ///
    /// # Errors
    /// As [`Self::find_api_key`].
    pub async fn list_rotations(&self, key_id: &str) -> Result<Known<Vec<Rotation>>, AppError> {
        let path = ["keys", key_id, "rotations"];
        let list: Known<Items<RotationBody>> = self.read(Call::get(&path)).await?;
        let rotations: Option<Vec<_>> = list
            .value
            .items
            .into_iter()
            .map(RotationBody::read)
            .collect();
        Ok(Known {
            value: rotations.ok_or_else(|| self.not_keywright())?,
            as_of: list.as_of,
        })
    }

    /// The latest 100 events of a key, newest first.
    ///
    /// # Errors
    /// [`super::RemoteError`]: who may see keys need not be allowed to see the audit trail.
    pub async fn list_events(&self, key_id: &str) -> Result<Known<Vec<AuditEvent>>, AppError> {
        let query = vec![("target", key_id.to_owned()), ("limit", "100".to_owned())];
        let call = Call::get(&["audit"]).query(query);
        let list: Known<Items<EventBody>> = self.read(call).await?;
        Ok(list.with(|list| list.items.into_iter().map(AuditEvent::from).collect()))
    }

    /// The catalogue of scopes.
    ///
    /// # Errors
    /// [`super::RemoteError`].
    pub async fn list_scopes(&self) -> Result<Known<Vec<KnownScope>>, AppError> {
        let list: Known<Items<ScopeBody>> = self.read(Call::get(&["scopes"])).await?;
        let scopes: Option<Vec<_>> = list.value.items.into_iter().map(ScopeBody::read).collect();
        Ok(Known {
            value: scopes.ok_or_else(|| self.not_keywright())?,
            as_of: list.as_of,
        })
    }

    /// A key as some list or page showed it last; asks nobody.
    pub(crate) fn last_known(&self, id: &str) -> Option<keywright_protocol::api_keys::ApiKeyView> {
        let name = format!("/keys/{id}");
        for text in self.kept.recall_all(&name) {
            if let Ok(body) = serde_json::from_str::<KeyBody>(&text)
                && let Some(key) = body.read().filter(|key| key.id == id)
            {
                return Some(crate::api_keys::key_view(&key, crate::clock::now_ms()));
            }
        }
        for text in self.kept.recall_all("/keys?") {
            let Ok(page) = serde_json::from_str::<KeyPage>(&text) else {
                continue;
            };
            let mut rows = page.items.into_iter().filter_map(KeyRow::read);
            if let Some(row) = rows.find(|row| row.id == id) {
                return Some(crate::api_keys::summary_view(row));
            }
        }
        self.kept.seen(id)
    }

    pub(super) fn key(&self, body: KeyBody) -> Result<ApiKey, AppError> {
        body.read().ok_or_else(|| self.not_keywright())
    }
}

fn nothing(query: &ApiKeyQuery) -> ApiKeyPage {
    ApiKeyPage {
        items: Vec::new(),
        next_cursor: None,
        total: query.cursor.is_none().then_some(ApiKeyTotal {
            count: 0,
            is_estimate: false,
        }),
    }
}

fn parameters(query: &ApiKeyQuery) -> Vec<(&'static str, String)> {
    let filter = &query.filter;
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let number = |at: Option<i64>| at.map(|at| at.to_string());
    let all = [
        ("text", text(&searched(&filter.text))),
        ("state", text(state(filter.state))),
        ("owner", filter.owner.clone()),
        ("prefix", filter.prefix.clone()),
        (
            "scope",
            filter.scope.as_ref().map(|one| one.as_str().to_owned()),
        ),
        (
            "environment",
            filter.environment.as_ref().map(ToString::to_string),
        ),
        ("expires_before", number(filter.expires_before)),
        ("unused_since", number(filter.unused_since)),
        ("created_from", number(filter.created_from)),
        ("created_until", number(filter.created_until)),
        ("tag", filter.tag.clone()),
        ("order", text(order(query.order))),
        ("cursor", query.cursor.clone()),
        ("limit", Some(query.limit.clamp(1, 500).to_string())),
    ];
    all.into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// What is looked for, without a secret: addresses stand in logs, and a server refuses a key in one and flags it
/// (AC-124). A pasted key is found by its public id.
fn searched(text: &str) -> Cow<'_, str> {
    match find_keys(text).next() {
        Some(found) => Cow::Owned(found.kid.as_str().to_owned()),
        None => Cow::Borrowed(text),
    }
}

fn state(filter: StateFilter) -> &'static str {
    match filter {
        StateFilter::All => "all",
        StateFilter::Live => "live",
        StateFilter::Rotating => "rotating",
        StateFilter::Expiring => "expiring",
        StateFilter::Expired => "expired",
        StateFilter::Disabled => "disabled",
        StateFilter::Revoked => "revoked",
        StateFilter::Pending => "pending",
        StateFilter::NeverUsed => "never_used",
    }
}

fn order(order: ApiKeyOrder) -> &'static str {
    match order {
        ApiKeyOrder::CreatedDesc => "created_desc",
        ApiKeyOrder::CreatedAsc => "created_asc",
        ApiKeyOrder::NameAsc => "name_asc",
        ApiKeyOrder::NameDesc => "name_desc",
        ApiKeyOrder::ExpiresAsc => "expires_asc",
        ApiKeyOrder::ExpiresDesc => "expires_desc",
        ApiKeyOrder::LastUsedDesc => "last_used_desc",
        ApiKeyOrder::LastUsedAsc => "last_used_asc",
    }
}

#[cfg(test)]
mod tests {
    use keywright_domain::api_keys::{PlainKey, Prefix};
    use keywright_registry::ApiKeyFilter;

    use super::*;

    #[test]
    fn ac_124_a_key_that_is_searched_for_gets_into_no_address() {
        let prefix = Prefix::new("sk_live").expect("a prefix");
        let key = PlainKey::generate(&prefix, &mut rand::rng());
        let secret = key.text().expose();
        for (text, sent) in [
            (secret.to_owned(), key.kid().as_str()),
            (format!(" KEY={secret}\n"), key.kid().as_str()),
            ("billing".to_owned(), "billing"),
        ] {
            let query = ApiKeyQuery {
                filter: ApiKeyFilter {
                    text,
                    ..ApiKeyFilter::default()
                },
                ..ApiKeyQuery::default()
            };
            let parameters = parameters(&query);
            assert!(
                parameters.contains(&("text", sent.to_owned())),
                "{parameters:?}"
            );
        }
    }
}
