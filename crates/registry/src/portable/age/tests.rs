use super::*;

/// Cheap, for tests only.
const QUICK: u8 = 4;

fn secret(text: &str) -> SecretText {
    SecretText::new(text.to_owned())
}

fn refusal<T>(result: Result<T, AgeError>) -> Option<AgeError> {
    result.err()
}

/// Made by another implementation (rage's, through pyrage 1.3): under a passphrase, and for one
/// recipient with a stanza that nobody knows beside it.
const UNDER_PASSPHRASE: &str = "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IHNjcnlwdCBJOUZzZGxLdHMvZFd1UDN3NU5QeGJBIDE5Cm5vQUdEb1haaE\
         5UWFlsWnVmalluR2x2TGl0L2RxLzJuZk9mS1VNakVBcHMKLS0tIEJwN3BFM29Ldk1BTmVBTmNZc3QzYldkVmhuTy9E\
         WU5ON2J0M1JMUlNFUjQKHQHVTIxuK42lYT9fLQJYYVY4So199NDFlw8jcnoyEy/NPc2aJsobu5/FyoNLuTKe5Pr5zu\
         KOlIWmQiC/vm8=";
const FOR_RECIPIENT: &str = "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgyNTUxOSBUK0dDTWUwTHEzcldrUzZtbWJ1c3NVaHlRRmgwNTgvbWF0bm\
         5ONVZ4eW5nCkYyNUFyUW9zZUFzZWcwK1EwNk5OM2ZsWW1mK25kUzR2VFNFNE1oeWthUVEKLT4gSi1ncmVhc2UgPnp0\
         RTggJj9AVyBOdEAlWSZfSiA7I2llcTYzClhmUFJ1bWt2S3ZrS1ozaW1CNUs1TDhoYnBHTmM2SHVZejlLNFNEcEFHNX\
         R6RnRUZ0owRmdtTTV6eTRjRU5raFUKcHpwYXdGUDVkVEhQOEgydFVWV0tWTlBzMXlEVmdXeGNaY3dLUmt2NDYwejRz\
         R0pPTHJBb3hFZS9sK2xkcE9vCi0tLSBqcGs4b2NxMDgvanpNWWgwNmphTGN6QWZIOWY5WXN6ZzZ3ckJPek03WklzCr\
         XVX0y/6DMHkcyNLUTt6kaRnj/hcuU9McZHDBg3rGia6UJnCDXVgH4VuoYoOdAXPOw=";
const IDENTITY: &str = "AGE-SECRET-KEY-1J58NGH09L5N2J8MX4K0H3RZJ94NYY5DFMTY569FCT6KRYPCAVFQQ5EQG8E";
const RECIPIENT: &str = "age1gyyhs2c7m0aqd3eyhmupa0xu5xgydeaw8pnnk6twfvdm4z56hq9sl4ngd0";

#[test]
fn files_of_another_implementation_open() {
    let file = STANDARD.decode(UNDER_PASSPHRASE).expect("base64");
    let plain = open_under(&secret("correct horse battery"), &file).expect("it opens");
    assert_eq!(plain.as_slice(), b"made by another implementation");
    let identity = TransferIdentity::parse(&secret(IDENTITY)).expect("an identity");
    assert_eq!(identity.recipient().to_string(), RECIPIENT);
    assert_eq!(identity.to_text().expose(), IDENTITY);
    let file = STANDARD.decode(FOR_RECIPIENT).expect("base64");
    let plain = open_with(&identity, &file).expect("it opens");
    assert_eq!(plain.as_slice(), b"for one recipient");
}

#[test]
fn what_was_sealed_opens_at_every_length() {
    let identity = TransferIdentity::generate();
    let text = identity.recipient().to_string();
    let recipient = TransferRecipient::parse(&text).expect("a recipient");
    for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
        let plain = vec![7; length];
        let file = seal_for(&recipient, &plain).expect("sealed");
        assert_eq!(*open_with(&identity, &file).expect("opened"), plain);
    }
    let passphrase = secret("correct horse battery");
    let file = seal_under(&passphrase, QUICK, b"peppers").expect("sealed");
    assert_eq!(*open_under(&passphrase, &file).expect("opened"), b"peppers");
    let other = TransferIdentity::generate();
    let file = seal_for(&recipient, b"peppers").expect("sealed");
    assert_eq!(refusal(open_with(&other, &file)), Some(AgeError::WrongKey));
    assert_eq!(
        refusal(open_under(&passphrase, &file)),
        Some(AgeError::OtherKind)
    );
}

#[test]
fn every_way_of_being_wrong_has_its_name() {
    let passphrase = secret("correct horse battery");
    let file = seal_under(&passphrase, QUICK, &[7; 500]).expect("sealed");
    let open = |file: &[u8]| refusal(open_under(&passphrase, file));
    let wrong = open_under(&secret("correct horse batterz"), &file);
    assert_eq!(refusal(wrong), Some(AgeError::WrongKey));
    for length in 1..file.len() - 2 {
        assert_eq!(open(&file[..length]), Some(AgeError::CutShort), "{length}");
    }
    assert_eq!(open(b""), Some(AgeError::Foreign));
    assert_eq!(open(b"PK\x03\x04 something else"), Some(AgeError::Foreign));
    let binary = to_binary(&file, MAX_FILE).expect("binary");
    for position in 0..binary.len() {
        let mut changed = binary.clone();
        changed[position] ^= 1;
        assert!(
            open(&changed).is_some(),
            "byte {position} changed unnoticed"
        );
    }
    let mut changed = binary.clone();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    assert_eq!(open(&armor(&changed)), Some(AgeError::Damaged));
    // The same under a text form that closes too early: the end is there, and not all before it.
    assert_eq!(open(&armor(&binary[..last])), Some(AgeError::Damaged));
}

#[test]
fn a_costly_file_is_refused_before_it_costs_anything() {
    let file = STANDARD.decode(UNDER_PASSPHRASE).expect("base64");
    let text = String::from_utf8_lossy(&file[..70]).replace(" 19\n", " 21\n");
    let costly = [text.as_bytes(), &file[70..]].concat();
    let started = std::time::Instant::now();
    let refused = refusal(open_under(&secret("correct horse battery"), &costly));
    assert_eq!(refused, Some(AgeError::TooCostly));
    assert!(started.elapsed() < std::time::Duration::from_millis(200));
}

#[test]
fn chunks_cannot_be_dropped_or_moved() {
    let identity = TransferIdentity::generate();
    let file = seal_for(&identity.recipient(), &vec![7; 2 * CHUNK + 5]).expect("sealed");
    let binary = to_binary(&file, MAX_FILE).expect("binary");
    let start = binary.len() - (2 * (CHUNK + TAG) + 5 + TAG);
    let one = start + CHUNK + TAG;
    let two = one + CHUNK + TAG;
    let dropped = &binary[..two];
    assert_eq!(
        refusal(open_with(&identity, dropped)),
        Some(AgeError::Damaged)
    );
    let moved = [
        &binary[..start],
        &binary[one..two],
        &binary[start..one],
        &binary[two..],
    ]
    .concat();
    assert_eq!(
        refusal(open_with(&identity, &moved)),
        Some(AgeError::Damaged)
    );
}

#[test]
fn identities_are_not_shown_and_their_texts_are_checked() {
    let identity = TransferIdentity::parse(&secret(IDENTITY)).expect("an identity");
    assert_eq!(format!("{identity:?}"), "TransferIdentity(redacted)");
    assert!(TransferIdentity::parse(&secret(RECIPIENT)).is_none());
    assert!(TransferRecipient::parse(IDENTITY).is_none());
    assert!(TransferRecipient::parse(&RECIPIENT.replace("age1g", "age1h")).is_none());
}

#[test]
fn armor_has_lines_of_64_letters_and_no_room_to_spare() {
    for length in [0, 1, 47, 48, 49, 96, 1_000_000] {
        let armored = armor(&vec![7; length]);
        let room = armored.capacity();
        assert!(room <= armored.len() + 64, "{length}: {room}");
        let text = String::from_utf8(armored).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let [begin, body @ .., end] = lines.as_slice() else {
            panic!("{text}");
        };
        assert_eq!((*begin, *end), (BEGIN, END));
        assert_eq!(body.concat(), STANDARD.encode(vec![7; length]));
        let (last, full) = body.split_last().unwrap_or((&"", &[]));
        assert!(full.iter().all(|line| line.len() == 64) && last.len() <= 64);
    }
}
