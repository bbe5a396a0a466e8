//! The file that lets only our own programs onto the virtual display.

use std::{fs, io::Read, os::unix::fs::OpenOptionsExt, path::Path};

use anyhow::Result;

/// Writes an X authority file with a random cookie that fits every display.
pub(crate) fn write(path: &Path) -> Result<()> {
    let mut cookie = [0; 16];
    fs::File::open("/dev/urandom")?.read_exact(&mut cookie)?;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    std::io::Write::write_all(&mut file, &entry(&cookie))?;
    Ok(())
}

/// Family (any), address, display number, protocol and cookie, each with a two-byte length.
fn entry(cookie: &[u8; 16]) -> Vec<u8> {
    const PROTOCOL: &[u8; 18] = b"MIT-MAGIC-COOKIE-1";
    let mut entry = vec![0xff, 0xff, 0, 0, 0, 0, 0, 18];
    entry.extend_from_slice(PROTOCOL);
    entry.extend_from_slice(&[0, 16]);
    entry.extend_from_slice(cookie);
    entry
}

#[cfg(test)]
mod tests {
    #[test]
    fn lengths_agree() {
        let entry = super::entry(&[7; 16]);
        assert_eq!(entry.len(), 2 + 2 + 2 + 2 + 18 + 2 + 16);
        assert_eq!(entry.last(), Some(&7));
    }
}
