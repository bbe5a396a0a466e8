//! Fixed vectors of the format, checkpoints, words; `damage` has every kind of it.

mod damage;

use zeroize::ZeroizeOnDrop;

use super::*;

const REGISTRY: &str = "r1";

/// An event as a row holds it, with the hash beside it.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    sequence: i64,
    at: i64,
    texts: [String; 7],
    stored: EventHash,
}

impl Row {
    fn event(&self) -> ChainedEvent<'_> {
        let [
            action,
            actor,
            target_kind,
            target_id,
            target_name,
            summary,
            details,
        ] = &self.texts;
        ChainedEvent {
            sequence: self.sequence,
            at: self.at,
            action,
            actor,
            target_kind,
            target_id,
            target_name,
            summary,
            details,
        }
    }
}

fn key(seed: u8) -> CheckpointKey {
    CheckpointKey::from_bytes(&[seed; 32])
}

fn chain(length: i64) -> Vec<Row> {
    let mut previous = EventHash::GENESIS;
    (1..=length)
        .map(|sequence| {
            let mut row = Row {
                sequence,
                at: 1_790_000_000_000 + sequence,
                texts: [
                    "action", "actor", "kind", "id", "name", "summary", "details",
                ]
                .map(|field| format!("{field} {sequence}")),
                stored: previous,
            };
            row.stored = hash(&previous, &row.event());
            previous = row.stored;
            row
        })
        .collect()
}

fn checkpoint_at(rows: &[Row], sequence: i64) -> SignedCheckpoint {
    let hash = rows[usize::try_from(sequence).unwrap() - 1].stored;
    key(1).sign(REGISTRY, sequence, hash, 7)
}

/// Feeds the rows in their order, and each checkpoint where it belongs.
fn run(mut verifier: ChainVerifier, rows: &[Row], checkpoints: &[SignedCheckpoint]) -> Verdict {
    let mut waiting = checkpoints.iter().peekable();
    for row in rows {
        while let Some(signed) = waiting.next_if(|signed| signed.checkpoint.sequence < row.sequence)
        {
            verifier.checkpoint(signed);
        }
        verifier.event(&row.event(), &row.stored);
    }
    for signed in waiting {
        verifier.checkpoint(signed);
    }
    verifier.finish()
}

fn from_genesis(rows: &[Row], checkpoints: &[SignedCheckpoint]) -> Verdict {
    let verifier = ChainVerifier::from_genesis(REGISTRY, &[key(1).public_key()]);
    run(verifier, rows, checkpoints)
}

fn broken(at: i64, fault: Fault) -> Verdict {
    Verdict::Broken {
        at,
        fault,
        vouched: None,
    }
}

fn intact(rows: &[Row], checkpoints: u64, vouched: Option<i64>) -> Verdict {
    Verdict::Intact {
        events: rows.len() as u64,
        first: rows.first().map(|row| row.sequence),
        last: rows.last().map(|row| row.sequence),
        checkpoints,
        vouched,
        hash: rows.last().map_or(EventHash::GENESIS, |row| row.stored),
    }
}

// The vectors below were computed by another implementation, Python's hashlib and the Ed25519 of
// its `cryptography` package:
//
//   text = lambda t: struct.pack(">Q", len(t.encode())) + t.encode()
//   event = lambda prev, seq, at, *texts: sha256(b"keywright/audit-event/v1\0" + prev
//       + struct.pack(">qq", seq, at) + b"".join(map(text, texts))).digest()
//   genesis = sha256(b"keywright/audit-genesis/v1\0").digest()
//   kid = sha256(pub).digest()[:8]
//   sig = key.sign(b"keywright/audit-checkpoint/v1\0" + text("r1") + struct.pack(">q", 2) + two
//       + struct.pack(">q", 1790000000002) + kid)
//
// They are the format. If one of these tests fails, every trail written so far has become broken.

fn vector_one() -> ChainedEvent<'static> {
    ChainedEvent {
        sequence: 1,
        at: 1_790_000_000_000,
        action: "registry.created",
        actor: "keywright",
        target_kind: "registry",
        target_id: "local",
        target_name: "This device",
        summary: "The registry was made",
        details: "[]",
    }
}

fn vector_two() -> ChainedEvent<'static> {
    ChainedEvent {
        sequence: 2,
        at: 1_790_000_000_001,
        action: "api_key.issued",
        actor: "Zoë",
        target_kind: "api_key",
        target_id: "k1",
        target_name: "CI",
        summary: "Issued “CI”",
        details: r#"[["prefix","sk_live"]]"#,
    }
}

#[test]
fn ac_185_the_encoding_of_events_never_changes() {
    assert_eq!(
        EventHash::GENESIS.to_string(),
        "a4a962c411bb00bed6fee6746f41a2946bae8a05fba2d3544850ff1b4e96a016"
    );
    let genesis: [u8; 32] = Sha256::digest(b"keywright/audit-genesis/v1\0").into();
    assert_eq!(EventHash::GENESIS, EventHash::from_bytes(genesis));
    let one = hash(&EventHash::GENESIS, &vector_one());
    assert_eq!(
        one.to_string(),
        "3f78773ca1fa877b3fa0f825d981fb5a5155e08185f9df3d485f7b7ebbed81c8"
    );
    let two = hash(&one, &vector_two());
    assert_eq!(
        two.to_string(),
        "b7f30a99f5db3c5fef9098e1053fd8fce7fd70e23060c4b2f23be8a81746014f"
    );
    let empty = ChainedEvent {
        sequence: i64::MIN,
        at: -1,
        action: "",
        actor: "",
        target_kind: "",
        target_id: "",
        target_name: "",
        summary: "",
        details: "",
    };
    assert_eq!(
        hash(&EventHash::from_bytes([0; 32]), &empty).to_string(),
        "829998ecc77f225c1a6fb906fe7fef3fce5b657b140262ba73dc100518068301"
    );
}

#[test]
fn ac_185_the_encoding_of_checkpoints_never_changes() {
    let key = CheckpointKey::from_bytes(&core::array::from_fn(|index| index as u8));
    assert_eq!(
        key.public_key().to_string(),
        "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"
    );
    assert_eq!(key.public_key().key_id().to_string(), "56475aa75463474c");
    let two = hash(&hash(&EventHash::GENESIS, &vector_one()), &vector_two());
    let signed = key.sign("r1", 2, two, 1_790_000_000_002);
    assert_eq!(
        signed.signature.to_string(),
        "4d4c1da8fb4880f1da507ea6b4baa7254dfd2c744d2f9707d480b63d40b3d602\
         860d3dc1559ef48bf69135fbceb9a2a05feda8b0e28441fa63bb4a336a914603"
    );
    assert_eq!(signed.verify(&key.public_key()), Ok(()));
}

#[test]
fn no_two_events_encode_alike() {
    // The same bytes in a row, divided in other places.
    let divided = |action, actor| ChainedEvent {
        action,
        actor,
        ..vector_one()
    };
    let hashes: std::collections::HashSet<EventHash> = [
        divided("ab", "c"),
        divided("a", "bc"),
        divided("abc", ""),
        divided("", "abc"),
        divided("a\0", "bc"),
    ]
    .iter()
    .map(|event| hash(&EventHash::GENESIS, event))
    .collect();
    assert_eq!(hashes.len(), 5);
}

#[test]
fn texts_are_read_back_and_only_in_one_form() {
    let signed = key(1).sign(REGISTRY, 1, EventHash::GENESIS, 0);
    let public = key(1).public_key();
    let key_id = public.key_id();
    assert_eq!(
        EventHash::GENESIS.to_string().parse(),
        Ok(EventHash::GENESIS)
    );
    assert_eq!(public.to_string().parse(), Ok(public));
    assert_eq!(key_id.to_string().parse(), Ok(key_id));
    assert_eq!(signed.signature.to_string().parse(), Ok(signed.signature));
    let text = EventHash::GENESIS.to_string();
    for wrong in [
        text.to_uppercase(),
        text[..62].to_owned(),
        format!("{text}00"),
        format!(" {}", &text[1..]),
        format!("g{}", &text[1..]),
        "é".repeat(32),
        String::new(),
    ] {
        let error = wrong.parse::<EventHash>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "an event hash has 64 lower-case hexadecimal digits"
        );
    }
}

#[test]
fn weak_and_malformed_public_keys_are_refused() {
    // The neutral element, then a point of order 4, then y = 2 (no point), then y = p + 3, a
    // second encoding of y = 3 (RFC 8032 section 5.1.3 refuses it).
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let mut none = [0; 32];
    none[0] = 2;
    let mut second = [0xff; 32];
    (second[0], second[31]) = (0xf0, 0x7f);
    let mut first = [0; 32];
    first[0] = 3;
    assert!(CheckpointPublicKey::from_bytes(&first).is_ok());
    for bytes in [neutral, [0; 32], none, second] {
        assert_eq!(
            CheckpointPublicKey::from_bytes(&bytes),
            Err(CheckpointError::PublicKey)
        );
    }
}

#[test]
fn the_secret_key_is_redacted_kept_by_its_seed_and_wiped() {
    fn wiped<T: ZeroizeOnDrop>(_: &T) {}
    let key = CheckpointKey::generate(&mut rand::rng());
    wiped(&key);
    assert_eq!(format!("{key:?}"), "CheckpointKey(redacted)");
    let again = CheckpointKey::from_bytes(key.expose());
    assert_eq!(again.public_key(), key.public_key());
    let other = CheckpointKey::generate(&mut rand::rng());
    assert_ne!(other.public_key(), key.public_key());
}

#[test]
fn a_checkpoint_fits_only_what_was_signed() {
    let rows = chain(3);
    let good = checkpoint_at(&rows, 3);
    assert_eq!(good.verify(&key(1).public_key()), Ok(()));
    assert_eq!(
        good.verify(&key(2).public_key()),
        Err(CheckpointError::OtherKey)
    );
    let mut forged = vec![good.clone(); 5];
    forged[0].checkpoint.registry_id = "r2".to_owned();
    forged[1].checkpoint.sequence = 2;
    forged[2].checkpoint.hash = rows[1].stored;
    forged[3].checkpoint.at += 1;
    // Another key that claims the trusted key's name.
    forged[4] = key(2).sign(REGISTRY, 3, rows[2].stored, 7);
    forged[4].checkpoint.key_id = key(1).public_key().key_id();
    for bit in 0..512 {
        let mut bytes = *good.signature.as_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        forged.push(SignedCheckpoint {
            signature: CheckpointSignature::from_bytes(bytes),
            ..good.clone()
        });
    }
    for signed in &forged {
        assert_eq!(
            signed.verify(&key(1).public_key()),
            Err(CheckpointError::Signature),
            "{signed:?}"
        );
    }
    // The same signature with its scalar plus the group's order (RFC 8032 section 8.4).
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut bytes = *good.signature.as_bytes();
    let mut carry = 0;
    for (byte, order) in bytes[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
    let second = SignedCheckpoint {
        signature: CheckpointSignature::from_bytes(bytes),
        ..good
    };
    assert!(second.verify(&key(1).public_key()).is_err());
}

#[test]
fn an_empty_trail_is_intact_and_says_so() {
    let verdict = from_genesis(&[], &[]);
    assert_eq!(verdict, intact(&[], 0, None));
    assert_eq!(verdict.to_string(), "The trail holds no events.");
    let start = key(1).sign(REGISTRY, 0, EventHash::GENESIS, 7);
    assert_eq!(from_genesis(&[], &[start]), intact(&[], 1, Some(0)));
}

#[test]
fn a_checkpoint_that_does_not_authenticate_is_named() {
    let rows = chain(5);
    let hash = rows[2].stored;
    let mut forged = checkpoint_at(&rows, 3);
    forged.checkpoint.at += 1;
    let unknown = key(2).sign(REGISTRY, 3, hash, 7);
    let key_id = unknown.checkpoint.key_id;
    for (signed, fault, words) in [
        (
            forged,
            Fault::BadCheckpoint,
            "The checkpoint at event 3 is forged or was changed.",
        ),
        (
            unknown,
            Fault::UnknownKey { key_id },
            "The checkpoint at event 3 is signed with the key 6a3803d5f059902a, which is not trusted \
             here.",
        ),
        (
            key(1).sign("r2", 3, hash, 7),
            Fault::ForeignCheckpoint,
            "The checkpoint at event 3 belongs to another registry.",
        ),
    ] {
        let verdict = from_genesis(&rows, core::slice::from_ref(&signed));
        assert_eq!(verdict, broken(3, fault.clone()));
        assert_eq!(verdict.to_string(), words);
        // Nor can a trail begin with it.
        let trusted = [key(1).public_key()];
        let verifier = ChainVerifier::from_checkpoint(REGISTRY, &trusted, &signed);
        assert!(verifier.is_broken());
        assert_eq!(run(verifier, &rows[3..], &[]), broken(3, fault));
    }
}

#[test]
fn a_checkpoint_must_stand_right_after_its_event() {
    let rows = chain(4);
    let mut late = ChainVerifier::from_genesis(REGISTRY, &[key(1).public_key()]);
    let mut early = late.clone();
    rows[..3]
        .iter()
        .for_each(|row| late.event(&row.event(), &row.stored));
    late.checkpoint(&checkpoint_at(&rows, 2));
    assert_eq!(late.finish(), broken(2, Fault::MisplacedCheckpoint));
    early.event(&rows[0].event(), &rows[0].stored);
    early.checkpoint(&checkpoint_at(&rows, 3));
    early.event(&rows[1].event(), &rows[1].stored);
    assert_eq!(early.finish(), broken(2, Fault::OutOfOrder));
    let negative = key(1).sign(REGISTRY, -1, EventHash::GENESIS, 7);
    assert_eq!(
        from_genesis(&[], &[negative]),
        broken(-1, Fault::MisplacedCheckpoint)
    );
}

#[test]
fn a_start_at_zero_is_the_genesis_whatever_was_signed() {
    let rows = chain(2);
    let trusted = [key(1).public_key()];
    let begin = |hash| {
        let start = key(1).sign(REGISTRY, 0, hash, 7);
        ChainVerifier::from_checkpoint(REGISTRY, &trusted, &start)
    };
    let verdict = run(begin(EventHash::GENESIS), &rows, &[]);
    assert_eq!(verdict, intact(&rows, 1, Some(0)));
    let verdict = run(begin(rows[0].stored), &rows, &[]);
    assert_eq!(verdict, broken(0, Fault::Rewritten { since: 0 }));
}

#[test]
fn numbers_at_the_edge_do_not_overflow() {
    let mut rows = chain(2);
    rows[0].sequence = i64::MIN;
    assert_eq!(from_genesis(&rows, &[]), broken(i64::MIN, Fault::Inserted));
    rows[0].sequence = i64::MAX;
    assert!(!from_genesis(&rows, &[]).is_intact());
    let end = key(1).sign(REGISTRY, i64::MAX, rows[0].stored, 7);
    let trusted = [key(1).public_key()];
    let verifier = ChainVerifier::from_checkpoint(REGISTRY, &trusted, &end);
    assert_eq!(
        run(verifier, &rows, &[]),
        Verdict::Broken {
            at: i64::MAX,
            fault: Fault::Inserted,
            vouched: Some(i64::MAX)
        }
    );
}

#[test]
fn the_verdict_is_said_in_plain_words() {
    let rows = chain(60);
    let (early, last) = (checkpoint_at(&rows, 40), checkpoint_at(&rows, 60));
    let says = |rows: &[Row], checkpoints: &[SignedCheckpoint]| {
        from_genesis(rows, checkpoints).to_string()
    };
    assert_eq!(
        says(&rows, &[]),
        "The trail is intact: events 1 to 60. No checkpoint vouches for it: someone who may write \
         all of it could have made it anew."
    );
    assert_eq!(
        says(&rows, std::slice::from_ref(&early)),
        "The trail is intact: events 1 to 60. A checkpoint vouches for everything up to 40, not yet \
         for events 41 to 60."
    );
    assert_eq!(
        says(&rows, &[early.clone(), last.clone()]),
        "The trail is intact: events 1 to 60. A checkpoint vouches for all of it."
    );
    let mut changed = rows.clone();
    changed[44].texts[5].push('!');
    assert_eq!(
        says(&changed, std::slice::from_ref(&early)),
        "Event 45 is not what was written: it was changed, or an event before it was replaced \
         together with its hash. A checkpoint vouches for everything up to 40."
    );
    let holed = [&rows[..6], &rows[9..]].concat();
    assert_eq!(says(&holed, &[]), "Events 7 to 9 are missing.");
    assert_eq!(
        says(&rows[..50], &[early, last]),
        "The trail was cut: event 51 and later ones are missing, although a checkpoint vouches for \
         everything up to 60. A checkpoint vouches for everything up to 40."
    );
}
