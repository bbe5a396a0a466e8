//! What leaves a registry and what comes into one: foreign hashes, exports without secrets, backups,
//! peppers in escrow, and keys that move to another registry.

mod age;
mod archive;
mod backup;
mod escrow;
mod exports;
mod import_lines;
mod imports;
mod promotion;
mod promotion_bundle;

pub use age::{TransferIdentity, TransferRecipient};
pub use archive::{MAX_ARCHIVE, open_archive, seal_archive};
pub use backup::{BackupError, BackupManifest, RestoreReport};
pub use escrow::{
    Escrow, EscrowError, MIN_PASSPHRASE, moved_pepper_id, open_escrow, open_transfer, seal_escrow,
};
pub(crate) use exports::EXPORTS;
pub use exports::{ExportSummary, RegistryExportError};
pub use import_lines::{ImportError, ImportFormat, MAX_IMPORT_BYTES};
pub use imports::{Import, ImportOptions, ImportReport, ImportedKey, RefusedLine};
pub(crate) use promotion::end_copy;
pub use promotion::{AcceptOptions, AcceptReport};
pub use promotion_bundle::{PromotionBundle, PromotionError, PromotionRefused};
