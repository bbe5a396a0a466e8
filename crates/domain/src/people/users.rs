//! Users: e-mail addresses, names, and how long somebody waits after wrong passwords.

use core::fmt;

use super::PeopleError;

const LONGEST_EMAIL: usize = 254;
const LONGEST_NAME: usize = 120;
/// Wrong passwords that cost nothing.
const FREE_FAILURES: i64 = 4;
const FIRST_WAIT_MS: i64 = 30_000;
const LONGEST_WAIT_MS: i64 = 60 * 60 * 1000;

/// An e-mail address, trimmed and in small letters: one person, one way to write it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Email(String);

impl Email {
    /// Checks an address. Only mail that arrives proves one, so this refuses little: no `@`, white
    /// space, more than 254 bytes (RFC 5321 §4.5.3.1.3), a domain without letters or digits.
    ///
    /// # Errors
    /// [`PeopleError::Email`].
    pub fn new(text: &str) -> Result<Self, PeopleError> {
        let text = text.trim().to_lowercase();
        let (local, domain) = text.rsplit_once('@').ok_or(PeopleError::Email)?;
        let foreign = |c: char| c.is_whitespace() || c.is_control() || "<>()[]\\,;:\"@".contains(c);
        let label = |part: &str| {
            let inner = |c: char| c.is_alphanumeric() || c == '-';
            !part.is_empty() && part.chars().all(inner) && !part.starts_with('-')
        };
        if text.len() > LONGEST_EMAIL
            || local.is_empty()
            || local.contains(foreign)
            || !domain.split('.').all(label)
        {
            return Err(PeopleError::Email);
        }
        Ok(Self(text))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name as people, clients and passkeys have them: trimmed, 1 to 120 characters that show.
///
/// # Errors
/// [`PeopleError::Name`].
pub fn person_name(text: &str) -> Result<String, PeopleError> {
    let text = text.trim();
    let length = text.chars().count();
    if length == 0 || length > LONGEST_NAME || text.chars().any(char::is_control) {
        return Err(PeopleError::Name);
    }
    Ok(text.to_owned())
}

/// How long nobody may try again (ms) after so many wrong passwords in a row: nothing for the
/// first four, then 30 s, doubled each time up to an hour.
#[must_use]
pub fn lock_after(failures: i64) -> Option<i64> {
    let beyond = failures - FREE_FAILURES - 1;
    (beyond >= 0).then(|| {
        let doubled = FIRST_WAIT_MS << beyond.min(20);
        doubled.min(LONGEST_WAIT_MS)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_one_text() {
        assert_eq!(
            Email::new("  Ada@Example.COM ").unwrap().as_str(),
            "ada@example.com"
        );
        for bad in [
            "",
            "ada",
            "@b",
            "a@",
            "a b@c.d",
            "a@b@c",
            "a@b..c",
            "a@-b",
            "a@b c",
            "a<b@c.d",
            &format!("{}@b.c", "a".repeat(251)),
        ] {
            assert_eq!(Email::new(bad), Err(PeopleError::Email), "{bad}");
        }
    }

    #[test]
    fn waits_double_up_to_an_hour() {
        assert_eq!(lock_after(0), None);
        assert_eq!(lock_after(4), None);
        assert_eq!(lock_after(5), Some(30_000));
        assert_eq!(lock_after(6), Some(60_000));
        assert_eq!(lock_after(11), Some(1_920_000));
        assert_eq!(lock_after(12), Some(LONGEST_WAIT_MS));
        assert_eq!(lock_after(i64::MAX), Some(LONGEST_WAIT_MS));
    }

    #[test]
    fn names_show() {
        assert_eq!(person_name(" Ada ").unwrap(), "Ada");
        for bad in ["", "  ", "a\nb", &"a".repeat(121)] {
            assert_eq!(person_name(bad), Err(PeopleError::Name), "{bad}");
        }
    }
}
