//! Keys that were imported as hashes: found by their mac, under whichever pepper it is stored.

use keywright_domain::api_keys::{KeyDigest, KeyMac, PresentedForeignKey};
use keywright_index::{KidOfMac, PackedKid};

use super::Match;
use crate::peppers::Peppers;
use crate::store::images;
use crate::{LocalRegistry, RegistryError, freshness};

impl LocalRegistry {
    /// What does not look like ours may be a key that was imported.
    pub(super) async fn match_foreign(
        &self,
        presented: &str,
        peppers: &Peppers,
        now: i64,
    ) -> Result<Option<Match>, RegistryError> {
        if !self.has_foreign_keys() {
            return Ok(None);
        }
        freshness::ensure(&self.shared).await?;
        let Some(foreign) = PresentedForeignKey::parse(presented) else {
            return Ok(None);
        };
        let prefixed = foreign.prefixed.as_ref().map(|token| &token.digest);
        let digests: Vec<&KeyDigest> = std::iter::once(&foreign.whole).chain(prefixed).collect();
        let macs = digests.iter().flat_map(|digest| {
            let under = |pepper: &crate::PepperKey| pepper.pepper.mac(digest);
            peppers.iter().map(under)
        });
        let macs: Vec<KeyMac> = macs.collect();
        let Some(kid) = self.kid_of_foreign(&macs).await? else {
            return Ok(None);
        };
        let Some(packed) = PackedKid::parse(&kid) else {
            return Ok(None);
        };
        let Some(snapshot) = self.snapshot(packed, &kid, now, None).await? else {
            return Ok(None);
        };
        // It may have moved to a newer pepper since it was found: it is compared under the one that it has now.
        let pepper_id = self.shared.index.text(snapshot.pepper);
        let Some(pepper) = pepper_id.and_then(|id| peppers.find(id)) else {
            return Err(RegistryError::PepperMissing);
        };
        let is_it = |digest: &&&KeyDigest| snapshot.mac.matches(&pepper.pepper.mac(digest));
        let Some(digest) = digests.iter().find(is_it) else {
            return Ok(None);
        };
        let current = peppers.current();
        if pepper.id != current.id && snapshot.state.verifies() {
            let mac = current.pepper.mac(digest);
            self.rewrite_mac(&kid, &pepper.id, mac, &current.id);
        }
        Ok(Some(Match {
            kid: packed,
            snapshot,
        }))
    }

    /// The kid that is stored under one of these macs, the first of them that is. Whether memory is fresh is
    /// told when the kid is looked up; only that there is none has to be told here.
    async fn kid_of_foreign(&self, macs: &[KeyMac]) -> Result<Option<String>, RegistryError> {
        // What another node imported a moment ago, or moved to another pepper, is not in memory yet.
        let mut since = (!freshness::is_exact(&self.shared)).then(freshness::moment);
        let mut read = None;
        loop {
            let readings = freshness::readings(&self.shared);
            let found = macs.iter().map(|mac| self.shared.index.kid_of_mac(mac));
            // Any text that is not ours comes here: what memory rules out asks nobody.
            match found.into_iter().find(|one| *one != KidOfMac::Unknown) {
                Some(KidOfMac::Is(kid)) => {
                    return Ok(Some(String::from_utf8_lossy(&kid.text()).into_owned()));
                }
                Some(_) => {
                    let mut connection = self.shared.pool.acquire().await?;
                    return images::of_foreign_macs(&mut connection, macs).await;
                }
                None => {}
            }
            // A secret that moved from one of them to another between two looks was in neither.
            if !freshness::may_answer(&self.shared, readings, read) {
                read = freshness::before_a_look(&self.shared).await?;
                continue;
            }
            let Some(since) = since.take() else {
                return Ok(None);
            };
            freshness::ensure_since(&self.shared, since).await?;
        }
    }
}
