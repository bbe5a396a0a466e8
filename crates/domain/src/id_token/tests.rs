//! Every claim rule at its boundary.

use super::{Expected, IdTokenClaims, IdTokenProblem, TokenHash, check_claims, token_hash};
use crate::SecretText;
use crate::issuer::{InvalidIssuer, Issuer, IssuerRule};

const NOW: i64 = 1_800_000_000;

fn claims() -> IdTokenClaims {
    IdTokenClaims {
        iss: Some("https://id.example.com".to_owned()),
        sub: Some("ada".to_owned()),
        aud: vec!["app".to_owned()],
        exp: Some(NOW + 300),
        iat: Some(NOW),
        nonce: Some("n-1".to_owned()),
        ..IdTokenClaims::default()
    }
}

fn check(change: impl FnOnce(&mut IdTokenClaims)) -> Result<&'static str, InvalidIssuer> {
    let mut claims = claims();
    change(&mut claims);
    let issuer = IssuerRule::Exact(Issuer::parse("https://id.example.com")?);
    let nonce = SecretText::new("n-1".to_owned());
    let access = SecretText::new("access".to_owned());
    let expected = Expected {
        issuer: &issuer,
        client_id: "app",
        nonce: Some(&nonce),
        access_token: Some((&access, TokenHash::Sha256)),
        now_s: NOW,
    };
    Ok(check_claims(&claims, &expected).map_or_else(|problem| problem.code(), |()| "ok"))
}

fn list(items: &[&str]) -> Vec<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

#[test]
fn a_good_token_passes() -> Result<(), InvalidIssuer> {
    assert_eq!(check(|_| ())?, "ok");
    assert_eq!(check(|c| c.aud = list(&["app", "api"]))?, "wrong_audience");
    assert_eq!(
        check(|c| {
            c.aud = list(&["app", "api"]);
            c.azp = Some("app".to_owned());
        })?,
        "ok"
    );
    Ok(())
}

#[test]
fn ac_033_audience() -> Result<(), InvalidIssuer> {
    assert_eq!(check(|c| c.aud = list(&["other"]))?, "wrong_audience");
    assert_eq!(check(|c| c.aud = list(&["one", "two"]))?, "wrong_audience");
    assert_eq!(check(|c| c.aud = list(&["App"]))?, "wrong_audience");
    let foreign_party = |c: &mut IdTokenClaims| {
        c.aud = list(&["app", "two"]);
        c.azp = Some("two".to_owned());
    };
    assert_eq!(check(foreign_party)?, "wrong_audience");
    assert_eq!(
        check(|c| c.azp = Some("other".to_owned()))?,
        "wrong_audience"
    );
    Ok(())
}

#[test]
fn ac_034_issuer_differs_by_one_byte() -> Result<(), InvalidIssuer> {
    for iss in [
        "https://id.example.com/",
        "https://id.example.con",
        "https://ID.example.com",
        "http://id.example.com",
        "id.example.com",
        "",
    ] {
        assert_eq!(
            check(|c| c.iss = Some(iss.to_owned()))?,
            "issuer_mismatch",
            "{iss}"
        );
    }
    Ok(())
}

#[test]
fn ac_035_leeway_of_thirty_seconds() -> Result<(), InvalidIssuer> {
    for (exp, code) in [(-29, "ok"), (-30, "ok"), (-31, "token_expired")] {
        assert_eq!(check(|c| c.exp = Some(NOW + exp))?, code, "exp {exp}");
    }
    for (ahead, code) in [(29, "ok"), (30, "ok"), (31, "token_not_yet_valid")] {
        assert_eq!(check(|c| c.iat = Some(NOW + ahead))?, code, "iat {ahead}");
        assert_eq!(check(|c| c.nbf = Some(NOW + ahead))?, code, "nbf {ahead}");
    }
    assert_eq!(check(|c| c.exp = Some(i64::MIN))?, "token_expired");
    assert_eq!(check(|c| c.iat = Some(i64::MAX))?, "token_not_yet_valid");
    Ok(())
}

#[test]
fn ac_036_the_clock_is_named_when_it_is_wrong() {
    let early = IdTokenProblem::TokenNotYetValid { early_s: 600 };
    let blamed = early.clone().explained_by_clock(Some(600_000));
    assert_eq!(blamed.code(), "clock_skew");
    assert_eq!(
        blamed.to_string(),
        "This computer's clock is 10 min behind the provider's."
    );
    assert_eq!(
        early.clone().explained_by_clock(Some(2_000)),
        early,
        "a right clock is not blamed"
    );
    assert_eq!(early.clone().explained_by_clock(None), early);
    let other = IdTokenProblem::NonceMismatch.explained_by_clock(Some(600_000));
    assert_eq!(other, IdTokenProblem::NonceMismatch);
    let ahead = IdTokenProblem::TokenExpired { late_s: 90 }.explained_by_clock(Some(-90_000));
    assert_eq!(
        ahead.to_string(),
        "This computer's clock is 90 s ahead of the provider's."
    );
}

#[test]
fn ac_037_nonce() -> Result<(), InvalidIssuer> {
    assert_eq!(check(|c| c.nonce = None)?, "nonce_mismatch");
    assert_eq!(
        check(|c| c.nonce = Some("n-2".to_owned()))?,
        "nonce_mismatch"
    );
    assert_eq!(check(|c| c.nonce = Some(String::new()))?, "nonce_mismatch");
    Ok(())
}

#[test]
fn ac_041_required_claims() -> Result<(), InvalidIssuer> {
    assert_eq!(check(|c| c.iss = None)?, "claim_missing");
    assert_eq!(check(|c| c.sub = None)?, "claim_missing");
    assert_eq!(check(|c| c.sub = Some(String::new()))?, "claim_missing");
    assert_eq!(check(|c| c.sub = Some("x".repeat(256)))?, "claim_missing");
    assert_eq!(check(|c| c.exp = None)?, "claim_missing");
    assert_eq!(check(|c| c.iat = None)?, "claim_missing");
    assert_eq!(check(|c| c.aud = Vec::new())?, "claim_missing");
    Ok(())
}

#[test]
fn at_hash_is_checked_where_present() -> Result<(), InvalidIssuer> {
    let good = token_hash(&SecretText::new("access".to_owned()), TokenHash::Sha256);
    assert_eq!(check(|c| c.at_hash = Some(good))?, "ok");
    let wrong = token_hash(&SecretText::new("access2".to_owned()), TokenHash::Sha256);
    assert_eq!(check(|c| c.at_hash = Some(wrong))?, "at_hash_mismatch");
    assert_eq!(
        check(|c| c.at_hash = Some(String::new()))?,
        "at_hash_mismatch"
    );
    Ok(())
}

/// OpenID Connect Core, appendix A.3: the access token and the at_hash of its ID token.
#[test]
fn at_hash_of_the_specification() {
    let token = SecretText::new("jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y".to_owned());
    assert_eq!(
        token_hash(&token, TokenHash::Sha256),
        "77QmUPtjPfzWtF2AnpK9RQ"
    );
}
