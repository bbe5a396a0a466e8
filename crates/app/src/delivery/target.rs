//! The kinds of targets, checked, and what each of them can do: tell what it held, take the secret,
//! give it back, be put back.

use std::fmt;
use std::path::{Path, PathBuf};

use keywright_domain::SecretText;
use keywright_protocol::api_keys::{CommandRequest, DeliveryTarget};
use zeroize::Zeroizing;

use super::command::{self, CommandLine};
use super::{DeliveryError, Reason, dot_env, file};
use crate::secret_store::{EntryName, Keychain};

/// Longest path, name or argument.
const LONGEST: usize = 4096;
/// Most arguments of a command.
const MOST_ARGUMENTS: usize = 64;

/// A target that keeps the rules.
#[derive(Debug)]
pub(super) enum Target {
    Keychain(EntryName),
    DotEnv {
        file: PathBuf,
        variable: String,
    },
    File {
        file: PathBuf,
    },
    Command {
        run: CommandLine,
        check: Option<CommandLine>,
    },
}

/// What a target held before.
pub(super) enum Former {
    /// Nothing was there.
    Absent,
    /// A keychain entry.
    Entry(SecretText),
    /// A file, with its permissions.
    File(file::Content),
    /// Nobody can tell: what a command did stays done.
    Unknown,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keychain(name) => {
                write!(f, "the keychain entry “{}” of {}", name.user, name.service)
            }
            Self::DotEnv { file, variable } => write!(f, "{variable} in {}", file.display()),
            Self::File { file } => write!(f, "the file {}", file.display()),
            Self::Command { run, .. } => write!(f, "the program {}", run.program.display()),
        }
    }
}

impl Target {
    /// Checks what was asked for. `own_folder` and `own_service` belong to this app and are never
    /// written to.
    pub(super) fn check(
        asked: DeliveryTarget,
        secret: &SecretText,
        own_folder: &Path,
        own_service: &str,
    ) -> Result<Self, DeliveryError> {
        match asked {
            DeliveryTarget::Keychain { service, username } => {
                let what = "the keychain entry";
                let own = service.trim() == own_service || service.starts_with("dev.keywright.");
                refuse(what, own, "this service name is Keywright's own")?;
                Ok(Self::Keychain(EntryName {
                    service: name(what, "a service name", service)?,
                    user: name(what, "a user name", username)?,
                }))
            }
            DeliveryTarget::DotEnv { path, variable } => {
                let what = "the .env entry";
                let variable = variable.trim().to_owned();
                let wrong = !dot_env::is_variable(&variable);
                let rule = "a variable has letters, digits and _ and does not begin with a digit";
                refuse(what, wrong, rule)?;
                let file = place(what, &path, own_folder)?;
                Ok(Self::DotEnv { file, variable })
            }
            DeliveryTarget::File { path } => Ok(Self::File {
                file: place("the file", &path, own_folder)?,
            }),
            DeliveryTarget::Command { run, check } => Ok(Self::Command {
                run: command_line(run, secret)?,
                check: check.map(|check| command_line(check, secret)).transpose()?,
            }),
        }
    }

    pub(super) fn is_command(&self) -> bool {
        matches!(self, Self::Command { .. })
    }

    /// What it holds now.
    pub(super) async fn former(&self, keychain: &Keychain) -> Result<Former, Reason> {
        match self {
            Self::Keychain(name) => {
                let held = keychain.read_entry(name).await.map_err(|e| e.to_string())?;
                Ok(held.map_or(Former::Absent, Former::Entry))
            }
            Self::DotEnv { file, .. } | Self::File { file } => {
                Ok(file::read(file).await?.map_or(Former::Absent, Former::File))
            }
            Self::Command { .. } => Ok(Former::Unknown),
        }
    }

    pub(super) async fn write(
        &self,
        keychain: &Keychain,
        secret: &SecretText,
    ) -> Result<(), Reason> {
        match self {
            Self::Keychain(name) => {
                let written = keychain.write_entry(name, secret).await;
                written.map_err(|error| error.to_string())
            }
            Self::DotEnv { file, variable } => {
                let held = file::read(file).await?;
                let (bytes, mode) = match held {
                    Some(held) => (held.bytes, held.mode),
                    None => (Zeroizing::default(), file::PRIVATE),
                };
                let edited = dot_env::set(&bytes, variable, secret.expose());
                file::replace(file, Zeroizing::new(edited), mode).await
            }
            Self::File { file } => {
                let bytes = Zeroizing::new(secret.expose().as_bytes().to_vec());
                file::replace(file, bytes, file::PRIVATE).await
            }
            Self::Command { run, .. } => command::feed(run, secret).await,
        }
    }

    /// What it holds, for comparison; none where it cannot be asked.
    pub(super) async fn read_back(
        &self,
        keychain: &Keychain,
    ) -> Result<Option<SecretText>, Reason> {
        let nothing = || "there is nothing to be read back".to_owned();
        match self {
            Self::Keychain(name) => {
                let held = keychain.read_entry(name).await.map_err(|e| e.to_string())?;
                Ok(Some(held.ok_or_else(nothing)?))
            }
            Self::DotEnv { file, variable } => {
                let held = file::read(file).await?.ok_or_else(nothing)?;
                let value = dot_env::find(&held.bytes, variable).ok_or_else(nothing)?;
                text(Zeroizing::new(value.to_vec())).map(Some)
            }
            Self::File { file } => {
                let held = file::read(file).await?.ok_or_else(nothing)?;
                text(held.bytes).map(Some)
            }
            Self::Command { check: None, .. } => Ok(None),
            Self::Command {
                check: Some(check), ..
            } => command::ask(check).await.map(Some),
        }
    }

    /// Puts back what it held before.
    pub(super) async fn restore(&self, keychain: &Keychain, former: Former) -> Result<(), Reason> {
        let restored = match (self, former) {
            (Self::Keychain(name), Former::Entry(secret)) => {
                let written = keychain.write_entry(name, &secret).await;
                written.map_err(|error| error.to_string())
            }
            (Self::Keychain(name), Former::Absent) => {
                let deleted = keychain.delete_entry(name).await;
                deleted.map(drop).map_err(|error| error.to_string())
            }
            (Self::DotEnv { file, .. } | Self::File { file }, Former::File(held)) => {
                file::replace(file, held.bytes, held.mode).await
            }
            (Self::DotEnv { file, .. } | Self::File { file }, Former::Absent) => {
                file::remove(file).await
            }
            _ => Err("what a program did cannot be undone from here".to_owned()),
        };
        restored.map_err(|why| format!("it could not be put back: {why}"))
    }
}

fn text(mut bytes: Zeroizing<Vec<u8>>) -> Result<SecretText, Reason> {
    match String::from_utf8(std::mem::take(&mut *bytes)) {
        Ok(text) => Ok(SecretText::new(text)),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err("what was read back is not text".to_owned())
        }
    }
}

fn refuse(target: &str, wrong: bool, reason: &str) -> Result<(), DeliveryError> {
    if wrong {
        return Err(DeliveryError::Target {
            target: target.to_owned(),
            reason: reason.to_owned(),
        });
    }
    Ok(())
}

fn name(target: &str, what: &str, text: String) -> Result<String, DeliveryError> {
    let text = text.trim().to_owned();
    let wrong = text.is_empty() || text.chars().count() > 200 || text.contains(char::is_control);
    let rule = format!("{what} has 1 to 200 characters and no line breaks");
    refuse(target, wrong, &rule).map(|()| text)
}

/// An absolute path outside this app's own folder.
fn place(target: &str, text: &str, own_folder: &Path) -> Result<PathBuf, DeliveryError> {
    let path = PathBuf::from(text.trim());
    let unusable = text.len() > LONGEST || text.contains(char::is_control);
    refuse(target, unusable, "this path cannot be used")?;
    refuse(
        target,
        !path.is_absolute(),
        "write the whole path, from the root",
    )?;
    refuse(
        target,
        path.file_name().is_none(),
        "this path names no file",
    )?;
    // A link to the file stays a link; what it leads to is replaced.
    let path = path.canonicalize().unwrap_or(path);
    let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
    refuse(target, folder.is_none(), "its folder does not exist")?;
    let own = folder.is_some_and(|folder| folder.starts_with(own_folder));
    refuse(target, own, "this folder is Keywright's own")?;
    refuse(target, path.is_dir(), "this is a folder")?;
    Ok(path)
}

fn command_line(asked: CommandRequest, secret: &SecretText) -> Result<CommandLine, DeliveryError> {
    let what = "the program";
    let program = PathBuf::from(asked.program.trim());
    refuse(
        what,
        !program.is_absolute(),
        "write the whole path, from the root",
    )?;
    refuse(what, !program.is_file(), "there is no such file")?;
    let many = asked.arguments.len() > MOST_ARGUMENTS;
    refuse(what, many, "these are too many arguments")?;
    let mut arguments = asked.arguments.iter();
    let leaks = arguments.any(|argument| argument.contains(secret.expose()));
    let rule = "the secret may not be an argument: every program of this machine could read it";
    refuse(what, leaks, rule)?;
    let mut arguments = asked.arguments.iter();
    let unusable = arguments.any(|argument| argument.len() > LONGEST || argument.contains('\0'));
    refuse(what, unusable, "an argument cannot be used")?;
    Ok(CommandLine {
        program,
        arguments: asked.arguments,
    })
}
