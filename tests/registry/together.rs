//! Keys that are verified in one call: what memory answers for at once skips no step that a key by itself has. Each
//! call begins with a key that nobody has to wait for, so that the others come behind it.

use std::time::{Duration, Instant};

use anyhow::Result;
use keywright_domain::api_keys::{
    CreditPlan, KeySettings, NewApiKey, PlainKey, Prefix, RateLimit, RateLimits,
};
use keywright_registry::{Caller, Issued, VerifyRequest};

use super::keys::{asking, verify};
use super::{Fixture, Kind, checksum, wish};

struct Call {
    fixture: Fixture,
    first: Issued,
}

impl Call {
    async fn new() -> Result<Self> {
        let fixture = super::fixture().await?;
        let first = fixture.issue("first").await?;
        assert_eq!(fixture.code(&first).await?, "valid");
        Ok(Self { fixture, first })
    }

    async fn issue(&self, settings: KeySettings) -> Result<Issued> {
        let wish = NewApiKey {
            settings,
            ..wish("behind it")
        };
        self.fixture.issue_as(&wish).await
    }

    /// What the keys behind the first come to.
    async fn codes(&self, behind: &[VerifyRequest<'_>]) -> Result<Vec<&'static str>> {
        let first = asking(&self.first);
        let requests: Vec<_> = [first].iter().chain(behind).copied().collect();
        let mut codes = Vec::new();
        let (registry, peppers) = (&self.fixture.registry, &self.fixture.peppers);
        registry
            .verify_api_keys(&requests, peppers, |at, verification| {
                assert_eq!(at, codes.len());
                codes.push(verification.code());
                true
            })
            .await?;
        assert_eq!(codes.remove(0), "valid");
        Ok(codes)
    }

    async fn uses(&self, issued: &Issued) -> Result<i64> {
        self.fixture.registry.flush_uses().await?;
        let (key, _) = self.fixture.registry.find_api_key(&issued.key.id).await?;
        Ok(key.secrets[0].use_count)
    }
}

#[tokio::test]
async fn limits_credits_and_the_only_use_are_counted_in_one_call_too() -> Result<()> {
    let call = Call::new().await?;
    let limit = RateLimit::new("calls", 3, 60_000, 0, false)?;
    let limited = call
        .issue(KeySettings {
            limits: RateLimits::new(vec![limit])?,
            ..KeySettings::default()
        })
        .await?;
    let credited = call
        .issue(KeySettings {
            credits: Some(CreditPlan {
                amount: 3,
                refill: None,
            }),
            ..KeySettings::default()
        })
        .await?;
    // Used already, so that nothing but what is counted is left to wait for.
    for issued in [&limited, &credited] {
        assert_eq!(call.fixture.code(issued).await?, "valid");
    }
    let codes = call.codes(&[asking(&limited); 3]).await?;
    assert_eq!(codes, ["valid", "valid", "rate_limited"]);
    let codes = call.codes(&[asking(&credited); 3]).await?;
    assert_eq!(codes, ["valid", "valid", "credits_exhausted"]);
    let once = call
        .issue(KeySettings {
            one_time: true,
            ..KeySettings::default()
        })
        .await?;
    let codes = call.codes(&[asking(&once); 2]).await?;
    assert_eq!(codes, ["valid", "retired"]);
    // Twice each, and once before.
    assert_eq!(call.uses(&limited).await?, 3);
    assert_eq!(call.uses(&credited).await?, 3);
    Ok(())
}

#[tokio::test]
async fn a_first_use_is_written_in_one_call_too() -> Result<()> {
    let call = Call::new().await?;
    let fresh = call.fixture.issue("fresh").await?;
    assert_eq!(call.codes(&[asking(&fresh); 2]).await?, ["valid"; 2]);
    let (key, _) = call.fixture.registry.find_api_key(&fresh.key.id).await?;
    assert!(key.secrets[0].first_used_at.is_some());
    assert_eq!(call.uses(&fresh).await?, 2);
    Ok(())
}

#[tokio::test]
async fn a_secret_that_is_used_after_its_end_raises_an_alert_in_one_call_too() -> Result<()> {
    let call = Call::new().await?;
    let (registry, actor) = (&call.fixture.registry, &call.fixture.actor);
    let ended = call.fixture.issue("ended").await?;
    assert_eq!(call.fixture.code(&ended).await?, "valid");
    registry
        .revoke_api_key(actor, &ended.key.id, "leak")
        .await?;
    assert_eq!(call.codes(&[asking(&ended)]).await?, ["revoked"]);
    registry.flush_uses().await?;
    assert_eq!(registry.count_unseen_alerts().await?, 1);
    assert_eq!(call.uses(&ended).await?, 1, "a refusal is no use");
    Ok(())
}

#[tokio::test]
async fn ac_133_a_place_that_is_throttled_learns_nothing_in_one_call_either() -> Result<()> {
    let call = Call::new().await?;
    let good = call.fixture.issue("good").await?;
    assert_eq!(call.fixture.code(&good).await?, "valid");
    let caller = Caller {
        address: Some("192.0.2.1".parse()?),
        ..Caller::default()
    };
    let stranger = PlainKey::generate(&Prefix::new("sk_live")?, &mut rand::rng());
    let wrong = VerifyRequest {
        presented: stranger.text().expose(),
        caller,
        ..VerifyRequest::default()
    };
    let mut code = "";
    for _ in 0..200 {
        code = verify(&call.fixture, wrong).await?.code();
    }
    assert_eq!(code, "rate_limited");
    let text = good.plain.text().expose();
    let body = &text[..text.len() - 6];
    let (head, secret) = body.split_at(body.len() - 32);
    let guess = format!("{head}{}", secret.chars().rev().collect::<String>());
    let guess = format!("{guess}{}", checksum(&guess));
    let guessed = VerifyRequest {
        presented: &guess,
        caller,
        ..VerifyRequest::default()
    };
    let good = VerifyRequest {
        caller,
        ..asking(&good)
    };
    let codes = call.codes(&[good, guessed, good]).await?;
    assert_eq!(codes, ["valid", "rate_limited", "valid"]);
    Ok(())
}

#[tokio::test]
async fn nothing_is_counted_behind_the_one_that_ends_a_call() -> Result<()> {
    let call = Call::new().await?;
    let other = call.fixture.issue("other").await?;
    assert_eq!(call.fixture.code(&other).await?, "valid");
    let requests = [asking(&call.first), asking(&other), asking(&other)];
    for last in 0..requests.len() {
        let mut asked = 0;
        let (registry, peppers) = (&call.fixture.registry, &call.fixture.peppers);
        registry
            .verify_api_keys(&requests, peppers, |at, _| {
                asked += 1;
                at < last
            })
            .await?;
        assert_eq!(asked, last + 1);
    }
    // One use before, and none, one and two in these calls.
    assert_eq!(call.uses(&other).await?, 4);
    Ok(())
}

/// Memory that may be old is not asked, for many no more than for one: of a file it is known to be new for every call,
/// of a database that nodes share within a second.
#[tokio::test]
async fn ac_140_what_another_process_ended_is_refused_in_one_call_too() -> Result<()> {
    let call = Call::new().await?;
    let other = call.fixture.second().await?;
    for round in 0..10 {
        let ended = call.fixture.issue("ended").await?;
        assert_eq!(call.fixture.code(&ended).await?, "valid");
        assert_eq!(call.codes(&[asking(&ended)]).await?, ["valid"]);
        other
            .revoke_api_key(&call.fixture.actor, &ended.key.id, "leak")
            .await?;
        let began = Instant::now();
        while call.codes(&[asking(&ended)]).await? != ["revoked"] {
            let is_shared = call.fixture.kind == Kind::Postgres;
            assert!(
                is_shared && began.elapsed() < Duration::from_secs(2),
                "{round}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    other.close().await;
    Ok(())
}
