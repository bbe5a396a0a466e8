//! From what a face asks to the domain's wishes; the domain's own rules are applied on the way.

use keywright_domain::api_keys::settings::SettingsError;
use keywright_domain::api_keys::{
    CreditPlan, Environment, KeySettings, NetworkList, NewApiKey, Note, OriginList, RateLimit,
    RateLimits, Tags,
};
use keywright_protocol::api_keys::{IssueApiKeyRequest, IssueSettingsRequest, RateLimitRequest};
use keywright_registry::RegistryError;

use crate::AppError;

/// The wish for a new key. Each setting's own mistake is told by its own code, so that a form can
/// show it at its field.
pub(super) fn new_api_key(
    request: IssueApiKeyRequest,
    allow_never_expires: bool,
) -> Result<NewApiKey, AppError> {
    let asked = request.settings.unwrap_or_default();
    let environment = match asked.environment.trim() {
        "" => None,
        name => Some(Environment::new(name)?),
    };
    Ok(NewApiKey {
        name: request.name,
        prefix: request.prefix,
        scopes: request.scopes,
        lifetime_ms: request.expires_in_days.map(super::days),
        allow_never_expires,
        environment,
        not_before: asked.not_before,
        settings: settings(&asked).map_err(|error| RegistryError::Key(error.into()))?,
        ..NewApiKey::default()
    })
}

fn settings(asked: &IssueSettingsRequest) -> Result<KeySettings, SettingsError> {
    let limits = asked.limit.map(rate_limit).transpose()?;
    Ok(KeySettings {
        limits: limits.map(RateLimits::one).unwrap_or_default(),
        networks: NetworkList::new(filled(&asked.networks))?,
        origins: OriginList::new(filled(&asked.origins))?,
        tags: Tags::new(filled(&asked.tags))?,
        note: Note::new(&asked.note)?,
        one_time: asked.one_time,
        credits: asked.credits.map(|amount| CreditPlan {
            amount,
            refill: None,
        }),
        ..KeySettings::default()
    })
}

fn rate_limit(
    asked: RateLimitRequest,
) -> Result<RateLimit, keywright_domain::api_keys::LimitError> {
    RateLimit::new("requests", asked.count, asked.period_ms, asked.burst, false)
}

/// Lines that say something.
fn filled(lines: &[String]) -> impl Iterator<Item = &str> {
    lines
        .iter()
        .map(|line| line.trim())
        .filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(change: impl FnOnce(&mut IssueSettingsRequest)) -> Result<NewApiKey, AppError> {
        let mut settings = IssueSettingsRequest::default();
        change(&mut settings);
        let request = IssueApiKeyRequest {
            name: "a".into(),
            prefix: "sk_live".into(),
            scopes: vec!["a:b".into()],
            expires_in_days: Some(30),
            settings: Some(settings),
        };
        new_api_key(request, false)
    }

    #[test]
    fn settings_that_say_nothing_restrict_nothing() {
        let blank = vec![String::new(), "  ".to_owned()];
        let wish = wish(|asked| {
            asked.networks.clone_from(&blank);
            asked.origins.clone_from(&blank);
            asked.tags = blank;
            asked.environment = " ".into();
        });
        let wish = wish.expect("a wish");
        assert_eq!(wish.settings, KeySettings::default());
        assert_eq!(wish.environment, None);
    }

    #[test]
    fn each_setting_is_carried_over() {
        let wish = wish(|asked| {
            asked.environment = "staging".into();
            asked.not_before = Some(7);
            asked.tags = vec!["team".into()];
            asked.note = "why".into();
            asked.networks = vec![" 192.0.2.0/24 ".into()];
            asked.origins = vec!["https://app.example.org".into()];
            asked.limit = Some(RateLimitRequest {
                count: 60,
                period_ms: 60_000,
                burst: 10,
            });
            asked.credits = Some(500);
            asked.one_time = true;
        });
        let NewApiKey {
            environment,
            not_before,
            settings,
            ..
        } = wish.expect("a wish");
        assert_eq!(
            environment.map(|one| one.to_string()),
            Some("staging".into())
        );
        assert_eq!(not_before, Some(7));
        assert_eq!(settings.tags.as_slice(), ["team"]);
        assert_eq!(settings.note.as_str(), "why");
        assert_eq!(settings.networks.to_text(), "192.0.2.0/24");
        assert_eq!(settings.origins.to_text(), "https://app.example.org");
        assert_eq!(settings.limits.to_text(), "requests=60/60000+10");
        assert_eq!(settings.credits.map(|plan| plan.amount), Some(500));
        assert!(settings.one_time);
    }

    #[test]
    fn each_mistake_has_a_code_of_its_own() {
        type Change = fn(&mut IssueSettingsRequest);
        let mistakes: [(&str, Change); 6] = [
            ("invalid_environment", |asked| {
                asked.environment = "Ä".into()
            }),
            ("invalid_tag", |asked| asked.tags = vec!["a\nb".into()]),
            ("invalid_note", |asked| asked.note = "x".repeat(2001)),
            ("invalid_network", |asked| {
                asked.networks = vec!["here".into()]
            }),
            ("invalid_origin", |asked| asked.origins = vec!["app".into()]),
            ("invalid_limit", |asked| {
                asked.limit = Some(RateLimitRequest {
                    count: 0,
                    period_ms: 1000,
                    burst: 0,
                });
            }),
        ];
        for (code, change) in mistakes {
            assert_eq!(wish(change).expect_err(code).code(), code);
        }
    }
}
