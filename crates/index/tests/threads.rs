//! Many threads at once: what was applied is seen by everyone, whole and never older.

mod common;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use common::{image, key_id, kid, mac, secret};
use keywright_index::{Index, Lookup};

const KEYS: u64 = 64;
const ROUNDS: i64 = 1500;

#[test]
fn readers_never_see_anything_older_than_what_was_applied_and_nothing_torn() {
    let index = Index::new();
    // Version that was applied, and version whose commit was announced, for each key.
    let applied: Vec<_> = (0..KEYS).map(|_| AtomicI64::new(-1)).collect();
    let announced: Vec<_> = (0..KEYS).map(|_| AtomicI64::new(-1)).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for reader in 0..3_u64 {
            let (index, applied, announced, done) = (&index, &applied, &announced, &done);
            scope.spawn(move || {
                let mut number = reader;
                let mut found_some = 0;
                while !done.load(Ordering::Acquire) {
                    number = (number + 7) % KEYS;
                    let place = number as usize;
                    let at_least = applied[place].load(Ordering::Acquire);
                    let doubted = announced[place].load(Ordering::Acquire);
                    if let Lookup::Found(found) = index.lookup(kid(number), 0) {
                        found_some += 1;
                        let version = found.version;
                        assert!(version >= at_least, "{version} after {at_least}");
                        assert!(
                            version >= doubted,
                            "{version} though {doubted} was announced"
                        );
                        assert_eq!(found.key_id, key_id(number));
                        let own = mac(number ^ (version as u64 * 1000));
                        assert_eq!(found.mac.as_bytes(), own.as_bytes(), "torn");
                        assert_eq!(found.expires_at, Some(version + 5));
                        assert_eq!(found.retires_at, (version % 2 == 0).then_some(version));
                    }
                }
                assert!(found_some > 0);
            });
        }
        let writers: Vec<_> = (0..2_u64)
            .map(|writer| {
                let (index, applied, announced) = (&index, &applied, &announced);
                scope.spawn(move || {
                    let make = |number: u64, version: i64| {
                        let mut made = image(index, number, version);
                        let mut one = secret(index, number);
                        one.mac = mac(number ^ (version as u64 * 1000));
                        one.expires_at = Some(version + 5);
                        one.retires_at = (version % 2 == 0).then_some(version);
                        made.secrets = vec![one];
                        made
                    };
                    for version in 0..ROUNDS {
                        for number in (writer..KEYS).step_by(2) {
                            let place = number as usize;
                            index.doubt_key(key_id(number), version);
                            announced[place].store(version, Ordering::Release);
                            // A slow load of what was before.
                            index.load_chunk([make(number, (version - 1).max(0))]);
                            index.apply_key(&make(number, version));
                            applied[place].store(version, Ordering::Release);
                            if version % 50 == 49 && number % 8 == writer {
                                // Deleted, and made again later by a newer version.
                                index.remove_key(key_id(number), version);
                            }
                        }
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::Release);
    });
    assert_eq!(index.statistics().doubts, 0);
}

#[test]
fn growth_under_readers_loses_nobody() {
    let index = Index::new();
    let loaded = AtomicI64::new(0);
    std::thread::scope(|scope| {
        let (index, loaded) = (&index, &loaded);
        let writer = scope.spawn(move || {
            for number in 0..60_000 {
                index.apply_key(&image(index, number, 1));
                loaded.store(number as i64 + 1, Ordering::Release);
            }
        });
        scope.spawn(move || {
            let mut number = 0;
            while loaded.load(Ordering::Acquire) < 60_000 {
                let end = loaded.load(Ordering::Acquire) as u64;
                if end > 0 {
                    number = (number + 7919) % end;
                    let answer = index.lookup(kid(number), 0);
                    assert!(
                        matches!(answer, Lookup::Found(found) if found.key_id == key_id(number))
                    );
                }
            }
        });
        writer.join().unwrap();
    });
    assert_eq!(index.statistics().keys, 60_000);
}
