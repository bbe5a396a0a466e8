//! `traceparent` (W3C Trace Context §3.2): which trace a request belongs to.

/// What it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TraceParent {
    /// The trace.
    pub(crate) trace_id: [u8; 16],
    /// The span that asked.
    pub(crate) parent_id: [u8; 8],
    /// Whether whoever asked writes it down.
    pub(crate) sampled: bool,
}

impl TraceParent {
    /// Reads it. None for what is not well-formed: then a new trace begins (§4.3).
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(5, '-');
        let [version] = bytes(parts.next()?)?;
        let trace_id = bytes(parts.next()?)?;
        let parent_id = bytes(parts.next()?)?;
        let [flags] = bytes(parts.next()?)?;
        // Later versions may have more behind it; this one has not, and 255 is none.
        let has_more = parts.next().is_some();
        if version == 0xff || (version == 0 && has_more) || text.len() > 512 {
            return None;
        }
        (trace_id != [0; 16] && parent_id != [0; 8]).then_some(Self {
            trace_id,
            parent_id,
            sampled: flags & 1 == 1,
        })
    }
}

/// Small hexadecimal digits only (§3.2.2).
fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut read = [0; N];
    for (into, pair) in read.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *into = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(read)
}

/// Whether a trace is among so many of a hundred: by its id, so that every node of an installation and
/// everybody else who goes by the id decides the same.
pub(crate) fn is_among(trace_id: &[u8; 16], percent: u32) -> bool {
    let mut last = [0; 8];
    last.copy_from_slice(&trace_id[8..]);
    let place = u128::from(u64::from_be_bytes(last) >> 1);
    place * 100 < u128::from(percent) << 63
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_example_of_the_standard_is_read_and_what_is_malformed_is_not() {
        let read = TraceParent::parse(GOOD).unwrap();
        assert_eq!(read.trace_id[..4], [0x4b, 0xf9, 0x2f, 0x35]);
        assert_eq!(read.parent_id[6..], [0x02, 0xb7]);
        assert!(read.sampled);
        assert!(
            !TraceParent::parse(&GOOD.replace("-01", "-00"))
                .unwrap()
                .sampled
        );
        // A later version with more behind it.
        let later = format!("{}-more", GOOD.replacen("00", "cc", 1));
        assert!(TraceParent::parse(&later).is_some());
        for bad in [
            String::new(),
            GOOD.to_uppercase(),
            format!("{GOOD}-more"),
            GOOD.replacen("00", "ff", 1),
            GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            GOOD[..54].to_owned(),
            format!("{GOOD}é"),
            GOOD.replace('-', "_"),
        ] {
            assert_eq!(TraceParent::parse(&bad), None, "{bad}");
        }
    }

    #[test]
    fn of_a_hundred_so_many_are_traced() {
        let ids = (0..10_000_u64).map(|n| {
            let spread = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
            let mut id = [7; 16];
            id[8..].copy_from_slice(&spread);
            id
        });
        let ids: Vec<_> = ids.collect();
        let count = |percent| ids.iter().filter(|id| is_among(id, percent)).count();
        assert_eq!((count(0), count(100)), (0, 10_000));
        assert!((900..1_100).contains(&count(10)), "{}", count(10));
        assert!(is_among(&[0xff; 16], 100));
    }
}
