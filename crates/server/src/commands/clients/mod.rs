//! `keywright-server clients`.

mod add;
mod change;
mod end;
mod registration;
mod secret;
mod show;

use anyhow::Result;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Clients {
    /// Adds an application.
    Add(Box<add::Add>),
    /// Lists applications, one JSON object a line.
    List(show::List),
    /// Shows one application, with its secrets that work now, without the secrets.
    Show(show::Show),
    /// Changes an application; what is left out stays. What it was given stays too: `revoke-tokens`.
    Change(Box<change::Change>),
    /// Gives an application another secret, shown once.
    RotateSecret(secret::RotateSecret),
    /// Ends all that an application was given, and leaves the application.
    RevokeTokens(end::RevokeTokens),
    /// Disables an application: it gets nothing, and all that it was given ends.
    Disable(end::Disable),
    /// Enables an application again; what ended stays so.
    Enable(end::Enable),
    /// Removes an application with its secrets and what people allowed it; all that it was given ends.
    Remove(end::Remove),
    /// Makes a token with which programs register themselves (RFC 7591).
    RegistrationToken(registration::Make),
    /// Lists registration tokens, one JSON object a line.
    RegistrationTokens(registration::List),
    /// Ends a registration token. Applications that were made with it stay.
    EndRegistrationToken(registration::End),
}

impl Clients {
    pub(crate) async fn run(self) -> Result<()> {
        match self {
            Self::Add(add) => add.run().await,
            Self::List(list) => list.run().await,
            Self::Show(show) => show.run().await,
            Self::Change(change) => change.run().await,
            Self::RotateSecret(rotate) => rotate.run().await,
            Self::RevokeTokens(revoke) => revoke.run().await,
            Self::Disable(disable) => disable.run().await,
            Self::Enable(enable) => enable.run().await,
            Self::Remove(remove) => remove.run().await,
            Self::RegistrationToken(make) => make.run().await,
            Self::RegistrationTokens(list) => list.run().await,
            Self::EndRegistrationToken(end) => end.run().await,
        }
    }
}
