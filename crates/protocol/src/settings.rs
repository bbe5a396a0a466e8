//! Settings, and what the app knows about its own surroundings.

use serde::{Deserialize, Serialize};
use specta::Type;

use crate::ErrorView;

/// Colour scheme.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum Theme {
    /// As the desktop says.
    #[default]
    System,
    /// Light.
    Light,
    /// Dark.
    Dark,
}

/// What a person can set. One file: `settings.json` in the app's folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Settings {
    /// Colour scheme.
    pub theme: Theme,
    /// How long a sign-in waits for the browser, 30 to 600 s.
    pub sign_in_timeout_s: u32,
    /// A fixed port for the sign-in's answer; absent lets the system choose (RFC 8252 §7.3).
    pub callback_port: Option<u16>,
    /// PEM file with certificates to trust besides the system's.
    pub extra_ca_file: Option<String>,
    /// When a copied secret leaves the clipboard, 5 to 300 s.
    pub clipboard_clear_s: u32,
    /// Preselected life of a new key, 1 to 365 days.
    pub default_key_lifetime_days: u32,
    /// Preselected overlap of a rotation, 0 to 30 days, in milliseconds.
    pub default_overlap_ms: i64,
    /// Whether keys without an expiry may be issued.
    pub allow_never_expires: bool,
    /// Account whose server's registry is in use; absent for the registry of this device.
    pub registry_account: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            theme: Theme::System,
            sign_in_timeout_s: 300,
            callback_port: None,
            extra_ca_file: None,
            clipboard_clear_s: 30,
            default_key_lifetime_days: 90,
            default_overlap_ms: 24 * 60 * 60 * 1000,
            allow_never_expires: false,
            registry_account: None,
        }
    }
}

/// Whether an encrypted file stands in for a keychain that this system does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum VaultState {
    /// No: nobody chose it.
    #[default]
    Absent,
    /// Yes, and its passphrase is needed.
    Locked,
    /// Yes, and it is open.
    Open,
}

/// A passphrase on its way in.
#[derive(Clone, Deserialize, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct PassphraseRequest {
    /// What was typed.
    pub passphrase: String,
}

/// Makes an encrypted file in place of a keychain that this system does not have.
#[derive(Clone, Deserialize, Serialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct CreateVaultRequest {
    /// What was typed.
    pub passphrase: String,
    /// How many keys of this device end, as the person was told: their pepper is in a keychain that is not
    /// there. Absent where the person was told of none; more are not ended.
    pub keys: Option<i64>,
}

/// How the keychain answered a probe (a write, a read and a delete).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct KeychainView {
    /// "Secret Service", "Keychain", "Credential Manager", "Encrypted file".
    pub store_name: String,
    /// Whether an encrypted file stands in for the keychain.
    pub vault: VaultState,
    /// Whether it works, and holds the pepper of this device's registry if there is one.
    pub healthy: bool,
    /// What is wrong: `keychain_locked`, `keychain_denied`, `keychain_unavailable`, `keychain_ambiguous`,
    /// `pepper_missing`.
    pub problem: Option<ErrorView>,
    /// How long the probe took.
    pub took_ms: i64,
}

/// Whether the pepper of this device's registry is lost, and what that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct LostPepperView {
    /// Whether the registry names a pepper that the keychain does not hold.
    pub lost: bool,
    /// How many keys that work now end with it.
    pub keys: i64,
}

/// Starts with a new pepper where the old one is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct NewPepperRequest {
    /// How many keys end, as the person was told: more are not ended.
    pub keys: i64,
}

/// The registry file of this device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct RegistryView {
    /// Where the file is.
    pub path: String,
    /// Its size in bytes, with its write-ahead log.
    pub size_bytes: i64,
    /// Its schema's version.
    pub schema_version: i64,
    /// Whether it can be used.
    pub healthy: bool,
    /// What is wrong: `registry_read_only`, `registry_locked`, `schema_too_new`, `registry_damaged`.
    pub problem: Option<ErrorView>,
}

/// About the app and its surroundings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "camelCase")]
pub struct AppInfoView {
    /// Version of the app.
    pub version: String,
    /// Folder that holds all of its files (`KEYWRIGHT_HOME`, or the user's data folder).
    pub home: String,
    /// Whether `KEYWRIGHT_HOME` chose it.
    pub home_from_environment: bool,
    /// Where the log is.
    pub log_file: String,
    /// The registry.
    pub registry: RegistryView,
    /// From the process's start to the first painted frame.
    pub first_paint_ms: Option<i64>,
    /// `linux`, `macos`, `windows`.
    pub platform: String,
}
