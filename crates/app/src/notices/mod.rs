//! Notices: the list of what the registry in use tells its people, what they have read, and the watch that
//! tells a face of what is new, each once.

mod words;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use keywright_protocol::notices::{
    NoticeKind, NoticeListRequest, NoticePageView, NoticeView, UnreadNoticesView,
};
use keywright_registry::{BoardKind, BoardNotice, BoardQuery};

use crate::remote::AnyRegistry;
use crate::{App, AppError, Inner};

/// How often it is looked for something new.
const LOOK_EVERY: Duration = Duration::from_secs(60);
const LOOKS_A_DAY: u64 = 24 * 60;
/// What has been on this device's board for so long goes, as a server's does.
const KEPT_DAYS: u32 = 400;
/// The window comes first.
const FIRST_LOOK: Duration = Duration::from_secs(3);
/// The registry of this device, among those whose notices were told.
const THIS_DEVICE: &str = "device";
/// So many are looked at for what is new.
const LOOKED_AT: u32 = 50;

/// Something new, for a system's notification: sentences without a secret, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Whether it is of the registry in use, whose list and number a window shows.
    pub in_use: bool,
    /// How many.
    pub count: usize,
    /// The first of them.
    pub sentences: Vec<String>,
}

/// More are not said.
const MOST_SAID: usize = 3;

impl App {
    /// One page of the notices of the registry in use, newest first.
    ///
    /// # Errors
    /// [`AppError::Registry`].
    pub async fn list_notices(
        &self,
        request: NoticeListRequest,
    ) -> Result<NoticePageView, AppError> {
        let registry = self.keys().await?;
        let query = BoardQuery {
            unread_only: request.unread_only,
            cursor: request.cursor,
            limit: request.limit.clamp(1, 100),
        };
        let known = registry.list_notices(&query).await?;
        let (page, unread) = known.value;
        Ok(NoticePageView {
            items: page.items.into_iter().map(view).collect(),
            next_cursor: page.next_cursor,
            unread,
            stale_since: known.as_of,
        })
    }

    /// Marks one as read.
    ///
    /// # Errors
    /// [`AppError::Registry`]; `notice_not_found` of a server that has newer news of the same matter.
    pub async fn mark_notice_read(&self, id: i64) -> Result<UnreadNoticesView, AppError> {
        let registry = self.keys().await?;
        let unread = registry.mark_notice_read(id).await?;
        Ok(self.left(&registry, unread))
    }

    /// Marks everything up to one as read: the newest that was looked at.
    ///
    /// # Errors
    /// [`AppError::Registry`].
    pub async fn mark_notices_read_until(&self, id: i64) -> Result<UnreadNoticesView, AppError> {
        let registry = self.keys().await?;
        let unread = registry.mark_notices_read_until(id).await?;
        Ok(self.left(&registry, unread))
    }

    /// So many are left, and the face knows it: the next look finds nothing new in that.
    fn left(&self, registry: &AnyRegistry, unread: i64) -> UnreadNoticesView {
        let name = registry.account_id();
        let name = name.as_deref().unwrap_or(THIS_DEVICE);
        self.inner.noted_unread(name, unread, false);
        UnreadNoticesView { unread }
    }

    /// Looks for something new, again and again, until the app ends.
    pub(crate) fn watch_notices(&self) {
        let inner = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            tokio::time::sleep(FIRST_LOOK).await;
            for look in 0_u64.. {
                let Some(inner) = inner.upgrade() else { return };
                let app = Self { inner };
                if look.is_multiple_of(LOOKS_A_DAY)
                    && let Err(error) = app.forget_old_notices().await
                {
                    tracing::debug!(code = error.code(), "old notices stay for a day");
                }
                if let Err(error) = app.look_for_notices().await {
                    tracing::debug!(code = error.code(), "notices wait for the next look");
                }
                drop(app);
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
    }

    /// One look: puts up what time brought to this device's registry, and tells what is new there and in
    /// the registry in use.
    ///
    /// # Errors
    /// [`AppError`] of whatever could not be asked.
    pub(crate) async fn look_for_notices(&self) -> Result<(), AppError> {
        // What fails of the one is no reason not to look at the other.
        let on_device = self.look_at_this_device().await;
        let in_use = self.keys().await?;
        if let AnyRegistry::Server(remote) = &in_use
            // Nobody is signed in anew for this.
            && remote.credentials().is_held()
            && let Some(account_id) = in_use.account_id()
        {
            self.tell_what_is_new(&in_use, &account_id).await?;
        }
        on_device
    }

    async fn forget_old_notices(&self) -> Result<(), AppError> {
        if let AnyRegistry::Device(registry) = &self.keys_of(None).await? {
            registry.purge_notices(KEPT_DAYS).await?;
        }
        Ok(())
    }

    async fn look_at_this_device(&self) -> Result<(), AppError> {
        let device = self.keys_of(None).await?;
        if let AnyRegistry::Device(registry) = &device {
            registry.post_notices().await?;
        }
        self.tell_what_is_new(&device, THIS_DEVICE).await
    }

    async fn tell_what_is_new(&self, registry: &AnyRegistry, name: &str) -> Result<(), AppError> {
        let query = BoardQuery {
            unread_only: true,
            limit: LOOKED_AT,
            ..BoardQuery::default()
        };
        let known = registry.list_notices(&query).await?;
        if known.as_of.is_some() {
            return Ok(());
        }
        // Kept on this device, whichever registry it is: nobody is told again after the next start.
        let kept = self.inner.registry.get().await?;
        let told_until = kept.told_until(name).await?;
        let (page, unread) = known.value;
        let new: Vec<_> = page
            .items
            .iter()
            .filter(|notice| notice.sequence > told_until)
            .collect();
        if let Some(newest) = new.iter().map(|notice| notice.sequence).max() {
            // Before it is told: rather not at all than each minute.
            kept.note_told(name, newest).await?;
            let in_use = self.inner.settings.current().registry_account;
            self.inner.events.notices_arrived(&Arrived {
                in_use: in_use == registry.account_id(),
                count: new.len(),
                sentences: new
                    .iter()
                    .take(MOST_SAID)
                    .map(|notice| words::sentence(notice))
                    .collect(),
            });
        }
        if self.inner.noted_unread(name, unread, !new.is_empty()) {
            self.inner.events.notices_changed();
        }
        Ok(())
    }
}

impl Inner {
    /// Whether a face should list again: there is something new, or another number is unread.
    fn noted_unread(&self, name: &str, unread: i64, is_new: bool) -> bool {
        let mut known = self
            .unread
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        known.insert(name.to_owned(), unread) != Some(unread) || is_new
    }
}

fn view(notice: BoardNotice) -> NoticeView {
    // An urgency is told by the due moment: what is foreign text goes to the window, and nothing else.
    let detail = match notice.kind {
        BoardKind::KeyExpiring | BoardKind::RotationDue => String::new(),
        _ => notice.detail,
    };
    NoticeView {
        id: notice.sequence,
        kind: kind(notice.kind),
        at: notice.at,
        key_id: notice.key_id,
        name: notice.name,
        kid: notice.kid,
        due_at: notice.due_at,
        count: notice.count,
        detail,
        settled: notice.settled,
        read: notice.read,
    }
}

fn kind(kind: BoardKind) -> NoticeKind {
    match kind {
        BoardKind::KeyExpiring => NoticeKind::KeyExpiring,
        BoardKind::RotationDue => NoticeKind::RotationDue,
        BoardKind::RotationPending => NoticeKind::RotationPending,
        BoardKind::OverlapClosing => NoticeKind::OverlapClosing,
        BoardKind::DeliveryFailed => NoticeKind::DeliveryFailed,
        BoardKind::KeyExposed => NoticeKind::KeyExposed,
        BoardKind::KeyReported => NoticeKind::KeyReported,
        BoardKind::RetiredSecretUsed => NoticeKind::RetiredSecretUsed,
        BoardKind::CanaryUsed => NoticeKind::CanaryUsed,
        BoardKind::HygieneAsked => NoticeKind::HygieneAsked,
        BoardKind::WebhookDisabled => NoticeKind::WebhookDisabled,
        BoardKind::OwnerKeysRevoked => NoticeKind::OwnerKeysRevoked,
    }
}
