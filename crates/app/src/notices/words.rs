//! What the system says of a notice, in one line. The window has words of its own, with times that go on.

use keywright_registry::{BoardKind, BoardNotice};

/// Of a name, no more is said.
const LONGEST: usize = 60;

/// One sentence. Names are foreign text: a line of their own would look like ours.
pub(crate) fn sentence(notice: &BoardNotice) -> String {
    let name: String = notice
        .name
        .chars()
        .filter(|letter| !letter.is_control() && !is_direction(*letter))
        .take(LONGEST)
        .collect();
    match notice.kind {
        BoardKind::KeyExpiring => match notice.detail.as_str() {
            "overdue" => format!("“{name}” has expired"),
            _ => format!("“{name}” expires {}", when(&notice.detail)),
        },
        BoardKind::RotationDue => format!("“{name}” is to be rotated {}", when(&notice.detail)),
        BoardKind::RotationPending => format!("A new secret of “{name}” waits to be taken"),
        BoardKind::OverlapClosing => {
            format!("The old secret of “{name}” ends soon and is still in use")
        }
        BoardKind::DeliveryFailed => format!("The new secret of “{name}” was not delivered"),
        BoardKind::KeyExposed => format!("“{name}” was found where no key belongs"),
        BoardKind::KeyReported => {
            format!("Somebody says that “{name}” is where no key belongs")
        }
        BoardKind::RetiredSecretUsed => format!("A secret of “{name}” was used after its end"),
        BoardKind::CanaryUsed => format!("The canary key “{name}” was used"),
        BoardKind::HygieneAsked => "You are asked to keep or to retire keys".to_owned(),
        BoardKind::WebhookDisabled => format!("The webhook {name} was switched off"),
        BoardKind::OwnerKeysRevoked => format!("All keys of “{name}” were revoked"),
    }
}

/// Letters that turn the direction of those around them.
fn is_direction(letter: char) -> bool {
    matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn when(urgency: &str) -> &'static str {
    match urgency {
        "days_30" => "within 30 days",
        "days_14" => "within 14 days",
        "days_7" => "within 7 days",
        "days_1" => "tomorrow",
        "today" => "today",
        "overdue" => "and it is overdue",
        _ => "soon",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_sentence_with_its_name_and_nothing_else_of_others() {
        for kind in BoardKind::ALL {
            let notice = BoardNotice {
                sequence: 1,
                kind,
                at: 0,
                key_id: Some("k1".into()),
                name: format!("Bill\n\u{202e}ing{}", "g".repeat(500)),
                kid: Some("aaaaaaaaaaaa".into()),
                due_at: Some(1),
                count: 3,
                detail: "from <b>somebody</b>".into(),
                settled: false,
                read: false,
            };
            let said = sentence(&notice);
            assert!(said.len() < 200 && !said.contains('\n'), "{said}");
            assert!(!said.contains('\u{202e}'), "{said}");
            assert!(
                !said.contains("somebody</b>") && !said.contains("aaaa"),
                "{said}"
            );
            let named = said.contains("Billing");
            assert_eq!(named, kind != BoardKind::HygieneAsked, "{said}");
        }
    }
}
