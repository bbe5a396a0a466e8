//! The notice board: what the owners of keys and those who answer for everything are told, as a list that
//! they can look at. News are put up in the transaction of what they tell of; what time brings is put up by
//! [`LocalRegistry::post_notices`]. The same news go out by mail and webhooks; nothing secret is in them.

use keywright_domain::audit::AuditAction;

use crate::people::page::{self, Page, Position};
use crate::store::audit::NewEvent;
use crate::store::board::Post;
use crate::writer::Unit;
use crate::{LocalRegistry, OverlapWarning, RegistryError, store};

/// An overlap that ends within this time, with an old secret in use, is put up (AC-139).
const BEFORE_CLOSE_MS: i64 = 60 * 60 * 1000;
/// Overlaps that are put up in one transaction.
const TOGETHER: usize = 100;
/// More unread ones are not counted.
const MOST_COUNTED: i64 = 100;

/// What happened or will: the words by which webhooks and mails tell the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BoardKind {
    /// The newest secret of a key expires. `detail`: how urgent it is.
    KeyExpiring,
    /// A rotation is due. `detail`: how urgent it is.
    RotationDue,
    /// A schedule made a secret that waits to be taken.
    RotationPending,
    /// An overlap ends while somebody uses the old secret. `count`: how many callers.
    OverlapClosing,
    /// A new secret did not reach its place. `detail`: why.
    DeliveryFailed,
    /// A key was found where none belongs. `detail`: where, as whoever found it says.
    KeyExposed,
    /// Somebody says so, and showed no whole key.
    KeyReported,
    /// A secret was used after its end. `detail`: by whom; `count`: how often.
    RetiredSecretUsed,
    /// A canary key was used. `detail`: by whom; `count`: how often.
    CanaryUsed,
    /// An owner is asked to keep or to retire keys. `count`: how many.
    HygieneAsked,
    /// A webhook was switched off.
    WebhookDisabled,
    /// All keys of somebody were revoked.
    OwnerKeysRevoked,
}

impl BoardKind {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::KeyExpiring,
        Self::RotationDue,
        Self::RotationPending,
        Self::OverlapClosing,
        Self::DeliveryFailed,
        Self::KeyExposed,
        Self::KeyReported,
        Self::RetiredSecretUsed,
        Self::CanaryUsed,
        Self::HygieneAsked,
        Self::WebhookDisabled,
        Self::OwnerKeysRevoked,
    ];

    /// Stable text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::KeyExpiring => "key.expiring",
            Self::RotationDue => "rotation.due",
            Self::RotationPending => "rotation.pending",
            Self::OverlapClosing => "overlap.closing",
            Self::DeliveryFailed => "delivery.failed",
            Self::KeyExposed => "key.exposed",
            Self::KeyReported => "key.reported",
            Self::RetiredSecretUsed => "secret.retired_used",
            Self::CanaryUsed => "canary.used",
            Self::HygieneAsked => "hygiene.asked",
            Self::WebhookDisabled => "webhook.disabled",
            Self::OwnerKeysRevoked => "owner.keys_revoked",
        }
    }

    /// Reads the stable text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// What of the audit trail is put up.
    fn of_audit(action: AuditAction) -> Option<Self> {
        Some(match action {
            AuditAction::DeliveryFailed => Self::DeliveryFailed,
            AuditAction::ApiKeyExposed => Self::KeyExposed,
            AuditAction::ApiKeyReported => Self::KeyReported,
            AuditAction::WebhookDisabled => Self::WebhookDisabled,
            AuditAction::PrincipalKeysRevoked => Self::OwnerKeysRevoked,
            _ => return None,
        })
    }
}

/// Something on the board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoardNotice {
    /// Its number: news of the same matter have a later one.
    pub sequence: i64,
    /// What.
    pub kind: BoardKind,
    /// When it was put up (Unix ms).
    pub at: i64,
    /// The key that it is about.
    pub key_id: Option<String>,
    /// Its name now, or that of what is no key.
    pub name: String,
    /// The secret that it is about.
    pub kid: Option<String>,
    /// When something ends or is due (Unix ms).
    pub due_at: Option<i64>,
    /// How many or how often, by the kind; 0 where nothing is counted.
    pub count: i64,
    /// More, by the kind; partly foreign text.
    pub detail: String,
    /// Nothing is left to do about it.
    pub settled: bool,
    /// Whether whoever looks has read it.
    pub read: bool,
}

/// Who looks at the board.
#[derive(Clone, Debug)]
pub struct BoardReader {
    /// By which name what they have read is kept.
    pub id: String,
    /// The owner whose news they see; none for everything.
    pub owner: Option<String>,
}

impl BoardReader {
    /// The person at this device, who sees everything in its registry.
    #[must_use]
    pub fn of_this_device() -> Self {
        Self {
            id: crate::LOCAL_PRINCIPAL.to_owned(),
            owner: None,
        }
    }
}

/// A page of the board is asked for.
#[derive(Clone, Debug, Default)]
pub struct BoardQuery {
    /// Only what is neither read nor settled.
    pub unread_only: bool,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// 1 to 500.
    pub limit: u32,
}

impl LocalRegistry {
    /// Puts up what time brings: what is due or expires, and overlaps that end while somebody uses the old
    /// secret. Each once, whoever calls how often. [`LocalRegistry::due_notices`] sends the first two.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read or written.
    pub async fn post_notices(&self) -> Result<(), RegistryError> {
        self.make_notices().await?;
        let mut last: Option<OverlapWarning> = None;
        loop {
            let closing = self
                .overlaps_before_close(BEFORE_CLOSE_MS, last.as_ref())
                .await?;
            last = closing.last().cloned();
            if last.is_none() {
                return Ok(());
            }
            // However many end together, others write in between.
            for part in closing.chunks(TOGETHER) {
                self.post_overlaps(part).await?;
            }
        }
    }

    async fn post_overlaps(&self, closing: &[OverlapWarning]) -> Result<(), RegistryError> {
        // Looked at before the lock is taken: nearly always they are all there.
        let posts: Vec<_> = closing.iter().map(post_of_overlap).collect();
        let mut connection = self.shared.pool.acquire().await?;
        let up = store::board::which_are_up(&mut connection, &posts).await?;
        drop(connection);
        let mut new: Vec<_> = (closing.iter().zip(&posts))
            .filter(|(_, post)| !up.contains(&post.event_id))
            .map(|(one, _)| one.clone())
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        self.find_late_callers(&mut new).await?;
        let posts: Vec<_> = new.iter().map(post_of_overlap).collect();
        self.write(posts, |unit, posts| {
            Box::pin(async move {
                let now = unit.now();
                for post in posts {
                    store::board::put_up(unit.write_beside(), post, now).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// One page of the board, newest first.
    ///
    /// # Errors
    /// [`RegistryError::Cursor`] for a cursor of another list.
    pub async fn list_board(
        &self,
        reader: &BoardReader,
        query: &BoardQuery,
    ) -> Result<Page<BoardNotice>, RegistryError> {
        let before = Position::read(query.cursor.as_deref(), true)?.number;
        let limit = page::limit(query.limit);
        self.flush_before_telling().await;
        let now = self.now();
        let mut connection = self.shared.pool.acquire().await?;
        let place = (before, limit + 1);
        let found =
            store::board::list(&mut connection, reader, query.unread_only, place, now).await?;
        Ok(page::cut(found, limit, |one| {
            Position::of(one.sequence, "")
        }))
    }

    /// How many are neither read nor settled; 100 for as many and more.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn count_unread_notices(&self, reader: &BoardReader) -> Result<i64, RegistryError> {
        self.flush_before_telling().await;
        let now = self.now();
        let mut connection = self.shared.pool.acquire().await?;
        store::board::count_unread(&mut connection, reader, MOST_COUNTED, now).await
    }

    /// The number of the newest that was ever put up; 0 for none.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn newest_notice(&self) -> Result<i64, RegistryError> {
        store::board::newest(&mut *self.shared.pool.acquire().await?).await
    }

    /// Marks one as read. Returns whether there is one that this reader sees; news of the same matter since
    /// then are not taken for read.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written.
    pub async fn mark_notice_read(
        &self,
        reader: &BoardReader,
        sequence: i64,
    ) -> Result<bool, RegistryError> {
        self.write((reader.clone(), sequence), |unit, (reader, sequence)| {
            Box::pin(async move {
                if !store::board::is_for(unit.read(), reader, *sequence).await? {
                    return Ok(false);
                }
                let (until, sequence) = (
                    store::board::read_until(unit.read(), &reader.id).await?,
                    *sequence,
                );
                if sequence > until {
                    store::board::mark_read(unit.write_beside(), &reader.id, sequence).await?;
                }
                Ok(true)
            })
        })
        .await
    }

    /// Marks everything up to a number as read, by whoever looked at it. Returns up to which it is now.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written.
    pub async fn mark_notices_read_until(
        &self,
        reader: &BoardReader,
        sequence: i64,
    ) -> Result<i64, RegistryError> {
        self.write((reader.id.clone(), sequence), |unit, (reader, sequence)| {
            Box::pin(async move {
                // What is not there yet was not looked at.
                let until = (*sequence).min(store::board::newest(unit.read()).await?);
                let before = store::board::read_until(unit.read(), reader).await?;
                if until <= before {
                    return Ok(before);
                }
                store::board::set_read_until(unit.write_beside(), reader, until).await?;
                Ok(until)
            })
        })
        .await
    }

    /// Up to which number a reader marked everything as read; 0 for nothing.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn read_until(&self, reader: &BoardReader) -> Result<i64, RegistryError> {
        store::board::read_until(&mut *self.shared.pool.acquire().await?, &reader.id).await
    }
}

impl LocalRegistry {
    /// Up to which number somebody was told of what a board has: of this one or, by whoever looks at another
    /// from here, of that. 0 for nothing. `name` is nobody's who reads here.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn told_until(&self, name: &str) -> Result<i64, RegistryError> {
        let name = format!("told {name}");
        store::board::read_until(&mut *self.shared.pool.acquire().await?, &name).await
    }

    /// Writes that down, if it is further than before.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written.
    pub async fn note_told(&self, name: &str, until: i64) -> Result<(), RegistryError> {
        let input = (format!("told {name}"), until);
        self.write(input, |unit, (name, until)| {
            Box::pin(async move {
                if store::board::read_until(unit.read(), name).await? >= *until {
                    return Ok(());
                }
                store::board::set_read_until(unit.write_beside(), name, *until).await
            })
        })
        .await
    }
}

/// A schedule made a secret that waits to be taken.
pub(crate) async fn pending(unit: &mut Unit, key_id: &str, kid: &str) -> Result<(), RegistryError> {
    let now = unit.now();
    let post = Post {
        matter: format!("pending {key_id}"),
        event_id: format!("pnd_{kid}"),
        key_id: Some(key_id.to_owned()),
        kid: kid.to_owned(),
        ..Post::new(BoardKind::RotationPending)
    };
    store::board::put_up(unit.write_beside(), &post, now).await
}

/// Questions of a campaign to one owner.
pub(crate) async fn asked(
    unit: &mut Unit,
    campaign_id: &str,
    key_ids: &[String],
) -> Result<(), RegistryError> {
    let now = unit.now();
    let Some(first) = key_ids.first() else {
        return Ok(());
    };
    let Some(campaign) = store::campaigns::find(unit.read(), campaign_id).await? else {
        return Ok(());
    };
    let post = Post {
        matter: format!("hygiene {campaign_id} {first}"),
        event_id: format!("hyg_{campaign_id}_{first}"),
        key_id: Some(first.clone()),
        due_at: Some(campaign.answers_until(now)),
        count: i64::try_from(key_ids.len()).unwrap_or(i64::MAX),
        detail: campaign.name,
        ..Post::new(BoardKind::HygieneAsked)
    };
    store::board::put_up(unit.write_beside(), &post, now).await
}

fn post_of_overlap(warning: &OverlapWarning) -> Post {
    Post {
        matter: format!("overlap {}", warning.old_kid),
        event_id: format!("ovl_{}_{}", warning.old_kid, warning.closes_at),
        key_id: Some(warning.key_id.clone()),
        kid: warning.old_kid.clone(),
        due_at: Some(warning.closes_at),
        count: i64::try_from(warning.callers.len()).unwrap_or(i64::MAX),
        ..Post::new(BoardKind::OverlapClosing)
    }
}

/// What an event of the trail puts up, if anything. `sequence`: its own.
pub(crate) fn of_event(event: &NewEvent, sequence: i64, now: i64) -> Option<Post> {
    let kind = BoardKind::of_audit(event.action)?;
    let of = |name: &str| {
        let mut details = event.details.iter();
        let found = details.find(|(known, _)| *known == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let is_key = event.target_kind == "api_key";
    Some(Post {
        matter: format!("{} {}", kind.as_str(), event.target_id),
        event_id: format!("evt_{sequence}_{now}"),
        key_id: is_key.then(|| event.target_id.clone()),
        name: event.target_name.clone(),
        detail: match kind {
            BoardKind::DeliveryFailed => of("error"),
            BoardKind::KeyExposed | BoardKind::KeyReported => of("reason"),
            _ => String::new(),
        },
        kid: of("kid"),
        ..Post::new(kind)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_stable_texts() {
        for kind in BoardKind::ALL {
            assert_eq!(BoardKind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(BoardKind::parse("key.issued"), None);
    }
}
