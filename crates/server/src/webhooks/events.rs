//! What happens, as it is told: types of events, and what each says. Never a secret.

use keywright_domain::api_keys::{ApiKey, Rotation};
use keywright_domain::audit::AuditAction;
use keywright_domain::schedules::NoticeKind;
use keywright_registry::{
    Alert, AlertKind, AuditEvent, Notice, NoticeSubject, OverlapWarning, Unanswered,
    UntoldQuestions, asked_event,
};
use serde_json::{Value, json};

use crate::pages::dates::iso;

/// Keys that a message to a person names.
const MOST_NAMED: usize = 20;

/// Something that others may be told of.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// The same for everybody who is told: `webhook-id`.
    pub(crate) id: String,
    /// Its type.
    pub(crate) kind: &'static str,
    /// When it happened (Unix ms).
    pub(crate) at: i64,
    /// The key that it is about.
    pub(crate) key_id: Option<String>,
    /// One sentence for people.
    pub(crate) summary: String,
    /// Details for people, one a line.
    pub(crate) lines: Vec<String>,
    /// For programs.
    data: Value,
}

impl Event {
    /// Whether it tells of what was due before.
    pub(crate) fn is_overdue(&self) -> bool {
        self.data["urgency"] == "overdue"
    }

    /// The body of a webhook's request.
    pub(crate) fn body(&self) -> Vec<u8> {
        let body = json!({ "type": self.kind, "timestamp": iso(self.at), "data": self.data });
        body.to_string().into_bytes()
    }
}

/// What is told of the audit trail.
pub(crate) const OF_AUDIT: [(AuditAction, &str); 20] = [
    (AuditAction::ApiKeyIssued, "key.issued"),
    (AuditAction::ApiKeyChanged, "key.changed"),
    (AuditAction::ApiKeyRotated, "key.rotated"),
    (AuditAction::ApiKeyRevoked, "key.revoked"),
    (AuditAction::ApiKeyDisabled, "key.disabled"),
    (AuditAction::ApiKeyEnabled, "key.enabled"),
    (AuditAction::ApiKeyImported, "key.imported"),
    (AuditAction::ApiKeyPromoted, "key.promoted"),
    (AuditAction::ApiKeyExposed, "key.exposed"),
    (AuditAction::ApiKeyReported, "key.reported"),
    (AuditAction::SecretRevoked, "secret.revoked"),
    (AuditAction::RotationFinished, "rotation.completed"),
    (AuditAction::RotationCancelled, "rotation.cancelled"),
    (AuditAction::RotationRolledBack, "rotation.rolled_back"),
    (AuditAction::DeliveryFailed, "delivery.failed"),
    (AuditAction::PrincipalKeysRevoked, "owner.keys_revoked"),
    (AuditAction::AuditCheckpointed, "audit.checkpoint"),
    (AuditAction::WebhookDisabled, "webhook.disabled"),
    (AuditAction::RefreshReused, "grant.reused"),
    (AuditAction::GrantUnusual, "grant.unusual_use"),
];

/// What is told of alerts, notices and overlaps, and by request.
const OTHERS: [&str; 9] = [
    "secret.retired_used",
    "canary.used",
    "key.expiring",
    "rotation.due",
    HYGIENE_ASKED,
    "rotation.pending",
    DELIVERY_DUE,
    OVERLAP_CLOSING,
    TEST,
];

/// For a program that brings new secrets to where they are needed.
pub(crate) const DELIVERY_DUE: &str = "delivery.due";

/// An overlap ends while the old secret is in use.
pub(crate) const OVERLAP_CLOSING: &str = "overlap.closing";

/// An owner is asked to keep or to retire keys.
pub(crate) const HYGIENE_ASKED: &str = "hygiene.asked";

/// Sent by request.
pub(crate) const TEST: &str = "webhook.test";

/// All types, in a stable order.
pub(crate) fn types() -> impl Iterator<Item = &'static str> {
    OF_AUDIT.iter().map(|(_, kind)| *kind).chain(OTHERS)
}

/// An event of the audit trail, if it is told.
pub(crate) fn of_audit(event: &AuditEvent) -> Option<Event> {
    let (_, kind) = OF_AUDIT
        .iter()
        .find(|(action, _)| action.as_str() == event.action)?;
    let details: serde_json::Map<String, Value> = event
        .details
        .iter()
        .map(|(name, value)| (name.clone(), Value::String(value.clone())))
        .collect();
    let is_key = event.target_kind == "api_key";
    let about =
        json!({ "kind": event.target_kind, "id": event.target_id, "name": event.target_name });
    let mut lines = vec![format!("By: {}", event.actor)];
    lines.extend(
        event
            .details
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{name}: {value}")),
    );
    Some(Event {
        // The trail numbers its events for ever, and copies of it that were put back go on from there.
        id: format!("evt_{}_{}", event.sequence, event.at),
        kind,
        at: event.at,
        key_id: is_key.then(|| event.target_id.clone()),
        summary: event.summary.clone(),
        lines,
        data: json!({
            "sequence": event.sequence,
            "about": about,
            "actor": event.actor,
            "summary": event.summary,
            "details": details,
        }),
    })
}

/// An alert, unless the audit trail tells it already.
pub(crate) fn of_alert(alert: &Alert) -> Option<Event> {
    let (kind, summary) = match alert.kind {
        AlertKind::EndedSecretUsed => (
            "secret.retired_used",
            "A secret of an API key was used after it had ended",
        ),
        AlertKind::CanaryUsed => (
            "canary.used",
            "A canary key was used: somebody has what nobody should have",
        ),
        AlertKind::DeliveryFailed => return None,
    };
    Some(Event {
        id: format!("alr_{}_{}", alert.id, alert.count),
        kind,
        at: alert.last_at,
        key_id: Some(alert.key_id.clone()),
        summary: summary.to_owned(),
        lines: vec![
            format!("Secret: {}", alert.kid),
            format!("By: {}", alert.caller),
            format!(
                "{} times in all, last at {}",
                alert.count,
                iso(alert.last_at)
            ),
        ],
        data: json!({
            "about": { "kind": "api_key", "id": alert.key_id },
            "kid": alert.kid,
            "caller": alert.caller,
            "count": alert.count,
            "first_at": iso(alert.first_at),
            "last_at": iso(alert.last_at),
        }),
    })
}

/// A notice that something is due.
pub(crate) fn of_notice(notice: &Notice) -> Event {
    let (kind, what) = match notice.subject {
        NoticeSubject::Expiry => ("key.expiring", "expires"),
        NoticeSubject::Rotation => ("rotation.due", "is to be rotated"),
    };
    let urgency = notice.kind.as_str();
    let what = match (has_expired(notice), urgency) {
        (true, _) => "has expired",
        (false, "overdue") => "should have been rotated",
        _ => what,
    };
    let when = match urgency {
        "days_30" => "within 30 days",
        "days_14" => "within 14 days",
        "days_7" => "within 7 days",
        "days_1" => "tomorrow",
        "today" => "today",
        _ => "",
    };
    let said = format!("API key “{}” {what} {when}", notice.key_name);
    Event {
        id: format!("ntc_{}", notice.id),
        kind,
        at: notice.made_at,
        key_id: Some(notice.key_id.clone()),
        summary: said.trim_end().to_owned(),
        lines: vec![
            format!("Secret: {}", notice.kid),
            format!("Due: {}", iso(notice.due_at)),
        ],
        data: json!({
            "about": { "kind": "api_key", "id": notice.key_id, "name": notice.key_name },
            "kid": notice.kid,
            "due_at": iso(notice.due_at),
            "urgency": urgency,
        }),
    }
}

/// Whether it says that a key is refused since it is due, and not that it will be.
pub(crate) fn has_expired(notice: &Notice) -> bool {
    notice.subject == NoticeSubject::Expiry && notice.kind == NoticeKind::Overdue
}

/// A notice among others, for people.
pub(crate) fn line_of_notice(notice: &Notice) -> String {
    let what = match notice.subject {
        NoticeSubject::Expiry if has_expired(notice) => "has expired",
        NoticeSubject::Expiry => "expires",
        NoticeSubject::Rotation => "is to be rotated",
    };
    line(notice.due_at, &notice.key_name, &notice.key_prefix, what)
}

/// An overlap that ends while the old secret is in use, among others, for people.
pub(crate) fn line_of_overlap(warning: &OverlapWarning) -> String {
    let what = format!("old secret {} ends and is in use", warning.old_kid);
    let place = format!("{}, {}", warning.key_prefix, warning.key_id);
    line(warning.closes_at, &warning.key_name, &place, &what)
}

/// A secret that waits to be taken, among others, for people.
pub(crate) fn line_of_pending(key: &ApiKey, at: i64) -> String {
    let place = format!("{}, {}", key.prefix, key.id);
    line(at, &key.name, &place, "has a new secret")
}

/// `place`: the prefix, and the id where what is to be done about it asks for it.
fn line(at: i64, name: &str, place: &str, what: &str) -> String {
    // Names may be long, and the rest is to be seen.
    let name: String = name.chars().take(100).collect();
    format!("{}  “{name}” ({place}) {what}", iso(at))
}

/// Questions of a campaign to one owner. `at`: now.
pub(crate) fn of_questions(asked: &UntoldQuestions, at: i64) -> Event {
    let campaign = &asked.campaign;
    // Later than the campaign is due where this is told so late that they had no notice.
    let until = iso(campaign.answers_until(at));
    let first = asked.keys.first().map(|(id, _)| id.clone());
    let names = asked.keys.iter().map(|(_, name)| format!("Key: {name}"));
    let mut lines: Vec<_> = names.take(MOST_NAMED).collect();
    if asked.keys.len() > MOST_NAMED {
        lines.push(format!("and {} more", asked.keys.len() - MOST_NAMED));
    }
    lines.push(format!("Until: {until}"));
    if campaign.unanswered == Unanswered::Disable {
        lines.push("Keys without an answer are suspended then.".to_owned());
    }
    let keys = asked.keys.iter();
    let keys: Vec<_> = keys
        .map(|(id, name)| json!({ "id": id, "name": name }))
        .collect();
    Event {
        id: asked_event(&campaign.id, first.as_deref().unwrap_or("")),
        kind: HYGIENE_ASKED,
        at,
        // All of them have the same owner.
        key_id: first,
        summary: format!(
            "You are asked to keep or to retire {} of your API keys: “{}”",
            asked.keys.len(),
            campaign.name
        ),
        lines,
        data: json!({
            "about": { "kind": "hygiene_campaign", "id": campaign.id, "name": campaign.name },
            "owner_id": asked.owner_id,
            "keys": keys,
            "due_at": until,
            "unanswered": campaign.unanswered.as_str(),
        }),
    }
}

/// By what name the same is told once.
pub(crate) fn id_of_overlap(warning: &OverlapWarning) -> String {
    format!("ovl_{}_{}", warning.old_kid, warning.closes_at)
}

/// An overlap that ends while the old secret is in use (AC-139). `at`: now.
pub(crate) fn of_overlap(warning: &OverlapWarning, at: i64) -> Event {
    let callers: Vec<Value> = warning
        .callers
        .iter()
        .map(|one| {
            json!({
                "client_label": one.caller.client_label,
                "network": one.caller.network,
                "agent": one.caller.agent,
                "route": one.caller.route,
                "uses": one.uses,
                "last_at": iso(one.last_at),
            })
        })
        .collect();
    let mut lines = vec![
        format!("Secret: {}", warning.old_kid),
        format!("It stops working at {}", iso(warning.closes_at)),
    ];
    lines.extend(warning.callers.iter().take(20).map(|one| {
        let caller = &one.caller;
        let parts = [
            &caller.client_label,
            &caller.network,
            &caller.agent,
            &caller.route,
        ];
        let known: Vec<&str> = parts
            .into_iter()
            .map(String::as_str)
            .filter(|part| !part.is_empty())
            .collect();
        format!(
            "Still in use by {} ({} times, last at {})",
            if known.is_empty() {
                "an unknown caller".to_owned()
            } else {
                known.join(" · ")
            },
            one.uses,
            iso(one.last_at)
        )
    }));
    Event {
        id: id_of_overlap(warning),
        kind: OVERLAP_CLOSING,
        at,
        key_id: Some(warning.key_id.clone()),
        summary: format!(
            "The old secret of API key “{}” ends soon and is still in use",
            warning.key_name
        ),
        lines,
        data: json!({
            "about": { "kind": "api_key", "id": warning.key_id, "name": warning.key_name },
            "kid": warning.old_kid,
            "rotation_id": warning.rotation_id,
            "closes_at": iso(warning.closes_at),
            "callers": callers,
        }),
    }
}

/// A schedule made a new secret that waits for somebody to take it.
pub(crate) fn of_pending(key: &ApiKey, rotation: &Rotation, at: i64) -> Event {
    Event {
        id: format!("pnd_{}", rotation.new),
        kind: "rotation.pending",
        at,
        key_id: Some(key.id.clone()),
        summary: format!("A new secret of API key “{}” waits to be taken", key.name),
        lines: vec![
            format!("Secret: {}", rotation.new),
            // Whoever takes it by the API names both.
            format!("Key: {}", key.id),
            format!("Rotation: {}", rotation.id),
        ],
        data: json!({
            "about": { "kind": "api_key", "id": key.id, "name": key.name },
            "kid": rotation.new.as_str(),
            "rotation_id": rotation.id,
        }),
    }
}

/// A schedule made a secret that a program is to replace by its own and to deliver.
pub(crate) fn of_delivery_due(key: &ApiKey, rotation: &Rotation, target: &str, at: i64) -> Event {
    let pending = of_pending(key, rotation, at);
    let mut data = pending.data;
    data["target"] = target.into();
    Event {
        id: format!("due_{}", rotation.new),
        kind: DELIVERY_DUE,
        summary: format!("A new secret of API key “{}” is to be delivered", key.name),
        data,
        ..pending
    }
}

/// An event that was asked for, to see whether anybody listens. `nonce`: another one each time.
pub(crate) fn test(nonce: &str, at: i64) -> Event {
    Event {
        id: format!("tst_{nonce}"),
        kind: TEST,
        at,
        key_id: None,
        summary: "A test".to_owned(),
        lines: Vec::new(),
        data: json!({ "message": "This is a test. Nothing happened." }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_told_apart_and_read_well() {
        let all: std::collections::BTreeSet<_> = types().collect();
        assert_eq!(all.len(), OF_AUDIT.len() + OTHERS.len());
        for kind in all {
            let (what, how) = kind.split_once('.').unwrap();
            assert!(!what.is_empty() && !how.is_empty(), "{kind}");
        }
    }

    #[test]
    fn an_event_of_the_trail_has_one_name_for_ever() {
        let event = AuditEvent {
            sequence: 7,
            at: 1_800_000_000_000,
            action: "api_key.revoked".into(),
            actor: "olive".into(),
            target_kind: "api_key".into(),
            target_id: "k1".into(),
            target_name: "Billing".into(),
            summary: "API key “Billing” was revoked".into(),
            details: vec![("reason".into(), "left".into())],
        };
        let told = of_audit(&event).unwrap();
        assert_eq!(told.kind, "key.revoked");
        assert_eq!(told.id, of_audit(&event).unwrap().id);
        let body: Value = serde_json::from_slice(&told.body()).unwrap();
        assert_eq!(body["type"], "key.revoked");
        assert_eq!(body["timestamp"], "2027-01-15T08:00:00Z");
        assert_eq!(body["data"]["about"]["id"], "k1");
        assert_eq!(body["data"]["details"]["reason"], "left");
        let silent = AuditEvent {
            action: "session.started".into(),
            ..event
        };
        assert!(of_audit(&silent).is_none());
    }
}
