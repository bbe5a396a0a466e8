//! Who is told that a session is over (OpenID Connect Back-Channel Logout). The messages are written with
//! what ended it: whoever stops in between forgets nobody.

use serde::{Deserialize, Serialize};

use crate::outbox::{Channel, NewMessage};
use crate::writer::Unit;
use crate::{RegistryError, store};

/// What is told, as the message holds it: the token is made anew for each try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logout {
    /// Whose session.
    pub user_id: String,
    /// Which.
    pub session_id: String,
}

/// Sessions ended: every client of theirs that has an address for it is told, each once. Returns how many
/// messages there are.
pub(super) async fn of_sessions(
    unit: &mut Unit,
    user_id: &str,
    sessions: &[String],
) -> Result<usize, RegistryError> {
    let told = store::people::sessions::list_logouts(unit.read(), sessions).await?;
    let count = told.len();
    for (session_id, client_id) in told {
        let event_id = format!("logout_{session_id}");
        enqueue(unit, event_id, user_id, session_id, client_id).await?;
    }
    Ok(count)
}

/// A client lost what a user allowed it: it is told for each session that it was in, and is in none of them
/// any more.
pub(super) async fn of_client(
    unit: &mut Unit,
    user_id: &str,
    client_id: &str,
) -> Result<usize, RegistryError> {
    let sessions = store::people::sessions::list_of_client(unit.read(), user_id, client_id).await?;
    let mut count = 0;
    if sessions.is_empty() {
        return Ok(count);
    }
    for (session_id, is_told) in sessions {
        if is_told {
            count += 1;
            // It may come back into the same session and be told of its end too.
            let event_id = format!("logout_{session_id}_{}", super::new_id());
            enqueue(unit, event_id, user_id, session_id, client_id.to_owned()).await?;
        }
    }
    store::people::sessions::remove_client(unit.write(), user_id, client_id).await?;
    Ok(count)
}

async fn enqueue(
    unit: &mut Unit,
    event_id: String,
    user_id: &str,
    session_id: String,
    client_id: String,
) -> Result<(), RegistryError> {
    let logout = Logout {
        user_id: user_id.to_owned(),
        session_id,
    };
    let message = NewMessage {
        event_id,
        event_type: "session.ended".to_owned(),
        channel: Channel::Logout,
        target: client_id,
        body: serde_json::to_vec(&logout)
            .map_err(|error| RegistryError::Store(error.to_string()))?,
    };
    let now = unit.now();
    store::outbox::insert(unit.write(), &message, now)
        .await
        .map(drop)
}
