//! Which sign-ins came from a browser that the account had not seen before.

use std::collections::HashSet;

use keywright_registry::people::SignIn;

use crate::problem::Problem;
use crate::server::App;

/// How far back the history is read.
const DEPTH: u32 = 500;

/// Sign-ins by a browser that was not seen before; never the first one of an account.
#[derive(Debug, Default)]
pub(super) struct NewDevices {
    /// Those sign-ins.
    pub(super) sign_ins: HashSet<String>,
    /// The sessions that followed.
    pub(super) sessions: HashSet<String>,
}

/// Reads the history of a person.
pub(super) async fn read(app: &App, user_id: &str) -> Result<NewDevices, Problem> {
    let page = app
        .registry
        .list_sign_ins(Some(user_id), None, DEPTH)
        .await?;
    Ok(find(&page.items, page.next_cursor.is_none()))
}

/// `history` is newest first; `whole`: there is nothing before it.
fn find(history: &[SignIn], whole: bool) -> NewDevices {
    let mut found = NewDevices::default();
    let mut seen = HashSet::new();
    let succeeded = history
        .iter()
        .rev()
        .filter(|one| one.outcome == "succeeded");
    for (at, one) in succeeded.enumerate() {
        // Where the history is cut, its first lines may repeat what is no longer read.
        // Of sign-ins before browsers were known by a cookie there is only what they said they are.
        let agent = match &one.device {
            None => one.user_agent.as_str(),
            Some(_) => "",
        };
        let is_new = seen.insert((one.device, agent));
        let may_tell = at > 0 && (whole || at > history.len() / 2);
        if is_new && may_tell {
            found.sign_ins.insert(one.id.clone());
            found.sessions.extend(one.session_id.clone());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use keywright_domain::people::TokenDigest;

    use super::*;

    fn sign_in(id: &str, agent: &str, outcome: &str) -> SignIn {
        SignIn {
            id: id.into(),
            at: 0,
            user_id: None,
            identifier: String::new(),
            method: "password".into(),
            outcome: outcome.into(),
            network: String::new(),
            user_agent: agent.into(),
            session_id: Some(format!("s{id}")),
            device: None,
        }
    }

    #[test]
    fn a_device_is_new_once_and_failures_make_none_known() {
        let history = [
            sign_in("5", "b", "succeeded"),
            sign_in("4", "b", "succeeded"),
            sign_in("3", "a", "succeeded"),
            sign_in("2", "b", "wrong_password"),
            sign_in("1", "a", "succeeded"),
        ];
        let found = find(&history, true);
        assert_eq!(found.sign_ins, HashSet::from(["4".to_owned()]));
        assert_eq!(found.sessions, HashSet::from(["s4".to_owned()]));
        assert!(find(&history[..2], false).sign_ins.is_empty());
    }

    #[test]
    fn an_update_is_no_new_device_and_the_same_browser_elsewhere_is_one() {
        let by = |id: &str, agent: &str, device: u8| SignIn {
            device: TokenDigest::from_slice(&[device; 32]),
            ..sign_in(id, agent, "succeeded")
        };
        let history = [by("3", "a", 2), by("2", "a/2", 1), by("1", "a", 1)];
        let found = find(&history, true);
        assert_eq!(found.sign_ins, HashSet::from(["3".to_owned()]));
    }
}
