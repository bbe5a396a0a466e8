//! Stores that hang, refuse and vanish, without a Secret Service. The real one is in tests/oauth.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use keyring_core::api::{Credential, CredentialApi, CredentialStoreApi};
use keyring_core::{CredentialStore, Entry, Error, Result};
use keywright_domain::SecretText;

use super::{Keychain, KeychainError};

/// A keychain in memory that can be told to misbehave.
#[derive(Default)]
struct Fake {
    entries: Mutex<HashMap<String, Vec<u8>>>,
    hang: AtomicBool,
    locked: AtomicBool,
    asked: AtomicUsize,
    fail_once: Mutex<Option<Error>>,
    opened: AtomicUsize,
}

struct FakeStore(Arc<Fake>);
struct FakeEntry(Arc<Fake>, String);

impl FakeEntry {
    fn pass(&self) -> Result<()> {
        while self.0.hang.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        if self.0.locked.load(Ordering::SeqCst) {
            return Err(platform("object locked"));
        }
        match self.0.fail_once.lock().map_err(|_| Error::NoEntry)?.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

impl CredentialApi for FakeEntry {
    fn set_secret(&self, secret: &[u8]) -> Result<()> {
        self.pass()?;
        self.0
            .entries
            .lock()
            .map_err(|_| Error::NoEntry)?
            .insert(self.1.clone(), secret.to_vec());
        Ok(())
    }
    fn get_secret(&self) -> Result<Vec<u8>> {
        self.pass()?;
        self.0
            .entries
            .lock()
            .map_err(|_| Error::NoEntry)?
            .get(&self.1)
            .cloned()
            .ok_or(Error::NoEntry)
    }
    fn delete_credential(&self) -> Result<()> {
        self.pass()?;
        let removed = self
            .0
            .entries
            .lock()
            .map_err(|_| Error::NoEntry)?
            .remove(&self.1);
        removed.map(drop).ok_or(Error::NoEntry)
    }
    fn get_credential(&self) -> Result<Option<Arc<Credential>>> {
        Ok(None)
    }
    fn get_specifiers(&self) -> Option<(String, String)> {
        None
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl CredentialStoreApi for FakeStore {
    fn vendor(&self) -> String {
        "fake".to_owned()
    }
    fn id(&self) -> String {
        "fake".to_owned()
    }
    fn build(&self, service: &str, user: &str, _: Option<&HashMap<&str, &str>>) -> Result<Entry> {
        Ok(Entry::new_with_credential(Arc::new(FakeEntry(
            Arc::clone(&self.0),
            format!("{service}/{user}"),
        ))))
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn keychain(fake: &Arc<Fake>) -> Keychain {
    let fake = Arc::clone(fake);
    Keychain::with_store(
        "test".to_owned(),
        Arc::new(move || {
            fake.opened.fetch_add(1, Ordering::SeqCst);
            Ok(Arc::new(FakeStore(Arc::clone(&fake))) as Arc<CredentialStore>)
        }),
    )
}

/// A healthy keychain for the tests of other rooms.
pub(crate) fn in_memory() -> Keychain {
    keychain(&Arc::default())
}

/// A keychain that stays locked, and how often it was asked.
pub(crate) fn locked() -> (Keychain, impl Fn() -> usize) {
    let fake = Arc::new(Fake::default());
    fake.locked.store(true, Ordering::SeqCst);
    let keychain = keychain(&fake);
    (keychain, move || fake.asked.load(Ordering::SeqCst))
}

/// A system without a keychain, for the tests of other rooms; a person may choose an encrypted file.
pub(crate) fn unavailable(vault_file: std::path::PathBuf) -> Keychain {
    let open = || -> Result<Arc<CredentialStore>> {
        Err(platform("no secret service provider or dbus session found"))
    };
    let vault = Some(super::Vault::new(vault_file));
    Keychain::assemble("test".to_owned(), Arc::new(open), vault)
}

fn secret(text: &str) -> SecretText {
    SecretText::new(text.to_owned())
}

fn platform(text: &'static str) -> Error {
    Error::PlatformFailure(text.into())
}

#[tokio::test]
async fn write_read_delete() -> std::result::Result<(), KeychainError> {
    let fake = Arc::new(Fake::default());
    let keychain = keychain(&fake);
    assert!(keychain.read("a").await?.is_none());
    keychain.write("a", &secret("one")).await?;
    keychain.write("b", &secret("two")).await?;
    assert!(keychain.read("a").await?.is_some_and(|s| s.matches("one")));
    assert!(keychain.delete("a").await? && !keychain.delete("a").await?);
    assert!(keychain.read("b").await?.is_some_and(|s| s.matches("two")));
    assert!(keychain.probe().await.healthy);
    assert_eq!(
        fake.entries.lock().map(|e| e.len()).unwrap_or(0),
        1,
        "probe and unlock leave nothing"
    );
    Ok(())
}

#[tokio::test]
async fn ac_160_a_hanging_dialog_costs_three_seconds_once() {
    let fake = Arc::new(Fake::default());
    fake.hang.store(true, Ordering::SeqCst);
    let keychain = keychain(&fake);
    let started = Instant::now();
    assert_eq!(keychain.read("a").await.err(), Some(KeychainError::Locked));
    assert!(started.elapsed() < Duration::from_millis(3500));
    let again = Instant::now();
    assert_eq!(keychain.read("a").await.err(), Some(KeychainError::Locked));
    assert!(
        again.elapsed() < Duration::from_millis(100),
        "refused at once while a thread hangs"
    );
    fake.hang.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(
        keychain.read("a").await.is_ok(),
        "works as soon as the dialog is gone"
    );
}

#[tokio::test]
async fn ac_160_a_given_up_write_does_not_happen_later() {
    let fake = Arc::new(Fake::default());
    fake.hang.store(true, Ordering::SeqCst);
    let keychain = keychain(&fake);
    assert_eq!(
        keychain.write("a", &secret("stale")).await.err(),
        Some(KeychainError::Locked)
    );
    fake.hang.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(keychain.read("a").await.is_ok_and(|s| s.is_none()));
}

#[tokio::test]
async fn a_restarted_service_costs_one_retry() {
    let fake = Arc::new(Fake::default());
    let keychain = keychain(&fake);
    assert!(keychain.read("a").await.is_ok());
    if let Ok(mut fail) = fake.fail_once.lock() {
        *fail = Some(platform(
            "org.freedesktop.DBus.Error.UnknownMethod: no such session",
        ));
    }
    assert!(keychain.read("a").await.is_ok());
    assert_eq!(fake.opened.load(Ordering::SeqCst), 2);
}

#[test]
fn ac_161_causes_have_codes() {
    let code = |text: &'static str, at_once| {
        KeychainError::from_store(&platform(text), "s", "u", at_once).code()
    };
    assert_eq!(code("SS error: prompt dismissed", false), "keychain_denied");
    assert_eq!(code("SS error: prompt dismissed", true), "keychain_locked");
    assert_eq!(code("SS Error: object locked", false), "keychain_locked");
    assert_eq!(
        code("no secret service provider or dbus session found", true),
        "keychain_unavailable"
    );
    assert_eq!(
        code(
            "zbus error: org.freedesktop.DBus.Error.ServiceUnknown: x",
            true
        ),
        "keychain_unavailable"
    );
    assert_eq!(code("zbus error: something else", true), "keychain_failed");
}

#[test]
fn ac_166_ambiguous_entries_are_named() {
    let error = KeychainError::from_store(&Error::Ambiguous(Vec::new()), "svc", "refresh:x", true);
    assert_eq!(error.code(), "keychain_ambiguous");
    assert!(error.to_string().contains("refresh:x") && error.to_string().contains("svc"));
}
