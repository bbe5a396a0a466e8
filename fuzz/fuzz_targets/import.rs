//! Reading a file of foreign hashes never panics, keeps its bounds, repeats nothing of what it
//! refuses, and says the same of the same file.
#![no_main]

// The file by itself: the whole registry brings a database that the fuzzer would have to build.
#[allow(dead_code, reason = "what is read is written by the registry alone")]
#[path = "../../crates/registry/src/portable/import_lines.rs"]
mod import_lines;

use import_lines::ImportFormat;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for format in [ImportFormat::NdJson, ImportFormat::Csv] {
        let Ok(lines) = import_lines::read(format, data) else {
            continue;
        };
        let ends = data.iter().filter(|byte| **byte == b'\n').count() as u64;
        assert!(lines.iter().all(|line| (1..=ends + 1).contains(&line.line)));
        assert!(
            lines
                .windows(2)
                .all(|pair| pair[0].line < pair[1].line || format == ImportFormat::Csv)
        );
        let again = import_lines::read(format, data).expect("it was read before");
        assert_eq!(format!("{lines:?}"), format!("{again:?}"));
        for line in &lines {
            if let Err(problem) = &line.record {
                // Words of the program, and numbers.
                assert!(problem.message.len() < 400, "{}", problem.message);
                repeats_nothing(data, &problem.message);
            }
        }
    }
});

/// A long word of the file that is none of ours must not come back.
fn repeats_nothing(data: &[u8], message: &str) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let is_part = |letter: char| letter.is_ascii_digit() || letter.is_ascii_uppercase();
    for word in text.split(|letter| !is_part(letter)) {
        let is_ours = ["SHA", "RFC", "KEY", "MD5"]
            .iter()
            .any(|known| word.contains(known));
        if word.len() >= 12 && !is_ours {
            assert!(!message.contains(word), "{message}");
        }
    }
}
