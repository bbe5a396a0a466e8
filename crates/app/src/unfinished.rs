//! What closing the app would cut or lose: changes that are under way, and new secrets that wait.

use std::time::Duration;

use keywright_protocol::closing::UnfinishedView;
use tokio::sync::watch;

use crate::App;
use crate::clock::now_ms;

/// Counts the changes that must not be cut in their middle.
#[derive(Default)]
pub(crate) struct Work(watch::Sender<u32>);

impl Work {
    /// Counts one until what is returned is dropped, however it ends.
    pub(crate) fn begin(&self) -> Running<'_> {
        self.0.send_modify(|count| *count += 1);
        Running(self)
    }

    fn is_under_way(&self) -> bool {
        *self.0.borrow() > 0
    }

    async fn ended(&self) {
        // The sender lives as long as we do: this ends only when nothing is under way.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

/// A change that is under way.
pub(crate) struct Running<'a>(&'a Work);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0
            .0
            .send_modify(|count| *count = count.saturating_sub(1));
    }
}

impl App {
    /// What closing now would cut or lose; none where nothing would be.
    #[must_use]
    pub fn unfinished(&self) -> Option<UnfinishedView> {
        let unfinished = UnfinishedView {
            secrets: self.inner.reveals.untaken(now_ms()),
            working: self.inner.work.is_under_way(),
        };
        (unfinished != UnfinishedView::default()).then_some(unfinished)
    }

    /// Waits until no change is under way, at most so long.
    pub async fn finish_work(&self, at_most: Duration) {
        if tokio::time::timeout(at_most, self.inner.work.ended())
            .await
            .is_err()
        {
            tracing::warn!("the app ends while a change is under way");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_is_under_way_until_it_ends_however_it_does() {
        let work = Work::default();
        let first = work.begin();
        let second = work.begin();
        drop(first);
        assert!(work.is_under_way());
        let soon = Duration::from_millis(20);
        assert!(tokio::time::timeout(soon, work.ended()).await.is_err());
        drop(second);
        assert!(!work.is_under_way());
        assert!(tokio::time::timeout(soon, work.ended()).await.is_ok());
    }
}
