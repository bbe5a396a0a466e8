//! `keywright-server keys scan`: looks for keys of ours in files and in what is piped in. It needs no data
//! folder, no database and no network: a key is told from a look-alike by its checksum.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use keywright_domain::api_keys::exposure::{Found, find_keys, redact};
use keywright_domain::api_keys::format::MAX_KEY_LENGTH;
use serde_json::json;

/// Bytes that are read at a time.
const BLOCK: usize = 64 * 1024;
/// What is looked at again with the next block: a key may lie across both.
const CARRIED: usize = MAX_KEY_LENGTH - 1;

/// What is done about keys where they lie.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum KeysCommand {
    /// Looks for keys in files, folders and standard input.
    Scan(Scan),
}

impl KeysCommand {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        match self {
            Self::Scan(scan) => scan.run().await,
        }
    }
}

/// Looks for keys of ours, whatever registry they are of, and prints one JSON object for each: file, line and
/// what may be shown of the key, never the whole of it. Exit code 1 where one was found; else 2 where
/// something could not be read.
///
/// A git history: `git log -p --all --text | keywright-server keys scan -`. Links are not followed, and
/// packed or encoded content is not unpacked.
#[derive(Debug, clap::Args)]
pub(crate) struct Scan {
    /// Files, folders with all that is in them, or `-` for standard input.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
}

impl Scan {
    async fn run(self) -> Result<ExitCode> {
        let counted = tokio::task::spawn_blocking(move || {
            let mut scanner = Scanner::default();
            for path in &self.paths {
                scanner.look_at(path);
            }
            scanner
        });
        let Scanner {
            files,
            found,
            unread,
        } = counted.await?;
        eprintln!("{found} found in {files} files; {unread} could not be read");
        Ok(match (found, unread) {
            (0, 0) => ExitCode::SUCCESS,
            (0, _) => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        })
    }
}

/// What was looked at so far.
#[derive(Default)]
struct Scanner {
    files: u64,
    found: u64,
    unread: u64,
}

impl Scanner {
    /// One that was named: whatever it is, as a pipe of the shell's is no ordinary file.
    fn look_at(&mut self, path: &Path) {
        if path.as_os_str() == "-" {
            self.read(path, io::stdin());
        } else if path.is_dir() {
            self.look_into(path);
        } else {
            self.open(path);
        }
    }

    /// A folder and those in it. Links lead to what is looked at elsewhere, or in circles; pipes and
    /// devices have no end.
    fn look_into(&mut self, folder: &Path) {
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) => {
                    self.failed(&folder, &error);
                    continue;
                }
            };
            for entry in entries {
                let entry = match entry.and_then(|entry| Ok((entry.path(), entry.file_type()?))) {
                    Ok(entry) => entry,
                    Err(error) => {
                        self.failed(&folder, &error);
                        continue;
                    }
                };
                match entry {
                    (path, kind) if kind.is_dir() => folders.push(path),
                    (path, kind) if kind.is_file() => self.open(&path),
                    _ => {}
                }
            }
        }
    }

    fn open(&mut self, path: &Path) {
        match File::open(path) {
            Ok(file) => self.read(path, file),
            Err(error) => self.failed(path, &error),
        }
    }

    fn read(&mut self, path: &Path, reader: impl Read) {
        self.files += 1;
        let name = redact(&path.display().to_string()).into_owned();
        let mut count = 0;
        let read = scan(reader, |line, found| {
            count += 1;
            let shown = format!("{}_{}…", found.prefix, found.kid);
            let told =
                json!({ "file": name, "line": line, "key": shown, "kid": found.kid.as_str() });
            // Whoever reads this may have enough of it.
            let _ = writeln!(io::stdout(), "{told}");
        });
        self.found += count;
        if let Err(error) = read {
            self.failed(path, &error);
        }
    }

    fn failed(&mut self, path: &Path, error: &io::Error) {
        self.unread += 1;
        eprintln!("{}: {error}", redact(&path.display().to_string()));
    }
}

/// Tells of every key in a text, with its line from 1. In memory is one block of it.
fn scan(mut reader: impl Read, mut tell: impl FnMut(u64, &Found)) -> io::Result<()> {
    let mut window = Vec::with_capacity(CARRIED + BLOCK);
    // Of the window: how much was looked at before, and the line it begins with.
    let (mut known, mut line) = (0, 1_u64);
    loop {
        let taken = reader
            .by_ref()
            .take(BLOCK as u64)
            .read_to_end(&mut window)?;
        if taken == 0 {
            return Ok(());
        }
        // A key has letters of ASCII alone: others keep their place and are none.
        let text = window.iter().map(|byte| match byte {
            0..=0x7f => char::from(*byte),
            _ => '\0',
        });
        let text: String = text.collect();
        for found in find_keys(&text) {
            if found.range.end > known {
                tell(line + lines(&window[..found.range.start]), &found);
            }
        }
        known = window.len().min(CARRIED);
        let gone = window.len() - known;
        line += lines(&window[..gone]);
        window.drain(..gone);
    }
}

fn lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use keywright_domain::api_keys::{PlainKey, Prefix};

    use super::*;

    /// Gives its bytes a few at a time.
    struct Slowly<'a>(&'a [u8], usize);

    impl Read for Slowly<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(self.1).min(into.len());
            into[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    #[test]
    fn ac_149_a_key_is_found_once_wherever_the_blocks_of_a_file_end() {
        let prefix = Prefix::new("acme_live").unwrap();
        let key = PlainKey::generate(&prefix, &mut rand::rng());
        let key_text = key.text().expose();
        // Around the end of the first block, and of the second, which begins with what was carried.
        for before in (BLOCK - 100..=BLOCK + 2).chain(2 * BLOCK - 80..2 * BLOCK + 2) {
            let mut text = vec![b'\n'; 3];
            text.extend(vec![0xff; before - 3]);
            text.extend(key_text.as_bytes());
            text.extend(b"\n ");
            text.extend(key_text.as_bytes());
            let mut seen = Vec::new();
            scan(Slowly(&text, 5000), |line, found| {
                assert_eq!(found.kid, *key.kid());
                assert_eq!(found.prefix, prefix);
                seen.push(line);
            })
            .unwrap();
            assert_eq!(seen, [4, 5], "{before}");
        }
    }
}
