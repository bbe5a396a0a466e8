//! What was ended after a backup was made, by an export of the trail that is newer than the backup.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;

use keywright_domain::audit_chain::EventHash;

use super::{ExportError, ExportEvent, ExportLine, Lines, read_header};

/// Where a trail was parted: its last event in a backup, and the one that says that the backup was put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutBackPoint {
    /// The last event that the backup has.
    pub last: i64,
    /// Its hash: a trail that has it has the same past.
    pub hash: EventHash,
    /// The hash of the event that came next here: a trail that has it went the same way.
    pub next: EventHash,
    /// When it was put back (Unix ms): of what was made here later no older trail speaks.
    pub at: i64,
}

/// What became of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyEnd {
    pub(crate) is_revoked: bool,
    pub(crate) is_disabled: bool,
    /// Secrets that were ended, by kid.
    pub(crate) kids: BTreeSet<String>,
    /// A secret that took the place of all others: its kid.
    pub(crate) only: Option<String>,
    /// A secret of it was used: the end of a key for one use.
    pub(crate) is_used: bool,
}

/// What became of a person, service or team.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OwnerEnd {
    pub(crate) is_without_keys: bool,
    pub(crate) is_disabled: bool,
}

/// What a trail says was ended after a backup, to be ended again where the backup was put back
/// ([`crate::LocalRegistry::end_again`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndedSince {
    /// The last event that the backup has.
    pub after: i64,
    /// The last event of the export that was read.
    pub through: i64,
    /// When the backup was put back (Unix ms).
    pub(crate) put_back_at: i64,
    /// What took something away that only a person can judge or repeat (another password, fewer scopes, a signing key
    /// that was retired): ids by action.
    pub look_at: BTreeMap<String, BTreeSet<String>>,
    pub(crate) keys: BTreeMap<String, KeyEnd>,
    /// Not those who are people.
    pub(crate) owners: BTreeMap<String, OwnerEnd>,
    pub(crate) disabled_users: BTreeSet<String>,
    pub(crate) deleted_users: BTreeSet<String>,
    /// People who were signed out of several sessions at once.
    pub(crate) signed_out: BTreeSet<String>,
    /// Sessions by id, with whose they are.
    pub(crate) sessions: BTreeMap<String, String>,
    pub(crate) clients: BTreeSet<String>,
}

/// Actions that took something away, and that are not done again here.
const LOOK_AT: [&str; 26] = [
    "api_key.changed",
    "api_key.exposed",
    "api_key.promoted",
    "api_key.secret_reissued",
    "client.changed",
    "client.secret_rotated",
    "client.tokens_ended",
    "consent.revoked",
    "identity_provider.changed",
    "policy.set",
    "principal.changed",
    "registration_token.ended",
    "role.defined",
    "role.deleted",
    "scope.removed",
    "signing_key.retired",
    "user.changed",
    "user.identity_unlinked",
    "user.invitation_withdrawn",
    "user.passkey_removed",
    "user.roles_changed",
    "user.second_factor_changed",
    "webhook.changed",
    "webhook.disabled",
    "webhook.removed",
    "webhook.secret_rotated",
];

impl EndedSince {
    /// Reads an export from its beginning. None if it goes on from none of these points: it is another registry's
    /// trail, is older than the backup, begins after it, or is of this registry since it was put back. Verify it
    /// first ([`super::verify_export`]): nothing is verified here. `vouched` is the last event that a signature covers;
    /// what comes behind it anybody may have written, and it is not read.
    ///
    /// # Errors
    /// [`ExportError`] if it cannot be read as an export.
    pub fn read(
        reader: impl BufRead,
        points: &[PutBackPoint],
        vouched: i64,
    ) -> Result<Option<Self>, ExportError> {
        let mut lines = Lines::new(reader);
        read_header(&mut lines)?;
        let mut found: Option<(PutBackPoint, Self)> = None;
        while let Some(line) = lines.next_line()? {
            let ExportLine::Event(event) = line else {
                continue;
            };
            if event.sequence > vouched {
                break;
            }
            let begins =
                |point: &&PutBackPoint| point.last == event.sequence && point.hash == event.hash;
            if let Some(point) = points.iter().find(begins) {
                let since = Self {
                    after: event.sequence,
                    through: event.sequence,
                    put_back_at: point.at,
                    ..Self::default()
                };
                found = Some((*point, since));
            } else if let Some((point, since)) = &mut found {
                if event.sequence == point.last + 1 && event.hash == point.next {
                    found = None;
                } else {
                    since.note(event);
                }
            }
        }
        let since = found.map(|(_, since)| since);
        // One that ends where the backup does knows no more than the backup.
        Ok(since.filter(|since| since.through > since.after))
    }

    fn note(&mut self, event: ExportEvent) {
        self.through = event.sequence;
        let details: Vec<(String, String)> =
            serde_json::from_str(&event.details).unwrap_or_default();
        let detail = |name: &str| {
            let found = details.iter().find(|(own, _)| own == name);
            found.map(|(_, text)| text.clone())
        };
        let id = event.target_id;
        match event.action.as_str() {
            "api_key.revoked" => self.key(id).is_revoked = true,
            "api_key.disabled" => self.key(id).is_disabled = true,
            "api_key.enabled" => self.key(id).is_disabled = false,
            "api_key.secret_first_used" => self.key(id).is_used = true,
            "api_key.secret_revoked" | "api_key.rotation_cancelled" => {
                self.key(id).kids.extend(detail("kid"));
            }
            // In a backup of its overlap the old secret, which came back to stay, is on its way out.
            "api_key.rotation_rolled_back" => {
                self.key(id.clone()).kids.extend(detail("kid"));
                self.look_at.entry(event.action).or_default().insert(id);
            }
            // At most two verify: with the old one all but the new one have ended, also those that a newer rotation
            // cut short, of which no event says so.
            "api_key.rotation_finished" => self.key(id).only = detail("kid"),
            // Without an overlap the old secret ended there and then, and no other event says so.
            "api_key.rotated" => {
                let at_once = detail("overlap_ms").is_some_and(|overlap| overlap == "0");
                if at_once || detail("compromised").is_some() {
                    self.key(id).only = detail("kid");
                }
            }
            "principal.keys_revoked" => self.owner(id).is_without_keys = true,
            "principal.disabled" => self.owner(id).is_disabled = true,
            "principal.enabled" => self.owner(id).is_disabled = false,
            "user.disabled" => {
                self.disabled_users.insert(id);
            }
            // Their sessions ended with the suspension, and stayed so.
            "user.enabled" => {
                let was_here = self.disabled_users.remove(&id).then_some(id);
                self.signed_out.extend(was_here);
            }
            // Sessions ended with it, of which no other event says so; the password itself is for people.
            "user.password_changed" | "user.password_reset" => {
                self.signed_out.insert(id.clone());
                self.look_at.entry(event.action).or_default().insert(id);
            }
            "user.deleted" => {
                self.deleted_users.insert(id);
            }
            "session.all_ended" => {
                self.signed_out.insert(id);
            }
            "session.ended" => {
                if let Some(user) = detail("user") {
                    self.sessions.insert(id, user);
                }
            }
            // One that was made anew under the id of a removed one is not the one that the backup has.
            "client.disabled" | "client.removed" => {
                self.clients.insert(id);
            }
            "client.enabled" => {
                self.clients.remove(&id);
            }
            other if LOOK_AT.contains(&other) => {
                let ids = self.look_at.entry(event.action).or_default();
                ids.insert(id);
            }
            _ => {}
        }
    }

    fn key(&mut self, id: String) -> &mut KeyEnd {
        self.keys.entry(id).or_default()
    }

    fn owner(&mut self, id: String) -> &mut OwnerEnd {
        self.owners.entry(id).or_default()
    }
}
