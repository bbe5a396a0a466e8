//! What the use cases of a group are about to ask for, read for all of them at once. It is read
//! after the row of `heads` was locked, so nobody else can change it; what a use case of the same
//! group writes is taken out, and then read again by whoever asks.

use std::collections::HashMap;

use keywright_domain::api_keys::{ApiKey, Rotation};

use super::{Rows, Unit};
use crate::{RegistryError, store};

/// What a use case will ask for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wants {
    /// Owner and creator.
    pub(crate) principals: Vec<String>,
    /// A key to rotate, and the rotation's id.
    pub(crate) rotation: Option<(String, String)>,
}

/// What was read and is still as it was read.
#[derive(Default)]
pub(super) struct Ahead {
    keys: HashMap<String, ApiKey>,
    /// By id; none where there is none.
    rotations: HashMap<String, Option<Rotation>>,
    /// The open one of a key; none where there is none.
    open: HashMap<String, Option<Rotation>>,
}

impl Ahead {
    /// Takes out what these rows change.
    pub(super) fn forget(&mut self, rows: &Rows) {
        for (key, _) in &rows.keys {
            self.keys.remove(&key.id);
            self.open.remove(&key.id);
        }
        for rotation in &rows.rotations {
            self.rotations.remove(&rotation.id);
            self.open.remove(&rotation.key_id);
        }
    }
}

impl Unit {
    /// Reads what several use cases want. One alone reads for itself as it goes.
    pub(super) async fn read_ahead(&mut self, wants: &[&Wants]) -> Result<(), RegistryError> {
        let mut principals: Vec<String> = wants
            .iter()
            .flat_map(|wants| wants.principals.iter().cloned())
            .collect();
        principals.sort_unstable();
        principals.dedup();
        if principals.len() > 1 {
            let found = store::principals::find_all(&mut self.connection, &principals).await?;
            let known = &mut self.known.principals;
            known.extend(principals.into_iter().map(|id| (id, None)));
            known.extend(
                found
                    .into_iter()
                    .map(|found| (found.id.clone(), Some(found))),
            );
        }
        let rotated: Vec<&(String, String)> = wants
            .iter()
            .filter_map(|wants| wants.rotation.as_ref())
            .collect();
        if rotated.len() > 1 {
            self.read_rotations_ahead(&rotated).await?;
        }
        Ok(())
    }

    async fn read_rotations_ahead(
        &mut self,
        rotated: &[&(String, String)],
    ) -> Result<(), RegistryError> {
        let key_ids: Vec<String> = rotated.iter().map(|(key, _)| key.clone()).collect();
        let ids: Vec<String> = rotated.iter().map(|(_, id)| id.clone()).collect();
        let keys = store::api_keys::find_all(&mut self.connection, &key_ids).await?;
        let by_id = store::rotations::find_all(&mut self.connection, &ids).await?;
        let open = store::rotations::find_all_open(&mut self.connection, &key_ids).await?;
        let ahead = &mut self.ahead;
        ahead.rotations = ids.into_iter().map(|id| (id, None)).collect();
        ahead.open = key_ids.into_iter().map(|id| (id, None)).collect();
        ahead
            .keys
            .extend(keys.into_iter().map(|key| (key.id.clone(), key)));
        for rotation in by_id {
            ahead.rotations.insert(rotation.id.clone(), Some(rotation));
        }
        for rotation in open {
            // Newest first: the first of a key is the one.
            let place = ahead.open.entry(rotation.key_id.clone()).or_default();
            if place.is_none() {
                *place = Some(rotation);
            }
        }
        Ok(())
    }

    /// A key.
    pub(crate) async fn key(&mut self, id: &str) -> Result<Option<ApiKey>, RegistryError> {
        if let Some(key) = self.ahead.keys.get(id) {
            return Ok(Some(key.clone()));
        }
        self.settle(id, "").await?;
        store::api_keys::find(&mut self.connection, id).await
    }

    /// A rotation by its id, and the open one of a key where that is another.
    pub(crate) async fn rotations(
        &mut self,
        id: &str,
        key_id: &str,
    ) -> Result<(Option<Rotation>, Option<Rotation>), RegistryError> {
        if let (Some(by_id), Some(open)) =
            (self.ahead.rotations.get(id), self.ahead.open.get(key_id))
        {
            let other = open.clone().filter(|open| open.id != id);
            return Ok((by_id.clone(), other));
        }
        self.settle(key_id, id).await?;
        store::rotations::find_both(&mut self.connection, id, key_id).await
    }
}
