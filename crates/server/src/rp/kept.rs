//! What a trip keeps for the way back, sealed: the PKCE verifier, and whether its person had to prove
//! anew who they are.

use keywright_domain::SecretText;
use keywright_domain::people::Sealed;
use keywright_domain::pkce::PkceVerifier;
use zeroize::Zeroizing;

use crate::server::App;

const PURPOSE: &str = "login verifier";
/// Behind the verifier, which has no spaces.
const AGAIN: &str = " again";

/// What is kept.
pub(super) struct Kept {
    /// `code_verifier`.
    pub(super) verifier: SecretText,
    /// Asked with `prompt=login`.
    pub(super) again: bool,
}

impl Kept {
    /// Of a trip that begins.
    pub(super) fn of(verifier: &PkceVerifier, again: bool) -> Self {
        Self {
            verifier: SecretText::new(verifier.secret().expose().to_owned()),
            again,
        }
    }

    /// For the registry.
    pub(super) fn seal(&self, app: &App) -> Sealed {
        let mark = if self.again { AGAIN } else { "" };
        let plain = Zeroizing::new(format!("{}{mark}", self.verifier.expose()));
        app.secrets.seal(PURPOSE, plain.as_bytes())
    }

    /// From the registry; none for what is not ours.
    pub(super) fn open(app: &App, sealed: &Sealed) -> Option<Self> {
        let plain = app.secrets.unseal(PURPOSE, sealed).ok()?;
        let text = std::str::from_utf8(&plain).ok()?;
        let verifier = text.strip_suffix(AGAIN);
        Some(Self {
            again: verifier.is_some(),
            verifier: SecretText::new(verifier.unwrap_or(text).to_owned()),
        })
    }
}
