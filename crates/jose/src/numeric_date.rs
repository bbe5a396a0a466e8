//! Times in tokens (NumericDate, RFC 7519 §2).

use serde_json::Value;

/// Seconds since 1970; fractions of a second are cut off. None for what is no time.
#[must_use]
pub fn seconds(value: &Value) -> Option<i64> {
    let number = value.as_number()?;
    if let Some(whole) = number.as_i64() {
        return Some(whole);
    }
    let fraction = number.as_f64()?;
    // Year 9999; beyond it the cast would not be exact.
    (0.0..=253_402_300_799.0).contains(&fraction).then(|| {
        #[allow(
            clippy::cast_possible_truncation,
            reason = "the range was just checked"
        )]
        let whole = fraction.floor() as i64;
        whole
    })
}
