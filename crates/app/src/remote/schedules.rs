//! Schedules of a registry on a server, the notices before them, and what became of their new secrets.
//! Carrying schedules out is the server's own work: nobody does it from here.

use http::Method;
use keywright_domain::api_keys::Rotation;
use keywright_domain::schedules::{
    CronExpression, Mode, NEVER, NoticeKind, Recurrence, Schedule, ScheduleTerms, TimeZone,
    Weekday, Window,
};
use keywright_registry::people::Page;
use keywright_registry::{
    AfterFailure, Delivery, DeliveryOutcome, KeySchedule, Notice, NoticeSubject,
};
use serde::{Deserialize, Serialize};

use super::call::{Call, Credentials};
use super::wire::{Items, RotationBody};
use super::{Known, RemoteRegistry};
use crate::AppError;

#[derive(Debug, Serialize, Deserialize)]
struct WindowBody {
    days: Vec<String>,
    start_minute: u16,
    end_minute: u16,
}

#[derive(Debug, Serialize, Deserialize)]
struct ScheduleBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    every_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cron: Option<String>,
    time_zone: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<WindowBody>,
    jitter_ms: i64,
    mode: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_age_ms: Option<i64>,
    delivery: String,
}

impl ScheduleBody {
    fn of(schedule: &Schedule, delivery: &str) -> Self {
        let terms = schedule.terms();
        let (every_ms, cron) = match &terms.recurrence {
            Recurrence::Interval { every_ms } => (Some(*every_ms), None),
            Recurrence::Cron(cron) => (None, Some(cron.as_str().to_owned())),
        };
        let window = terms.window.as_ref().map(|window| {
            let days = window.days().iter().map(|day| day.as_str().to_owned());
            WindowBody {
                days: days.collect(),
                start_minute: window.start_minute(),
                end_minute: window.end_minute(),
            }
        });
        Self {
            every_ms,
            cron,
            time_zone: terms.time_zone.as_str().to_owned(),
            window,
            jitter_ms: terms.jitter_ms,
            mode: terms.mode.as_str().to_owned(),
            max_age_ms: terms.max_age_ms,
            delivery: delivery.to_owned(),
        }
    }

    fn read(&self) -> Option<Schedule> {
        let recurrence = match (self.every_ms, &self.cron) {
            (Some(every_ms), None) => Recurrence::Interval { every_ms },
            (None, Some(cron)) => Recurrence::Cron(CronExpression::new(cron).ok()?),
            _ => return None,
        };
        let window = match &self.window {
            None => None,
            Some(window) => {
                let days = window.days.iter().map(|day| Weekday::from_stable(day));
                let days = days.collect::<Option<Vec<_>>>()?;
                Some(Window::new(&days, window.start_minute, window.end_minute).ok()?)
            }
        };
        Schedule::new(ScheduleTerms {
            recurrence,
            time_zone: TimeZone::new(&self.time_zone).ok()?,
            window,
            jitter_ms: self.jitter_ms,
            mode: Mode::from_stable(&self.mode)?,
            max_age_ms: self.max_age_ms,
        })
        .ok()
    }
}

#[derive(Debug, Deserialize)]
struct KeyScheduleBody {
    id: String,
    key_id: String,
    schedule: ScheduleBody,
    next_due_at: Option<i64>,
    paused_at: Option<i64>,
    anchor_at: i64,
    changed_at: i64,
    retry_at: Option<i64>,
    last_error: Option<String>,
}

impl KeyScheduleBody {
    fn read(self) -> Option<KeySchedule> {
        Some(KeySchedule {
            schedule: self.schedule.read()?,
            delivery: self.schedule.delivery,
            next_due_at: self.next_due_at.unwrap_or(NEVER),
            id: self.id,
            key_id: self.key_id,
            anchor_at: self.anchor_at,
            paused_at: self.paused_at,
            changed_at: self.changed_at,
            retry_at: self.retry_at,
            last_error: self.last_error,
        })
    }
}

#[derive(Debug, Deserialize)]
struct NoticeBody {
    id: String,
    key_id: String,
    key_name: String,
    /// Older servers do not say.
    #[serde(default)]
    key_prefix: String,
    subject: String,
    kid: String,
    due_at: i64,
    kind: String,
    made_at: i64,
    passed: bool,
    sent_at: Option<i64>,
    channel: Option<String>,
    error: Option<String>,
    attempts: i64,
}

impl NoticeBody {
    fn read(self) -> Option<Notice> {
        Some(Notice {
            subject: NoticeSubject::parse(&self.subject)?,
            kind: NoticeKind::from_stable(&self.kind)?,
            id: self.id,
            key_id: self.key_id,
            key_name: self.key_name,
            key_prefix: self.key_prefix,
            kid: self.kid,
            due_at: self.due_at,
            made_at: self.made_at,
            passed: self.passed,
            sent_at: self.sent_at,
            channel: self.channel,
            error: self.error,
            attempts: self.attempts,
        })
    }
}

#[derive(Debug, Serialize)]
struct OutcomeBody<'a> {
    target: &'a str,
    delivered: bool,
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    then: Option<&'static str>,
}

#[derive(Debug, Deserialize)]
struct DeliveryBody {
    id: String,
    rotation_id: String,
    kid: String,
    target: String,
    delivered: bool,
    error: Option<String>,
    at: i64,
}

impl From<DeliveryBody> for Delivery {
    fn from(body: DeliveryBody) -> Self {
        Self {
            id: body.id,
            rotation_id: body.rotation_id,
            kid: body.kid,
            target: body.target,
            delivered: body.delivered,
            error: body.error,
            at: body.at,
        }
    }
}

#[derive(Debug, Deserialize)]
struct DeliveryPage {
    items: Vec<DeliveryBody>,
    next_cursor: Option<String>,
}

#[derive(Debug, Deserialize)]
struct DeliveredBody {
    delivery: DeliveryBody,
    rotation: RotationBody,
}

impl<C: Credentials> RemoteRegistry<C> {
    fn schedule(&self, body: KeyScheduleBody) -> Result<KeySchedule, AppError> {
        body.read().ok_or_else(|| self.not_keywright())
    }

    /// Sets the schedule of a key, or replaces it: it begins now. `delivery` says where new secrets go,
    /// in the words of whoever delivers them; never a secret.
    ///
    /// # Errors
    /// As the registry of this device; `nobody_delivers` for an automatic one where no program of the
    /// server's is told; [`super::RemoteError`].
    pub async fn set_schedule(
        &self,
        key_id: &str,
        schedule: &Schedule,
        delivery: &str,
    ) -> Result<KeySchedule, AppError> {
        let path = ["keys", key_id, "schedule"];
        let call = Call::post(&path)
            .by(Method::PUT)
            .json(&ScheduleBody::of(schedule, delivery))
            .renews(&path)
            .repeatable_if_told();
        let set: KeyScheduleBody = self.write(call).await?;
        self.schedule(set)
    }

    /// The schedule of a key, if it has one.
    ///
    /// # Errors
    /// As [`Self::find_api_key`].
    pub async fn find_schedule(
        &self,
        key_id: &str,
    ) -> Result<Known<Option<KeySchedule>>, AppError> {
        let path = ["keys", key_id, "schedule"];
        let is_none = |error: &AppError| error.code() == "schedule_not_found";
        let found: Known<Option<KeyScheduleBody>> =
            self.read_if_there(Call::get(&path), is_none).await?;
        let schedule = found.value.map(|body| self.schedule(body));
        Ok(Known {
            value: schedule.transpose()?,
            as_of: found.as_of,
        })
    }

    /// Removes the schedule of a key. Returns false if it has none.
    ///
    /// # Errors
    /// As the registry of this device; [`super::RemoteError`].
    pub async fn remove_schedule(&self, key_id: &str) -> Result<bool, AppError> {
        let path = ["keys", key_id, "schedule"];
        let removed = match self.tell(Call::post(&path).by(Method::DELETE)).await {
            Ok(()) => true,
            Err(error) if error.code() == "schedule_not_found" => false,
            Err(error) => return Err(error),
        };
        self.remember_none(&path).await;
        Ok(removed)
    }

    /// Pauses the schedule of a key, or lets it go on.
    ///
    /// # Errors
    /// As the registry of this device; [`super::RemoteError`].
    pub async fn pause_schedule(&self, key_id: &str, pause: bool) -> Result<KeySchedule, AppError> {
        let step = if pause { "pause" } else { "resume" };
        let path = ["keys", key_id, "schedule", step];
        let call = Call::post(&path).renews(&path[..3]).repeatable();
        let paused: KeyScheduleBody = self.write(call).await?;
        self.schedule(paused)
    }

    /// Makes a schedule due now: the server carries it out with its next round.
    ///
    /// # Errors
    /// As the registry of this device; [`super::RemoteError`].
    pub async fn hasten_schedule(&self, key_id: &str) -> Result<KeySchedule, AppError> {
        let path = ["keys", key_id, "schedule", "run-now"];
        let call = Call::post(&path).renews(&path[..3]).repeatable_if_told();
        let hastened: KeyScheduleBody = self.write(call).await?;
        self.schedule(hastened)
    }

    /// Schedules by their next due moment, paused ones too: after the moment and id that a page ended
    /// with, at most `limit` (1 to 100); of the keys of one owner, or of all that may be seen.
    ///
    /// # Errors
    /// [`super::RemoteError`].
    pub async fn list_schedules(
        &self,
        owner: Option<&str>,
        after: Option<(i64, &str)>,
        limit: u32,
    ) -> Result<Known<Vec<KeySchedule>>, AppError> {
        let cursor = after.map(|(at, id)| ("cursor", format!("{at}~{id}")));
        let owner = owner.map(|owner| ("owner", owner.to_owned()));
        let mut query = vec![("limit", limit.clamp(1, 100).to_string())];
        query.extend(cursor.into_iter().chain(owner));
        let call = Call::get(&["schedules"]).query(query);
        let list: Known<Items<KeyScheduleBody>> = self.read(call).await?;
        let items = list.value.items.into_iter().map(KeyScheduleBody::read);
        let items: Option<Vec<_>> = items.collect();
        Ok(Known {
            value: items.ok_or_else(|| self.not_keywright())?,
            as_of: list.as_of,
        })
    }

    /// The latest notices about a key, newest first.
    ///
    /// # Errors
    /// As [`Self::find_api_key`].
    pub async fn list_key_notices(&self, key_id: &str) -> Result<Known<Vec<Notice>>, AppError> {
        let path = ["keys", key_id, "notices"];
        let list: Known<Items<NoticeBody>> = self.read(Call::get(&path)).await?;
        let notices: Option<Vec<_>> = list.value.items.into_iter().map(NoticeBody::read).collect();
        Ok(Known {
            value: notices.ok_or_else(|| self.not_keywright())?,
            as_of: list.as_of,
        })
    }

    /// Says what became of a new secret on its way. Asked for again under the same `once`, it is
    /// written down once.
    ///
    /// # Errors
    /// `rotation_not_found`; [`super::RemoteError`].
    pub async fn record_delivery(
        &self,
        key_id: &str,
        rotation_id: &str,
        target: &str,
        outcome: &DeliveryOutcome,
        once: &str,
    ) -> Result<(Delivery, Rotation), AppError> {
        let body = match outcome {
            DeliveryOutcome::Delivered => OutcomeBody {
                target,
                delivered: true,
                error: "",
                then: None,
            },
            DeliveryOutcome::Failed { error, then } => OutcomeBody {
                target,
                delivered: false,
                error,
                then: Some(match then {
                    AfterFailure::Hold => "hold",
                    AfterFailure::Cancel => "cancel",
                }),
            },
        };
        let path = ["keys", key_id, "rotations", rotation_id, "deliveries"];
        let call = Call::post(&path)
            .header("Idempotency-Key", once.to_owned())
            .json(&body)
            .repeatable_if_told();
        let recorded: DeliveredBody = self.write(call).await?;
        let rotation = recorded.rotation.read();
        Ok((
            recorded.delivery.into(),
            rotation.ok_or_else(|| self.not_keywright())?,
        ))
    }

    /// The deliveries of a rotation, oldest first, 1 to 100 a page.
    ///
    /// # Errors
    /// `rotation_not_found`, `invalid_cursor`; [`super::RemoteError`].
    pub async fn list_deliveries(
        &self,
        key_id: &str,
        rotation_id: &str,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Known<Page<Delivery>>, AppError> {
        let path = ["keys", key_id, "rotations", rotation_id, "deliveries"];
        let mut query = vec![("limit", limit.clamp(1, 100).to_string())];
        query.extend(cursor.map(|cursor| ("cursor", cursor.to_owned())));
        let page: Known<DeliveryPage> = self.read(Call::get(&path).query(query)).await?;
        Ok(page.with(|page| Page {
            items: page.items.into_iter().map(Delivery::from).collect(),
            next_cursor: page.next_cursor,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_back(schedule: &Schedule) -> Option<Schedule> {
        let text = serde_json::to_string(&ScheduleBody::of(schedule, "env:KEY")).ok()?;
        let body: ScheduleBody = serde_json::from_str(&text).ok()?;
        assert_eq!(body.delivery, "env:KEY");
        body.read()
    }

    #[test]
    fn a_schedule_comes_back_from_the_wire_as_it_was() {
        let days = [Weekday::from_stable("mon"), Weekday::from_stable("sat")];
        let days: Vec<_> = days.into_iter().flatten().collect();
        let cron = ScheduleTerms {
            recurrence: Recurrence::Cron(CronExpression::new("30 2 1 * *").unwrap()),
            time_zone: TimeZone::new("Europe/Berlin").unwrap(),
            window: Some(Window::new(&days, 60, 1440).unwrap()),
            jitter_ms: 5,
            mode: Mode::IssuePending,
            max_age_ms: Some(90 * 86_400_000),
        };
        let interval = ScheduleTerms {
            recurrence: Recurrence::Interval {
                every_ms: 7 * 86_400_000,
            },
            window: None,
            max_age_ms: None,
            mode: Mode::Automatic,
            ..cron.clone()
        };
        for terms in [cron, interval] {
            let schedule = Schedule::new(terms).unwrap();
            assert_eq!(read_back(&schedule), Some(schedule));
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused_as_a_whole() {
        let body = |change: fn(&mut ScheduleBody)| {
            let mut body = ScheduleBody {
                every_ms: Some(86_400_000),
                cron: None,
                time_zone: "UTC".to_owned(),
                window: None,
                jitter_ms: 0,
                mode: "notify_only".to_owned(),
                max_age_ms: None,
                delivery: String::new(),
            };
            change(&mut body);
            body.read()
        };
        assert!(body(|_| {}).is_some());
        assert_eq!(body(|body| body.cron = Some("0 0 * * *".to_owned())), None);
        assert_eq!(body(|body| body.every_ms = None), None);
        assert_eq!(body(|body| body.every_ms = Some(1)), None);
        assert_eq!(body(|body| body.mode = "often".to_owned()), None);
        assert_eq!(body(|body| body.time_zone = "Mars".to_owned()), None);
        assert_eq!(
            body(|body| body.window = Some(WindowBody {
                days: vec!["someday".to_owned()],
                start_minute: 0,
                end_minute: 60,
            })),
            None
        );
    }
}
