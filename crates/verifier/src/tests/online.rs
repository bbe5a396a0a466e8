//! Introspection: what is asked, what is remembered, and what happens when nobody answers.

use std::time::Duration;

use serde_json::{Value, json};

use super::issuer::{AUDIENCE, Mood, TestIssuer, now};
use crate::clock::Clock;
use crate::{Online, TokenError};

const FIVE: Duration = Duration::from_secs(5);

fn verifier(
    issuer: &TestIssuer,
    entries: usize,
    time: Duration,
) -> anyhow::Result<(Online, Clock)> {
    let clock = Clock::new();
    let who = ("api", "s&cret:1");
    let online = Online::with(issuer.url(), AUDIENCE, who, (entries, time), clock.clone())?;
    Ok((online, clock))
}

fn active(issuer: &TestIssuer) -> Value {
    let mut answer = issuer.claims();
    answer["active"] = true.into();
    answer["token_type"] = "Bearer".into();
    answer
}

#[tokio::test]
async fn a_good_token_is_asked_about_once_while_the_answer_is_remembered() -> anyhow::Result<()> {
    let issuer = TestIssuer::start(&[]).await?;
    issuer.says(active(&issuer));
    let (online, clock) = verifier(&issuer, 10, FIVE)?;
    let claims = online.check("tok+en").await?;
    assert_eq!(claims.sub, "u1");
    assert!(claims.has_scope("read"));
    let (authorization, form) = issuer.inside.asked.lock().unwrap().clone();
    // api:s%26cret%3A1 (RFC 6749 §2.3.1).
    assert_eq!(authorization, "Basic YXBpOnMlMjZjcmV0JTNBMQ==");
    assert_eq!(form, "token=tok%2Ben&token_type_hint=access_token");
    online.check("tok+en").await?;
    assert_eq!(issuer.questions(), 1);
    // AC-094: revoked; seen as soon as the answer is forgotten.
    issuer.says(json!({"active": false}));
    clock.pass(Duration::from_millis(4900));
    online.check("tok+en").await?;
    clock.pass(Duration::from_millis(200));
    assert_eq!(
        online.check("tok+en").await.err(),
        Some(TokenError::Revoked)
    );
    assert_eq!(issuer.questions(), 2);
    Ok(())
}

#[tokio::test]
async fn an_answer_does_not_outlive_a_sleep_of_the_machine() -> anyhow::Result<()> {
    let issuer = TestIssuer::start(&[]).await?;
    issuer.says(active(&issuer));
    let (online, clock) = verifier(&issuer, 10, FIVE)?;
    online.check("token").await?;
    clock.sleep(Duration::from_secs(6));
    issuer.says(json!({"active": false}));
    assert_eq!(online.check("token").await.err(), Some(TokenError::Revoked));
    // Nor does one outlive its token, however little the time of day went ahead.
    let mut ends = active(&issuer);
    ends["exp"] = json!(now() + 1);
    issuer.says(ends);
    let (online, clock) = verifier(&issuer, 10, FIVE)?;
    online.check("token").await?;
    let asked = issuer.questions();
    clock.sleep(Duration::from_millis(999));
    online.check("token").await?;
    assert_eq!(issuer.questions(), asked + 1);
    Ok(())
}

#[tokio::test]
async fn an_answer_is_not_remembered_past_the_end_of_the_token() -> anyhow::Result<()> {
    let issuer = TestIssuer::start(&[]).await?;
    let mut answer = active(&issuer);
    answer["exp"] = (now() + 20).into();
    issuer.says(answer);
    let (online, clock) = verifier(&issuer, 10, Duration::from_secs(60))?;
    online.check("token").await?;
    clock.pass(Duration::from_secs(10));
    online.check("token").await?;
    assert_eq!(issuer.questions(), 1);
    issuer.says(json!({"active": false}));
    clock.pass(Duration::from_secs(11));
    assert_eq!(online.check("token").await.err(), Some(TokenError::Revoked));
    assert_eq!(issuer.questions(), 2);
    Ok(())
}

#[tokio::test]
async fn a_refusal_is_remembered_shortly() -> anyhow::Result<()> {
    let issuer = TestIssuer::start(&[]).await?;
    let (online, clock) = verifier(&issuer, 10, FIVE)?;
    for _ in 0..3 {
        assert_eq!(online.check("token").await.err(), Some(TokenError::Revoked));
    }
    assert_eq!(issuer.questions(), 1);
    issuer.says(active(&issuer));
    clock.pass(Duration::from_millis(2100));
    online.check("token").await?;
    assert_eq!(issuer.questions(), 2);
    Ok(())
}

#[tokio::test]
async fn memory_is_bounded_and_nonsense_drops_no_good_answer() -> anyhow::Result<()> {
    let issuer = TestIssuer::start(&[]).await?;
    let (online, _) = verifier(&issuer, 4, FIVE)?;
    issuer.says(active(&issuer));
    online.check("good").await?;
    issuer.says(json!({"active": false}));
    for number in 0..50 {
        let token = format!("bad{number}");
        assert_eq!(online.check(&token).await.err(), Some(TokenError::Revoked));
    }
    assert_eq!(online.kept(), (1, 4));
    online.check("good").await?;
    assert_eq!(issuer.questions(), 51);
    issuer.says(active(&issuer));
    for number in 0..50 {
        online.check(&format!("good{number}")).await?;
    }
    assert_eq!(online.kept(), (4, 4));
    Ok(())
}

#[tokio::test]
async fn without_memory_every_token_is_asked_about() -> anyhow::Result<()> {
    let issuer = TestIssuer::start(&[]).await?;
    issuer.says(active(&issuer));
    for (entries, time) in [(0, FIVE), (10, Duration::ZERO)] {
        let (online, _) = verifier(&issuer, entries, time)?;
        let before = issuer.questions();
        online.check("token").await?;
        online.check("token").await?;
        assert_eq!(issuer.questions(), before + 2);
    }
    Ok(())
}

#[tokio::test]
async fn answers_that_do_not_fit_are_refused() -> anyhow::Result<()> {
    let issuer = TestIssuer::start(&[]).await?;
    let changes: Vec<(&str, Value, TokenError)> = vec![
        ("active", "true".into(), TokenError::Revoked),
        ("active", json!(1), TokenError::Revoked),
        ("active", Value::Null, TokenError::Revoked),
        (
            "iss",
            "https://other.example".into(),
            TokenError::IssuerMismatch,
        ),
        (
            "aud",
            "https://other.example".into(),
            TokenError::WrongAudience,
        ),
        ("aud", Value::Null, TokenError::ClaimMissing),
        ("exp", (now() - 60).into(), TokenError::Expired),
        ("exp", Value::Null, TokenError::ClaimMissing),
        ("sub", Value::Null, TokenError::ClaimMissing),
        ("nbf", (now() + 60).into(), TokenError::NotYetValid),
        ("cnf", json!({"jkt": "x"}), TokenError::Bound),
        ("token_type", "refresh_token".into(), TokenError::WrongUse),
    ];
    let (online, _) = verifier(&issuer, 100, FIVE)?;
    for (number, (name, value, wanted)) in changes.into_iter().enumerate() {
        let mut answer = active(&issuer);
        answer[name] = value.clone();
        issuer.says(answer);
        let got = online.check(&format!("token{number}")).await.err();
        assert_eq!(got, Some(wanted), "{name} {value}");
    }
    Ok(())
}

#[tokio::test]
async fn if_nobody_answers_nobody_is_let_through() -> anyhow::Result<()> {
    let issuer = TestIssuer::start(&[]).await?;
    issuer.says(active(&issuer));
    for mood in [
        Mood::Failing,
        Mood::Redirecting,
        Mood::OtherIssuer,
        Mood::Enormous,
        Mood::Html,
        Mood::Hanging,
    ] {
        let (online, _) = verifier(&issuer, 10, FIVE)?;
        // As a first question, and with the metadata known.
        issuer.be(mood);
        let got = online.check("first").await.err();
        assert_eq!(got, Some(TokenError::Unavailable));
        issuer.be(Mood::Fine);
        online.check("first").await?;
        issuer.be(mood);
        if mood != Mood::OtherIssuer {
            let got = online.check("second").await.err();
            assert_eq!(got, Some(TokenError::Unavailable));
        }
        issuer.be(Mood::Fine);
        // That was not remembered.
        online.check("second").await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_can_be_no_token_asks_nobody() -> anyhow::Result<()> {
    let issuer = TestIssuer::start(&[]).await?;
    issuer.says(active(&issuer));
    let (online, _) = verifier(&issuer, 10, FIVE)?;
    for bad in ["", "a b", "a\nb", "ü", "a&token=b", &"a".repeat(20_000)] {
        let got = online.check(bad).await.err();
        assert_eq!(got, Some(TokenError::Malformed));
    }
    assert_eq!(issuer.questions(), 0);
    assert!(!format!("{online:?}").contains("cret"));
    Ok(())
}
