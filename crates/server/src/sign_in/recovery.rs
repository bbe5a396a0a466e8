//! Recovery codes: ten, each good once, for people whose other second factor is gone.

use keywright_domain::SecretText;
use keywright_domain::audit::Actor;
use rand::Rng as _;

use crate::problem::Problem;
use crate::server::App;
use crate::sign_in::busy;

/// So many at a time.
const COUNT: usize = 10;
/// Letters of a code: 50 bits.
const LENGTH: usize = 10;
/// Crockford's alphabet: nothing in it looks like something else.
const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// New codes and their hashes, which are nobody's yet.
///
/// # Errors
/// [`Problem`] where they cannot be hashed.
pub(super) async fn make(app: &App) -> Result<(Vec<SecretText>, Vec<SecretText>), Problem> {
    let codes: Vec<SecretText> = (0..COUNT).map(|_| new_code()).collect();
    let mut hashes = Vec::with_capacity(COUNT);
    for code in &codes {
        hashes.push(app.passwords.hash_code(code).await.map_err(busy)?);
    }
    Ok((codes, hashes))
}

/// Replaces a person's codes. They are shown this once.
///
/// # Errors
/// [`Problem`].
pub(crate) async fn give(
    app: &App,
    actor: &Actor,
    user_id: &str,
) -> Result<Vec<SecretText>, Problem> {
    let (codes, hashes) = make(app).await?;
    app.registry
        .set_recovery_codes(actor, user_id, &hashes)
        .await?;
    Ok(codes)
}

/// Uses a code up. False if it is none of the person's, or was used.
///
/// # Errors
/// [`Problem`].
pub(super) async fn accept(app: &App, user_id: &str, given: &str) -> Result<bool, Problem> {
    let Some(given) = normal(given) else {
        return Ok(false);
    };
    let mut found = None;
    // All of them: the time tells nothing about which one it was.
    for stored in app.registry.list_recovery_codes(user_id).await? {
        let checked = app.passwords.check(Some(&stored.hash), &given).await;
        if checked.map_err(busy)?.matches {
            found = Some(stored.id);
        }
    }
    match found {
        Some(id) => {
            let actor = Actor::person(user_id);
            Ok(app.registry.use_recovery_code(&actor, user_id, &id).await?)
        }
        None => Ok(false),
    }
}

/// As people see it: two groups.
pub(crate) fn shown(code: &SecretText) -> String {
    let (first, second) = code.expose().split_at(LENGTH / 2);
    format!("{first}-{second}")
}

fn new_code() -> SecretText {
    let mut random = [0_u8; LENGTH];
    rand::rng().fill_bytes(&mut random);
    let letter = |byte: &u8| char::from(LETTERS[usize::from(byte & 31)]);
    SecretText::new(random.iter().map(letter).collect())
}

/// A code as it was hashed: small letters, without what stands between, `o` for 0, `l` and `i` for 1.
fn normal(text: &str) -> Option<SecretText> {
    if text.len() > 40 {
        return None;
    }
    let code: String = text
        .chars()
        .filter(|c| !matches!(c, '-' | ' '))
        .map(|c| match c.to_ascii_lowercase() {
            'o' => '0',
            'l' | 'i' => '1',
            other => other,
        })
        .collect();
    let good = code.len() == LENGTH && code.bytes().all(|byte| LETTERS.contains(&byte));
    good.then(|| SecretText::new(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_read_back_as_people_type_them() {
        let code = new_code();
        let typed = format!(" {} ", shown(&code).to_uppercase());
        assert_eq!(normal(&typed).unwrap().expose(), code.expose());
        assert_eq!(normal("OIL23-45678").unwrap().expose(), "0112345678");
        for bad in ["", "123456", "12345-6789u", "12345-678901", "ééééé-ééééé"] {
            assert!(normal(bad).is_none(), "{bad}");
        }
        assert_ne!(new_code().expose(), new_code().expose());
    }
}
