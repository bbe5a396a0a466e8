//! Peppers outside the keychain: in escrow under a passphrase, and on their way to another
//! registry. Without its peppers no key of a registry verifies; with them alone nobody can do
//! anything, and nothing of the database is in such a file.

use std::fmt::Write as _;

use keywright_domain::SecretText;
use keywright_domain::api_keys::Pepper;
use keywright_domain::audit::{Actor, AuditAction};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::age::{self, AgeError, TransferIdentity, TransferRecipient};
use crate::peppers::{PepperKey, Peppers};
use crate::store::audit::NewEvent;
use crate::{LocalRegistry, RegistryError};

/// Shortest passphrase, in characters. Whoever holds the file can guess at leisure; at a second a
/// guess, twelve characters or four words are out of reach, eight are not.
pub const MIN_PASSPHRASE: usize = 12;
const MIN_DIFFERENT: usize = 5;
const MAX_PEPPERS: usize = 1000;

/// Peppers as they were sealed.
#[derive(Debug)]
pub struct Escrow {
    /// Whose they are.
    pub registry_id: String,
    /// When they were sealed (Unix ms).
    pub made_at: i64,
    /// The peppers, the current one first.
    pub peppers: Peppers,
}

/// Why peppers are not sealed, or a file does not open.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EscrowError {
    /// The passphrase can be guessed.
    #[error(
        "a passphrase for this file has at least {MIN_PASSPHRASE} characters, {MIN_DIFFERENT} of them different: whoever finds the file can try passphrases for as long as they like. Four random words are good"
    )]
    WeakPassphrase,
    /// The passphrase does not open it.
    #[error("this passphrase does not open the file")]
    WrongPassphrase,
    /// It was sealed for somebody else.
    #[error("this file was sealed for another recipient")]
    WrongRecipient,
    /// Its end is missing.
    #[error("the file was cut short: its last line is missing. Take another copy")]
    CutShort,
    /// It was changed.
    #[error("the file is damaged: it is not as it was when it was sealed. Take another copy")]
    Damaged,
    /// Not a file of this kind.
    #[error("this is not {0}")]
    Foreign(&'static str),
    /// Opening it would take more memory than is ever given.
    #[error("opening this file would cost more than 1 GiB of memory; it was not made by Keywright")]
    TooCostly,
    /// Nothing can be sealed.
    #[error("the peppers could not be sealed")]
    Seal,
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl EscrowError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::WeakPassphrase => "weak_passphrase",
            Self::WrongPassphrase => "wrong_passphrase",
            Self::WrongRecipient => "wrong_recipient",
            Self::CutShort => "file_cut_short",
            Self::Damaged => "file_damaged",
            Self::Foreign(_) => "file_foreign",
            Self::TooCostly => "file_too_costly",
            Self::Seal => "sealing_failed",
            Self::Registry(error) => error.code(),
        }
    }
}

/// What a sealed text is.
#[derive(Clone, Copy)]
enum Kind {
    Escrow,
    Transfer,
}

impl Kind {
    fn format(self) -> &'static str {
        match self {
            Self::Escrow => "keywright-escrow",
            Self::Transfer => "keywright-pepper-transfer",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Escrow => "an escrow file of Keywright",
            Self::Transfer => "a file with peppers for a registry of Keywright",
        }
    }

    fn error(self, error: AgeError) -> EscrowError {
        match (error, self) {
            (AgeError::Foreign | AgeError::OtherKind, _) => EscrowError::Foreign(self.name()),
            (AgeError::CutShort, _) => EscrowError::CutShort,
            (AgeError::Damaged, _) => EscrowError::Damaged,
            (AgeError::WrongKey, Self::Escrow) => EscrowError::WrongPassphrase,
            (AgeError::WrongKey, Self::Transfer) => EscrowError::WrongRecipient,
            (AgeError::TooCostly, _) => EscrowError::TooCostly,
        }
    }
}

/// Seals peppers under a passphrase, in age's text form. Takes about a second of a processor and
/// 256 MiB of memory: not for a thread that others wait for.
///
/// # Errors
/// [`EscrowError::WeakPassphrase`].
pub fn seal_escrow(
    peppers: &Peppers,
    registry_id: &str,
    made_at: i64,
    passphrase: &SecretText,
) -> Result<Vec<u8>, EscrowError> {
    seal_with_work(peppers, registry_id, made_at, passphrase, age::WORK)
}

fn seal_with_work(
    peppers: &Peppers,
    registry_id: &str,
    made_at: i64,
    passphrase: &SecretText,
    work: u8,
) -> Result<Vec<u8>, EscrowError> {
    check_passphrase(passphrase)?;
    let content = content(Kind::Escrow, peppers, registry_id, made_at)?;
    age::seal_under(passphrase, work, content.as_bytes()).ok_or(EscrowError::Seal)
}

pub(super) fn check_passphrase(passphrase: &SecretText) -> Result<(), EscrowError> {
    let text = passphrase.expose();
    let mut different: Vec<char> = text.chars().collect();
    let length = different.len();
    different.sort_unstable();
    different.dedup();
    if length < MIN_PASSPHRASE || different.len() < MIN_DIFFERENT {
        return Err(EscrowError::WeakPassphrase);
    }
    Ok(())
}

/// Opens an escrow file. Costs what sealing cost.
///
/// # Errors
/// [`EscrowError`], a different one for a wrong passphrase, a damaged file, one that was cut short
/// and one of something else.
pub fn open_escrow(file: &[u8], passphrase: &SecretText) -> Result<Escrow, EscrowError> {
    let kind = Kind::Escrow;
    let plain = age::open_under(passphrase, file).map_err(|error| kind.error(error))?;
    read(kind, &plain, |_, id| id.to_owned())
}

/// Opens peppers that another registry handed over, under the ids by which the rows that come with
/// them name them: see [`moved_pepper_id`].
///
/// # Errors
/// [`EscrowError`].
pub fn open_transfer(file: &[u8], identity: &TransferIdentity) -> Result<Escrow, EscrowError> {
    let kind = Kind::Transfer;
    let plain = age::open_with(identity, file).map_err(|error| kind.error(error))?;
    read(kind, &plain, moved_pepper_id)
}

/// How a registry names a pepper that came from another one: two registries may use one id.
#[must_use]
pub fn moved_pepper_id(registry_id: &str, pepper_id: &str) -> String {
    format!("{registry_id}.{pepper_id}")
}

impl LocalRegistry {
    /// Seals the registry's peppers under a passphrase and writes down that it was done.
    ///
    /// # Errors
    /// [`EscrowError::WeakPassphrase`]; [`EscrowError::Registry`].
    pub async fn escrow_peppers(
        &self,
        actor: &Actor,
        peppers: &Peppers,
        passphrase: &SecretText,
    ) -> Result<Vec<u8>, EscrowError> {
        let registry_id = self.registry_id().await?;
        check_passphrase(passphrase)?;
        let content = content(Kind::Escrow, peppers, &registry_id, self.now())?;
        let passphrase = passphrase.clone();
        let file = tokio::task::spawn_blocking(move || {
            age::seal_under(&passphrase, age::WORK, content.as_bytes())
        })
        .await
        .ok()
        .flatten()
        .ok_or(EscrowError::Seal)?;
        let summary = "The peppers were sealed under a passphrase, to be kept elsewhere";
        self.note(actor, AuditAction::PeppersEscrowed, summary, Vec::new())
            .await?;
        Ok(file)
    }

    /// Seals the peppers for another registry that takes keys over. It can then judge keys that are
    /// stored under them: hand it over to a registry that may do so.
    ///
    /// # Errors
    /// [`EscrowError::Registry`].
    pub async fn hand_over_peppers(
        &self,
        actor: &Actor,
        peppers: &Peppers,
        recipient: &TransferRecipient,
    ) -> Result<Vec<u8>, EscrowError> {
        let registry_id = self.registry_id().await?;
        let content = content(Kind::Transfer, peppers, &registry_id, self.now())?;
        let file = age::seal_for(recipient, content.as_bytes()).ok_or(EscrowError::Seal)?;
        let details = vec![("recipient", recipient.to_string())];
        let summary = "The peppers were sealed for another registry";
        self.note(actor, AuditAction::PeppersHandedOver, summary, details)
            .await?;
        Ok(file)
    }

    /// Writes one event about the registry itself.
    pub(super) async fn note(
        &self,
        actor: &Actor,
        action: AuditAction,
        summary: &'static str,
        details: Vec<(&'static str, String)>,
    ) -> Result<(), RegistryError> {
        self.write((actor.clone(), details), move |unit, (actor, details)| {
            Box::pin(async move {
                let event = NewEvent::about_registry(action, summary.to_owned());
                let details = details.clone();
                unit.audit(actor, NewEvent { details, ..event });
                Ok(())
            })
        })
        .await
    }
}

/// The text that is sealed. Written by hand into room that is large enough, so that no copy of a
/// pepper stays behind in memory.
fn content(
    kind: Kind,
    peppers: &Peppers,
    registry_id: &str,
    made_at: i64,
) -> Result<Zeroizing<String>, EscrowError> {
    let quoted = |text: &str| serde_json::to_string(text).map_err(|_| EscrowError::Seal);
    let count = peppers.iter().count();
    let ids: usize = peppers.iter().map(|pepper| 6 * pepper.id.len()).sum();
    let room = 300 + 6 * registry_id.len() + ids + count * 120;
    let mut text = Zeroizing::new(String::with_capacity(room));
    let written = write!(
        text,
        "{{\"format\":\"{}\",\"version\":1,\"registry_id\":{},\"made_at\":{made_at},\"peppers\":[",
        kind.format(),
        quoted(registry_id)?
    );
    written.map_err(|_| EscrowError::Seal)?;
    for (index, pepper) in peppers.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let id = quoted(&pepper.id)?;
        write!(text, "{comma}{{\"id\":{id},\"bytes\":\"").map_err(|_| EscrowError::Seal)?;
        let mut digits = Zeroizing::new([0_u8; 64]);
        hex::encode_to_slice(pepper.pepper.expose(), digits.as_mut_slice())
            .map_err(|_| EscrowError::Seal)?;
        text.extend(digits.iter().map(|digit| char::from(*digit)));
        text.push_str("\"}");
    }
    text.push_str("]}");
    Ok(text)
}

/// Borrowed from the opened text: no copy of a pepper's digits is made.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Content<'a> {
    format: &'a str,
    version: u32,
    registry_id: String,
    made_at: i64,
    #[serde(borrow)]
    peppers: Vec<PepperText<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PepperText<'a> {
    id: String,
    bytes: &'a str,
}

fn read(
    kind: Kind,
    plain: &[u8],
    name: impl Fn(&str, &str) -> String,
) -> Result<Escrow, EscrowError> {
    let foreign = || EscrowError::Foreign(kind.name());
    // It is whole, or age would have refused it: what does not read was never ours.
    let content: Content<'_> = serde_json::from_slice(plain).map_err(|_| foreign())?;
    if content.format != kind.format()
        || content.version != 1
        || content.peppers.len() > MAX_PEPPERS
    {
        return Err(foreign());
    }
    let mut peppers: Option<Peppers> = None;
    for text in content.peppers {
        let mut bytes = Zeroizing::new([0_u8; 32]);
        hex::decode_to_slice(text.bytes, bytes.as_mut_slice()).map_err(|_| foreign())?;
        let pepper = PepperKey {
            id: name(&content.registry_id, &text.id),
            pepper: Pepper::from_bytes(*bytes),
        };
        peppers = Some(match peppers {
            None => Peppers::new(pepper),
            Some(peppers) => peppers.with_older(pepper),
        });
    }
    Ok(Escrow {
        registry_id: content.registry_id,
        made_at: content.made_at,
        peppers: peppers.ok_or_else(foreign)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peppers() -> Peppers {
        let key = |id: &str, byte| PepperKey {
            id: id.to_owned(),
            pepper: Pepper::from_bytes([byte; 32]),
        };
        Peppers::new(key("new \"one\"", 9)).with_older(key("old", 7))
    }

    fn secret(text: &str) -> SecretText {
        SecretText::new(text.to_owned())
    }

    fn sealed(passphrase: &str) -> Result<Vec<u8>, EscrowError> {
        seal_with_work(&peppers(), "registry-1", 5, &secret(passphrase), 4)
    }

    #[test]
    fn what_was_sealed_comes_back_in_order() {
        let file = sealed("correct horse battery").expect("sealed");
        let escrow = open_escrow(&file, &secret("correct horse battery")).expect("opened");
        assert_eq!(
            (escrow.registry_id.as_str(), escrow.made_at),
            ("registry-1", 5)
        );
        let found: Vec<_> = escrow
            .peppers
            .iter()
            .map(|one| (one.id.clone(), one.pepper.expose()[0]))
            .collect();
        assert_eq!(
            found,
            [("new \"one\"".to_owned(), 9), ("old".to_owned(), 7)]
        );
    }

    #[test]
    fn weak_passphrases_are_refused() {
        for weak in [
            "",
            "elevenchars",
            "aaaaaaaaaaaaaaaaaaaaaaaa",
            "abababababababab",
        ] {
            assert_eq!(
                sealed(weak).expect_err("weak").code(),
                "weak_passphrase",
                "{weak}"
            );
        }
        assert!(sealed("twelve chars").is_ok());
    }

    #[test]
    fn each_failure_is_told_by_its_name() {
        let file = sealed("correct horse battery").expect("sealed");
        let code = |file: &[u8], passphrase: &str| {
            open_escrow(file, &secret(passphrase))
                .expect_err("refused")
                .code()
        };
        assert_eq!(code(&file, "incorrect horse battery"), "wrong_passphrase");
        assert_eq!(
            code(&file[..file.len() / 2], "correct horse battery"),
            "file_cut_short"
        );
        assert_eq!(
            code(b"{\"peppers\":[]}", "correct horse battery"),
            "file_foreign"
        );
        let mut damaged = file.clone();
        let position = damaged.len() - 60;
        damaged[position] = if damaged[position] == b'A' {
            b'B'
        } else {
            b'A'
        };
        assert_eq!(code(&damaged, "correct horse battery"), "file_damaged");
        let other =
            age::seal_under(&secret("correct horse battery"), 4, b"a recipe").expect("sealed");
        assert_eq!(code(&other, "correct horse battery"), "file_foreign");
    }

    #[test]
    fn a_transfer_is_no_escrow_and_names_peppers_by_where_they_came_from() {
        let identity = TransferIdentity::generate();
        let text = content(Kind::Transfer, &peppers(), "r1", 5).expect("written");
        let file = age::seal_for(&identity.recipient(), text.as_bytes()).expect("sealed");
        let opened = open_transfer(&file, &identity).expect("opened");
        let ids: Vec<_> = opened.peppers.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(ids, ["r1.new \"one\"", "r1.old"]);
        let other = open_transfer(&file, &TransferIdentity::generate());
        assert_eq!(other.expect_err("refused").code(), "wrong_recipient");
        let text = content(Kind::Escrow, &peppers(), "r1", 5).expect("written");
        let file = age::seal_for(&identity.recipient(), text.as_bytes()).expect("sealed");
        assert_eq!(
            open_transfer(&file, &identity).expect_err("refused").code(),
            "file_foreign"
        );
    }

    #[test]
    fn the_room_for_the_text_is_never_outgrown() {
        let text =
            content(Kind::Escrow, &peppers(), &"\u{1}".repeat(50), i64::MIN).expect("written");
        let room = 300 + 6 * 50 + 6 * (9 + 3) + 2 * 120;
        assert!(text.len() <= room);
    }
}
