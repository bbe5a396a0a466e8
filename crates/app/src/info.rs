//! What the app knows about itself and its surroundings.

use keywright_protocol::ErrorView;
use keywright_protocol::settings::{AppInfoView, RegistryView};

use crate::{App, AppError};

impl App {
    /// The app and its surroundings. Answers even when the registry is broken.
    ///
    /// # Errors
    /// None today; faces treat every command alike.
    pub async fn app_info(&self) -> Result<AppInfoView, AppError> {
        let home = &self.inner.home;
        Ok(AppInfoView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            home: home.folder().display().to_string(),
            home_from_environment: home.is_from_environment(),
            log_file: home.log_file().display().to_string(),
            registry: self.registry_view().await,
            first_paint_ms: self.inner.first_paint_ms.get().copied(),
            platform: std::env::consts::OS.to_owned(),
        })
    }

    /// Opens the registry file again after a failure.
    ///
    /// # Errors
    /// None: what is wrong stands in the view.
    pub async fn retry_registry(&self) -> Result<RegistryView, AppError> {
        if self.inner.registry.retry().await.is_ok() {
            self.start_what_needs_the_registry();
        }
        Ok(self.registry_view().await)
    }

    /// The window has painted its first frame.
    ///
    /// # Errors
    /// None today; faces treat every command alike.
    pub fn window_painted(&self) -> Result<(), AppError> {
        let elapsed = i64::try_from(self.inner.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        if self.inner.first_paint_ms.set(elapsed).is_ok() {
            tracing::info!("first_paint_ms={elapsed}");
        }
        Ok(())
    }

    async fn registry_view(&self) -> RegistryView {
        let path = self.inner.registry.file().display().to_string();
        let opened: Result<(i64, i64), AppError> = async {
            let registry = self.inner.registry.get().await?;
            let size = i64::try_from(registry.size_bytes().await?).unwrap_or(i64::MAX);
            Ok((size, registry.schema_version().await?))
        }
        .await;
        match opened {
            Ok((size_bytes, schema_version)) => RegistryView {
                path,
                size_bytes,
                schema_version,
                healthy: true,
                problem: None,
            },
            Err(error) => RegistryView {
                path,
                size_bytes: 0,
                schema_version: 0,
                healthy: false,
                problem: Some(ErrorView::from(error)),
            },
        }
    }
}
