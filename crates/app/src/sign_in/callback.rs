//! The authorization response (RFC 6749 §4.1.2, RFC 9207): which one is ours, and what it says.
//! Whatever does not carry the right `state` is ignored; it can neither end nor steer a sign-in.

use std::sync::{Arc, Mutex};

use keywright_domain::SecretText;
use keywright_domain::flows::sign_in_step;
use keywright_domain::issuer::IssuerRule;
use tokio::sync::oneshot;
use url::form_urlencoded;

use super::error::{SignInError, tame};
use crate::flows::FlowTrace;

/// A `state` older than this is not accepted (AC-018).
pub(crate) const STATE_LIFE_MS: i64 = 600_000;
/// No honest answer is longer.
const LONGEST: usize = 16 * 1024;

/// The answer's code, or how the sign-in ends without one.
pub(crate) type CallbackResult = Result<SecretText, SignInError>;

/// What was done with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was ours, good or bad; the sign-in goes on or ends with it.
    Taken,
    /// It was not ours, or came again; the sign-in keeps waiting (AC-005, AC-006, AC-007, AC-009).
    Ignored,
}

/// Waits for the one answer, from the loopback listener or from a paste.
pub(crate) struct Inbox {
    expected: Expectation,
    waiting: Mutex<Option<oneshot::Sender<CallbackResult>>>,
}

/// What the answer must carry.
pub(crate) struct Expectation {
    pub(crate) state: SecretText,
    pub(crate) issuer: IssuerRule,
    /// RFC 9207 §2.4: then an answer without `iss` is refused.
    pub(crate) iss_required: bool,
    /// When the state was made.
    pub(crate) created_at: i64,
    /// Where it is told what came.
    pub(crate) trace: Arc<FlowTrace>,
}

impl Inbox {
    /// An inbox and where its content comes out.
    pub(crate) fn new(expected: Expectation) -> (Self, oneshot::Receiver<CallbackResult>) {
        let (sender, receiver) = oneshot::channel();
        (
            Self {
                expected,
                waiting: Mutex::new(Some(sender)),
            },
            receiver,
        )
    }

    /// Looks at the query of an answer.
    pub(crate) fn offer(&self, query: &str, now: i64) -> Verdict {
        let Some(answer) = Parameters::read(query).filter(|answer| self.is_ours(answer)) else {
            tracing::warn!(
                code = "state_mismatch",
                "an answer without the right state was ignored"
            );
            let trace = &self.expected.trace;
            trace.missed(sign_in_step::ANSWER, SignInError::StateMismatch.code());
            return Verdict::Ignored;
        };
        // One use: a replay finds nobody waiting.
        let waiting = self
            .waiting
            .lock()
            .ok()
            .and_then(|mut waiting| waiting.take());
        let Some(waiting) = waiting else {
            tracing::warn!(code = "state_mismatch", "a repeated answer was ignored");
            return Verdict::Ignored;
        };
        // The receiver is gone when the sign-in was cancelled this very moment.
        let _cancelled = waiting.send(self.judge(answer, now));
        Verdict::Taken
    }

    fn is_ours(&self, answer: &Parameters) -> bool {
        matches!(answer.state.as_slice(), [state] if self.expected.state.matches(state))
    }

    fn judge(&self, mut answer: Parameters, now: i64) -> CallbackResult {
        if now.saturating_sub(self.expected.created_at) > STATE_LIFE_MS {
            return Err(SignInError::LoginExpired);
        }
        match answer.iss.as_slice() {
            [iss] if self.expected.issuer.accepts_response(iss) => {}
            [] if !self.expected.iss_required => {}
            _ => return Err(SignInError::IssuerMismatch),
        }
        match (answer.code.pop(), answer.error.pop()) {
            (None, Some(error)) if answer.error.is_empty() => {
                Err(refusal(&error, answer.description.pop()))
            }
            (Some(code), None) if answer.code.is_empty() && !code.is_empty() => {
                Ok(SecretText::new(code))
            }
            (None, None) => Err(SignInError::InvalidCallback(
                "it has neither a code nor an error",
            )),
            _ => Err(SignInError::InvalidCallback(
                "it says several things at once",
            )),
        }
    }
}

fn refusal(error: &str, description: Option<String>) -> SignInError {
    match error {
        "access_denied" => SignInError::AccessDenied,
        _ => SignInError::ProviderRefused {
            error: tame(error, 60),
            description: description
                .map(|text| tame(&text, 200))
                .filter(|text| !text.is_empty()),
        },
    }
}

/// Every value of the parameters that matter; others are ignored.
#[derive(Default)]
struct Parameters {
    state: Vec<String>,
    code: Vec<String>,
    error: Vec<String>,
    description: Vec<String>,
    iss: Vec<String>,
}

impl Parameters {
    fn read(query: &str) -> Option<Self> {
        if query.len() > LONGEST {
            return None;
        }
        let mut answer = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let values = match &*name {
                "state" => &mut answer.state,
                "code" => &mut answer.code,
                "error" => &mut answer.error,
                "error_description" => &mut answer.description,
                "iss" => &mut answer.iss,
                _ => continue,
            };
            values.push(value.into_owned());
        }
        Some(answer)
    }
}

/// The query of what a person pasted: the whole address, or the query alone.
pub(crate) fn pasted_query(pasted: &str) -> &str {
    let pasted = pasted.trim();
    let query = pasted.split_once('?').map_or(pasted, |(_, query)| query);
    query.split('#').next().unwrap_or(query)
}

#[cfg(test)]
mod tests {
    use keywright_domain::SecretText;
    use keywright_domain::issuer::{Issuer, IssuerRule};
    use tokio::sync::oneshot::Receiver;

    use super::{CallbackResult, Expectation, Inbox, STATE_LIFE_MS, Verdict, pasted_query};
    use crate::flows::FlowTraces;

    fn inbox(iss_required: bool) -> Result<(Inbox, Receiver<CallbackResult>), anyhow::Error> {
        Ok(Inbox::new(Expectation {
            state: SecretText::new("s-1".to_owned()),
            issuer: IssuerRule::Exact(Issuer::parse("https://id.example.com")?),
            iss_required,
            created_at: 0,
            trace: FlowTraces::default().begin("authorization-code", String::new()),
        }))
    }

    /// What an answer leads to: `ignored`, `ok:<code>` or an error's code.
    fn judged(query: &str, iss_required: bool, now: i64) -> Result<String, anyhow::Error> {
        let (inbox, mut receiver) = inbox(iss_required)?;
        if inbox.offer(query, now) == Verdict::Ignored {
            assert!(receiver.try_recv().is_err());
            return Ok("ignored".to_owned());
        }
        Ok(match receiver.try_recv()? {
            Ok(code) => format!("ok:{}", code.expose()),
            Err(error) => error.code().to_owned(),
        })
    }

    #[test]
    fn ac_005_006_009_without_the_right_state_nothing_happens() -> Result<(), anyhow::Error> {
        for query in [
            "",
            "code=c",
            "code=c&state=",
            "code=c&state=S-1",
            "code=c&state=s-1&state=s-1",
            "code=c&state=s-1&state=x",
            "error=access_denied",
            "error=access_denied&state=x",
        ] {
            assert_eq!(judged(query, false, 0)?, "ignored", "{query}");
        }
        Ok(())
    }

    #[test]
    fn ac_007_the_second_of_two_equal_answers_is_ignored() -> Result<(), anyhow::Error> {
        let (inbox, _receiver) = inbox(false)?;
        assert_eq!(inbox.offer("code=c&state=s-1", 0), Verdict::Taken);
        assert_eq!(inbox.offer("code=c&state=s-1", 0), Verdict::Ignored);
        Ok(())
    }

    #[test]
    fn ac_008_errors_with_the_right_state_end_the_sign_in() -> Result<(), anyhow::Error> {
        assert_eq!(
            judged("error=access_denied&state=s-1", false, 0)?,
            "access_denied"
        );
        assert_eq!(
            judged(
                "error=invalid_scope&error_description=no&state=s-1",
                false,
                0
            )?,
            "provider_refused"
        );
        assert_eq!(judged("state=s-1", false, 0)?, "invalid_callback");
        assert_eq!(judged("code=&state=s-1", false, 0)?, "invalid_callback");
        assert_eq!(
            judged("code=a&code=b&state=s-1", false, 0)?,
            "invalid_callback"
        );
        assert_eq!(
            judged("code=a&error=x&state=s-1", false, 0)?,
            "invalid_callback"
        );
        Ok(())
    }

    #[test]
    fn ac_018_a_state_lives_six_hundred_seconds() -> Result<(), anyhow::Error> {
        assert_eq!(judged("code=c&state=s-1", false, STATE_LIFE_MS)?, "ok:c");
        assert_eq!(
            judged("code=c&state=s-1", false, STATE_LIFE_MS + 1)?,
            "login_expired"
        );
        Ok(())
    }

    #[test]
    fn ac_019_iss_must_be_the_issuer_s() -> Result<(), anyhow::Error> {
        let with = |iss: &str| format!("code=c&state=s-1{iss}");
        let good = "&iss=https%3A%2F%2Fid.example.com";
        assert_eq!(judged(&with(good), true, 0)?, "ok:c");
        assert_eq!(judged(&with(""), true, 0)?, "issuer_mismatch");
        assert_eq!(judged(&with(""), false, 0)?, "ok:c");
        for bad in [
            "&iss=https%3A%2F%2Fevil.example.com",
            "&iss=https%3A%2F%2Fid.example.com%2F",
            "&iss=",
            &format!("{good}{good}"),
        ] {
            assert_eq!(judged(&with(bad), true, 0)?, "issuer_mismatch", "{bad}");
            assert_eq!(judged(&with(bad), false, 0)?, "issuer_mismatch", "{bad}");
        }
        assert_eq!(
            judged(
                "error=access_denied&state=s-1&iss=https%3A%2F%2Fevil",
                true,
                0
            )?,
            "issuer_mismatch"
        );
        Ok(())
    }

    #[test]
    fn ac_014_pasted_answers() {
        for pasted in [
            "http://127.0.0.1:1/callback?code=a&state=b",
            " code=a&state=b\n",
            "?code=a&state=b",
            "http://127.0.0.1:1/callback?code=a&state=b#x",
        ] {
            assert_eq!(pasted_query(pasted), "code=a&state=b", "{pasted}");
        }
    }
}
