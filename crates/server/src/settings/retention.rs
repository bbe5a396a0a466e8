//! `[retention]`: how long what is over is kept.

use keywright_registry::RetentionPolicy;
use keywright_registry::people::PeopleRetention;
use serde::{Deserialize, Serialize};

use super::SettingError;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// How long what is over is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Keys, their use, alerts and notices.
    pub keys: RetentionPolicy,
    /// Sessions, grants, the sign-in history.
    pub people: PeopleRetention,
}

/// `[retention]`: days; 0 for ever.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionTable {
    /// Keys that were revoked or expired.
    pub ended_keys_days: Option<u32>,
    /// Secrets that ended, of keys that go on.
    pub ended_secrets_days: Option<u32>,
    /// Who used what, by the hour.
    pub uses_days: Option<u32>,
    /// The audit trail, cut behind a signed checkpoint; for ever if it is left out.
    pub audit_days: Option<u32>,
    /// Alerts.
    pub alerts_days: Option<u32>,
    /// Notices.
    pub notices_days: Option<u32>,
    /// The sign-in history.
    pub sign_ins_days: Option<u32>,
    /// Sessions, grants and invitations that ended.
    pub ended_sessions_days: Option<u32>,
}

impl RetentionTable {
    /// What it says, over the defaults.
    ///
    /// # Errors
    /// [`SettingError`], by the setting's name.
    pub fn settings(&self) -> Result<Retention, SettingError> {
        let mut kept = Retention::default();
        let keys = &mut kept.keys;
        for (into, days) in [
            (&mut keys.ended_keys_days, self.ended_keys_days),
            (&mut keys.ended_secrets_days, self.ended_secrets_days),
            (&mut keys.rollups_days, self.uses_days),
            (&mut keys.audit_days, self.audit_days),
            (&mut keys.alerts_days, self.alerts_days),
            (&mut keys.notices_days, self.notices_days),
        ] {
            if let Some(days) = days {
                *into = (days > 0).then_some(days);
            }
        }
        keys.check()
            .map_err(|error| SettingError::new("retention", error.to_string()))?;
        for (name, into, days) in [
            (
                "retention.sign_ins_days",
                &mut kept.people.sign_ins_ms,
                self.sign_ins_days,
            ),
            (
                "retention.ended_sessions_days",
                &mut kept.people.ended_ms,
                self.ended_sessions_days,
            ),
        ] {
            match days {
                None => {}
                Some(days @ 7..=3650) => *into = i64::from(days) * DAY_MS,
                Some(_) => return Err(SettingError::new(name, "allowed are 7 to 3650")),
            }
        }
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_has_bounds_and_zero_is_for_ever() {
        assert_eq!(
            RetentionTable::default().settings().unwrap(),
            Retention::default()
        );
        let table = RetentionTable {
            ended_keys_days: Some(0),
            uses_days: Some(100),
            sign_ins_days: Some(30),
            ..RetentionTable::default()
        };
        let kept = table.settings().unwrap();
        assert_eq!(kept.keys.ended_keys_days, None);
        assert_eq!(kept.keys.rollups_days, Some(100));
        assert_eq!(kept.people.sign_ins_ms, 30 * DAY_MS);
        let short = RetentionTable {
            uses_days: Some(1),
            ..RetentionTable::default()
        };
        assert_eq!(short.settings().unwrap_err().setting, "retention");
        let short = RetentionTable {
            sign_ins_days: Some(0),
            ..RetentionTable::default()
        };
        assert_eq!(
            short.settings().unwrap_err().setting,
            "retention.sign_ins_days"
        );
    }
}
