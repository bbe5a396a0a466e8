//! What a schedule made may come to nothing: nobody took the new secret, or it could not be delivered. Then the old one
//! ages on, and the schedule is set again in the transaction that ends the rotation.

use keywright_domain::api_keys::{ApiKey, DAY_MS, Rotation};

use super::{notices, secret_created_at};
use crate::writer::Unit;
use crate::{RegistryError, store};

/// What could not be delivered is made anew after this time at the earliest.
const LEAST_WAIT_MS: i64 = 60 * 60 * 1000;

/// How a rotation came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undone<'a> {
    /// Nobody used the new secret in time.
    TimedOut,
    /// Somebody cancelled it.
    ByHand,
    /// It could not be given where it is needed, for this reason.
    NotDelivered(&'a str),
}

/// Sets the schedule again whose rotation this was, unless somebody set it since. A delivery is tried again within
/// the hour, and less often the longer it fails; otherwise the secret's maximum age counts, as if it had not been
/// rotated: it was not.
pub(crate) async fn set_again(
    unit: &mut Unit,
    key: &ApiKey,
    rotation: &Rotation,
    how: Undone<'_>,
) -> Result<(), RegistryError> {
    let now = unit.now();
    let Some(schedule) = store::schedules::find(unit.read(), &key.id).await? else {
        return Ok(());
    };
    let was_due = rotation.id.strip_prefix(schedule.id.as_str());
    let was_due = was_due.and_then(|rest| rest.strip_prefix('-')?.parse::<i64>().ok());
    let Some(was_due) = was_due else {
        return Ok(());
    };
    if schedule.paused_at.is_some() || schedule.changed_at > rotation.created_at {
        return Ok(());
    }
    // A rotation has the name of its due moment: another one is another rotation.
    let another = was_due.saturating_add(1);
    let limit = schedule.first_due(now, secret_created_at(key, now));
    let (due_at, again) = match how {
        Undone::NotDelivered(error) => {
            let wait = now.saturating_sub(was_due) / 2;
            let retry_at = now.saturating_add(wait.clamp(LEAST_WAIT_MS, DAY_MS));
            (another, Some((format!("not delivered: {error}"), retry_at)))
        }
        // Not at once: that is what they did not want.
        Undone::ByHand if limit <= now => {
            let why = "the rotation was cancelled, and the secret is too old".to_owned();
            (limit.max(another), Some((why, now.saturating_add(DAY_MS))))
        }
        Undone::ByHand | Undone::TimedOut => (limit.max(another), None),
    };
    if due_at >= schedule.next_due_at {
        return Ok(());
    }
    let moved = (schedule.id.as_str(), schedule.next_due_at);
    store::schedules::claim(unit.write(), moved.0, moved.1, due_at).await?;
    if due_at == another {
        // It is the same due moment by another name: who was told of it is not told again.
        store::notices::move_due(unit.write(), &key.id, (was_due, due_at), now).await?;
    }
    if let Some((why, retry_at)) = again {
        let why = notices::short(&why);
        store::schedules::refuse(unit.write(), moved.0, &why, retry_at).await?;
    }
    Ok(())
}
