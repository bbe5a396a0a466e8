//! Any bytes under a passphrase, as one file in age's format: what a server's backup is. All of it is
//! in memory meanwhile.

use keywright_domain::SecretText;
use zeroize::Zeroizing;

use super::age::{self, AgeError};
use super::escrow::{EscrowError, check_passphrase};

/// Largest file, in bytes.
pub const MAX_ARCHIVE: usize = 4 * 1024 * 1024 * 1024;
const NAME: &str = "a sealed backup of Keywright";

/// Seals bytes. Takes about a second and 256 MiB more than the bytes need.
///
/// # Errors
/// [`EscrowError::WeakPassphrase`].
pub fn seal_archive(plain: &[u8], passphrase: &SecretText) -> Result<Vec<u8>, EscrowError> {
    seal_with_work(plain, passphrase, age::WORK)
}

fn seal_with_work(
    plain: &[u8],
    passphrase: &SecretText,
    work: u8,
) -> Result<Vec<u8>, EscrowError> {
    check_passphrase(passphrase)?;
    age::seal_under(passphrase, work, plain).ok_or(EscrowError::Seal)
}

/// Opens what [`seal_archive`] made.
///
/// # Errors
/// [`EscrowError`], a different one for each way in which a file is no good.
pub fn open_archive(
    file: &[u8],
    passphrase: &SecretText,
) -> Result<Zeroizing<Vec<u8>>, EscrowError> {
    age::open_large_under(passphrase, file, MAX_ARCHIVE).map_err(|error| match error {
        AgeError::Foreign | AgeError::OtherKind => EscrowError::Foreign(NAME),
        AgeError::CutShort => EscrowError::CutShort,
        AgeError::Damaged => EscrowError::Damaged,
        AgeError::WrongKey => EscrowError::WrongPassphrase,
        AgeError::TooCostly => EscrowError::TooCostly,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_an_escrow_file_holds_comes_back_and_damage_is_told() {
        let passphrase = SecretText::new("correct horse battery".into());
        let plain: Vec<u8> = (0..2_000_000_u32).flat_map(u32::to_be_bytes).collect();
        let file = seal_with_work(&plain, &passphrase, 4).expect("sealed");
        assert_eq!(*open_archive(&file, &passphrase).expect("opened"), plain);
        let other = SecretText::new("incorrect horse battery".into());
        let code = |file: &[u8], word| open_archive(file, word).expect_err("refused").code();
        assert_eq!(code(&file, &other), "wrong_passphrase");
        assert_eq!(code(&file[..file.len() / 2], &passphrase), "file_cut_short");
        assert_eq!(code(b"no archive", &passphrase), "file_foreign");
        let weak = SecretText::new("short".into());
        assert!(seal_with_work(b"x", &weak, 4).is_err());
    }
}
