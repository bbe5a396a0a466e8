//! Rotations of a key, to look at. What is done to them is in [`crate::rotation`].

use keywright_domain::api_keys::Rotation;

use crate::people::page::{self, Page, Position};
use crate::{LocalRegistry, RegistryError, store};

impl LocalRegistry {
    /// One page of the rotations of a key, newest first.
    ///
    /// # Errors
    /// [`RegistryError::Cursor`].
    pub async fn page_rotations(
        &self,
        key_id: &str,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<Rotation>, RegistryError> {
        let (after, limit) = (Position::read(cursor, true)?, page::limit(limit));
        let connection = &mut *self.shared.pool.acquire().await?;
        let place = (after.number, after.id.as_str());
        let found = store::rotations::page_of_key(connection, key_id, place, limit + 1).await?;
        Ok(page::cut(found, limit, |one| {
            Position::of(one.created_at, &one.id)
        }))
    }

    /// A rotation of a key.
    ///
    /// # Errors
    /// [`RegistryError::RotationNotFound`], also for one of another key.
    pub async fn find_rotation(&self, key_id: &str, id: &str) -> Result<Rotation, RegistryError> {
        store::rotations::find(&mut *self.shared.pool.acquire().await?, id)
            .await?
            .filter(|rotation| rotation.key_id == key_id)
            .ok_or(RegistryError::RotationNotFound)
    }
}
