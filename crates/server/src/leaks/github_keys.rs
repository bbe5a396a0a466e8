//! The keys that GitHub signs with, as it publishes them, kept for an hour.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use crate::rp::outbound::{Outbound, OutboundError};

const KEPT_MS: i64 = 60 * 60 * 1000;
/// A key id that is not among them may be new: GitHub is asked again, but not more often than this.
const AGAIN_MS: i64 = 60 * 1000;
const MOST: usize = 50;
/// What stands before the point in the SPKI of a P-256 key (RFC 5480), as everybody writes it.
const SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

#[derive(Deserialize)]
struct Published {
    public_keys: Vec<PublishedKey>,
}

#[derive(Deserialize)]
struct PublishedKey {
    key_identifier: String,
    key: String,
}

#[derive(Debug)]
struct Known {
    points: HashMap<String, Vec<u8>>,
    at: i64,
}

/// The keys that are known.
#[derive(Debug, Default)]
pub(super) struct Keys(Mutex<Option<Known>>);

impl Keys {
    /// The uncompressed point of a key; none if GitHub does not publish it.
    ///
    /// # Errors
    /// [`OutboundError`] if that cannot be found out.
    pub(super) async fn find(
        &self,
        http: &Outbound,
        url: &Url,
        key_id: &str,
        now: i64,
    ) -> Result<Option<Vec<u8>>, OutboundError> {
        // Held over the request: many reports at once ask GitHub once.
        let mut known = self.0.lock().await;
        if let Some(known) = known.as_ref() {
            let age = now.saturating_sub(known.at);
            match known.points.get(key_id) {
                Some(point) if age < KEPT_MS => return Ok(Some(point.clone())),
                None if age < AGAIN_MS => return Ok(None),
                _ => {}
            }
        }
        let answer = http.get(url, None).await?;
        let points = if answer.status == 200 {
            read(&answer.body)
        } else {
            tracing::warn!(status = answer.status, "GitHub did not give its keys");
            HashMap::new()
        };
        let point = points.get(key_id).cloned();
        *known = Some(Known { points, at: now });
        Ok(point)
    }
}

fn read(body: &[u8]) -> HashMap<String, Vec<u8>> {
    let Ok(published) = serde_json::from_slice::<Published>(body) else {
        return HashMap::new();
    };
    let keys = published.public_keys.into_iter().take(MOST);
    keys.filter_map(|one| Some((one.key_identifier, point(&one.key)?)))
        .collect()
}

/// The point in a PEM of a P-256 public key.
fn point(pem: &str) -> Option<Vec<u8>> {
    let base64: String = pem
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .map(str::trim)
        .collect();
    let der = STANDARD.decode(base64).ok()?;
    let point = der.strip_prefix(&SPKI)?;
    (point.len() == 65 && point[0] == 4).then(|| point.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_p256_keys_are_read() {
        let mut der = SPKI.to_vec();
        der.push(4);
        der.extend([7; 64]);
        let pem = |der: &[u8]| {
            format!(
                "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
                STANDARD.encode(der)
            )
        };
        assert_eq!(point(&pem(&der)).map(|point| point.len()), Some(65));
        assert_eq!(point(&pem(&der[..90])), None);
        der[20] ^= 1;
        assert_eq!(point(&pem(&der)), None);
        assert_eq!(point("-----BEGIN PUBLIC KEY-----\n!\n"), None);
        assert!(read(b"[]").is_empty() && read(b"{\"public_keys\":[]}").is_empty());
    }
}
