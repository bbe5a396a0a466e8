//! The registry of this device, opened when first asked for. A failure is remembered, so that
//! every page tells the same story until the person tries again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use keywright_registry::{Clock, LocalRegistry, RegistryError};
use tokio::sync::Mutex;

use crate::AppError;

pub(crate) struct RegistrySlot {
    file: PathBuf,
    state: Mutex<State>,
}

enum State {
    Unopened,
    Open(LocalRegistry),
    Failed(Arc<RegistryError>),
    Closed,
}

impl RegistrySlot {
    pub(crate) fn new(file: PathBuf) -> Self {
        Self {
            file,
            state: Mutex::new(State::Unopened),
        }
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    pub(crate) async fn get(&self) -> Result<LocalRegistry, AppError> {
        let mut state = self.state.lock().await;
        if matches!(*state, State::Unopened) {
            *state = self.open().await;
        }
        match &*state {
            State::Open(registry) => Ok(registry.clone()),
            State::Failed(error) => Err(AppError::Registry(Arc::clone(error))),
            State::Unopened | State::Closed => {
                Err(RegistryError::Store("the app is closing".to_owned()).into())
            }
        }
    }

    /// Opens again after a failure.
    pub(crate) async fn retry(&self) -> Result<LocalRegistry, AppError> {
        let mut state = self.state.lock().await;
        if matches!(*state, State::Failed(_)) {
            *state = State::Unopened;
        }
        drop(state);
        self.get().await
    }

    pub(crate) async fn close(&self) {
        let state = std::mem::replace(&mut *self.state.lock().await, State::Closed);
        if let State::Open(registry) = state {
            registry.close().await;
        }
    }

    async fn open(&self) -> State {
        match LocalRegistry::open(&self.file, Clock::system()).await {
            Ok(registry) => State::Open(registry),
            Err(error) => State::Failed(Arc::new(error)),
        }
    }
}
