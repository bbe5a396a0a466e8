//! Jobs that one node at a time does now and then. Whoever asks first when a job is due has it; the
//! row of `heads`, which every writer locks, lets only one be first.

use crate::{LocalRegistry, RegistryError, store};

impl LocalRegistry {
    /// Whether this process should do a job now: true for one of all those who ask within `every_ms`
    /// (1 s to 31 days). Asking when it is not due writes nothing.
    ///
    /// A clock that is wrong cannot stop a job for long: a next time further away than `every_ms` is
    /// not believed.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read or written: the job is not done then.
    pub async fn claim_job(
        &self,
        name: &'static str,
        every_ms: i64,
    ) -> Result<bool, RegistryError> {
        let every_ms = every_ms.clamp(1000, 31 * 24 * 60 * 60 * 1000);
        let mut connection = self.shared.pool.acquire().await?;
        let due = store::nodes::job_due(&mut connection, name).await?;
        drop(connection);
        if !is_due(due, self.now(), every_ms) {
            return Ok(false);
        }
        let node = self.node_id().unwrap_or_default().to_owned();
        self.write((name, node, every_ms), |unit, (name, node, every_ms)| {
            Box::pin(async move {
                let now = unit.now();
                if !is_due(
                    store::nodes::job_due(unit.read(), name).await?,
                    now,
                    *every_ms,
                ) {
                    return Ok(false);
                }
                let next_at = now.saturating_add(*every_ms);
                store::nodes::take_job(unit.write(), name, node, now, next_at).await?;
                Ok(true)
            })
        })
        .await
    }
}

fn is_due(next_at: Option<i64>, now: i64, every_ms: i64) -> bool {
    next_at.is_none_or(|at| at <= now || at > now.saturating_add(every_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_due_at_its_time_and_when_that_time_cannot_be_right() {
        assert!(is_due(None, 0, 1000));
        assert!(!is_due(Some(1000), 0, 1000));
        assert!(is_due(Some(1000), 1000, 1000));
        assert!(is_due(Some(5000), 0, 1000), "written by a clock far ahead");
    }
}
