//! Every kind of damage, in chains of 1 to 60 events: it is seen, and the right row is named.

use proptest::prelude::*;

use super::*;

/// Rewrites the hashes from here on, as someone would who may write the whole trail.
fn rechain(rows: &mut [Row], from: usize) {
    for index in from..rows.len() {
        let previous = match index {
            0 => EventHash::GENESIS,
            _ => rows[index - 1].stored,
        };
        rows[index].stored = hash(&previous, &rows[index].event());
    }
}

/// A length from 1 to 60 and an index within.
fn place() -> impl Strategy<Value = (Vec<Row>, usize)> {
    (1..=60_i64).prop_flat_map(|length| (Just(chain(length)), 0..usize::try_from(length).unwrap()))
}

/// Changes one thing of a row, and says nothing of the rest.
fn change(row: &mut Row, field: usize, by: i64) {
    match field {
        0 => row.at += by,
        8 => {
            let mut bytes = *row.stored.as_bytes();
            bytes[by as usize % 32] ^= 1;
            row.stored = EventHash::from_bytes(bytes);
        }
        field => row.texts[field - 1].push(' '),
    }
}

proptest! {
    #[test]
    fn ac_185_a_whole_chain_is_intact((rows, index) in place()) {
        let at = rows[index].sequence;
        let signed = checkpoint_at(&rows, at);
        prop_assert_eq!(from_genesis(&rows, &[]), intact(&rows, 0, None));
        prop_assert_eq!(
            from_genesis(&rows, std::slice::from_ref(&signed)),
            intact(&rows, 1, Some(at))
        );
        // The pruned trail that begins after it.
        let rest = &rows[index + 1..];
        let trusted = [key(2).public_key(), key(1).public_key()];
        let verifier = ChainVerifier::from_checkpoint(REGISTRY, &trusted, &signed);
        let mut expected = intact(rest, 1, Some(at));
        if let Verdict::Intact { hash, .. } = &mut expected {
            *hash = rows[rows.len() - 1].stored;
        }
        prop_assert_eq!(run(verifier, rest, &[]), expected);
        // The same without the checkpoint at the cut.
        if !rest.is_empty() {
            let missing = Fault::Missing { through: at };
            prop_assert_eq!(from_genesis(rest, &[]), broken(1, missing));
        }
    }

    #[test]
    fn ac_185_a_changed_field_names_its_row((rows, index) in place(), field in 0..9_usize, by in 1..99_i64) {
        let mut damaged = rows.clone();
        change(&mut damaged[index], field, by);
        let at = rows[index].sequence;
        prop_assert_eq!(from_genesis(&damaged, &[]), broken(at, Fault::Changed));
        if index > 0 {
            // Also after a checkpoint that vouches for what is before.
            let signed = checkpoint_at(&rows, at - 1);
            let verdict = Verdict::Broken { at, fault: Fault::Changed, vouched: Some(at - 1) };
            prop_assert_eq!(from_genesis(&damaged, &[signed]), verdict);
        }
    }

    #[test]
    fn ac_185_a_changed_number_is_named((rows, index) in place(), number in -5..70_i64) {
        let mut damaged = rows.clone();
        damaged[index].sequence = number;
        let at = rows[index].sequence;
        let verdict = from_genesis(&damaged, &[]);
        match number {
            _ if number == at => prop_assert!(verdict.is_intact()),
            _ if number < at => prop_assert_eq!(verdict, broken(number, Fault::Inserted)),
            _ => {
                let Verdict::Broken { at: named, fault, .. } = verdict else {
                    return Err(TestCaseError::fail("not seen"));
                };
                // Rows after it may fill the hole that it seems to leave.
                let hole = matches!(fault, Fault::Missing { .. } | Fault::OutOfOrder);
                prop_assert!(hole);
                prop_assert_eq!(named, at);
            }
        }
    }

    #[test]
    fn ac_185_a_row_replaced_with_its_hash_breaks_the_next((rows, index) in place(), field in 0..8_usize) {
        let mut damaged = rows.clone();
        change(&mut damaged[index], field, 1);
        rechain(&mut damaged[..=index], index);
        let verdict = from_genesis(&damaged, &[]);
        match rows.get(index + 1) {
            Some(next) => prop_assert_eq!(verdict, broken(next.sequence, Fault::Changed)),
            // The last row: nothing but a checkpoint can tell.
            None => prop_assert!(verdict.is_intact()),
        }
        // A checkpoint at the row tells, and so does one before, of where to look.
        let at = rows[index].sequence;
        let fault = Fault::Rewritten { since: 1 };
        let here = checkpoint_at(&rows, at);
        prop_assert_eq!(from_genesis(&damaged, std::slice::from_ref(&here)), broken(at, fault));
        if index > 0 {
            let signed = [checkpoint_at(&rows, at - 1), here];
            let fault = Fault::Rewritten { since: at };
            let verdict = Verdict::Broken { at, fault, vouched: Some(at - 1) };
            prop_assert_eq!(from_genesis(&damaged, &signed), verdict);
        }
    }

    #[test]
    fn ac_185_a_trail_made_anew_is_seen_by_its_checkpoint((rows, index) in place(), field in 0..8_usize) {
        let mut damaged = rows.clone();
        change(&mut damaged[index], field, 1);
        rechain(&mut damaged, index);
        prop_assert!(from_genesis(&damaged, &[]).is_intact());
        let last = rows[rows.len() - 1].sequence;
        let signed = checkpoint_at(&rows, last);
        let fault = Fault::Rewritten { since: 1 };
        prop_assert_eq!(from_genesis(&damaged, &[signed]), broken(last, fault));
    }

    #[test]
    fn ac_185_a_removed_row_is_named((rows, index) in place(), count in 1..5_usize) {
        let end = (index + count).min(rows.len());
        let mut damaged = rows.clone();
        damaged.drain(index..end);
        let (at, through) = (rows[index].sequence, rows[end - 1].sequence);
        let verdict = from_genesis(&damaged, &[]);
        if end < rows.len() {
            prop_assert_eq!(verdict, broken(at, Fault::Missing { through }));
        } else {
            prop_assert!(verdict.is_intact(), "a cut end is seen only by a checkpoint");
        }
        // With a checkpoint inside the hole, and after it.
        let last = rows[rows.len() - 1].sequence;
        let verdict = from_genesis(&damaged, &[checkpoint_at(&rows, last)]);
        let fault = if end < rows.len() {
            Fault::Missing { through }
        } else {
            Fault::CutAfterCheckpoint { checkpoint: last }
        };
        prop_assert_eq!(verdict, broken(at, fault.clone()));
        let inside = from_genesis(&damaged, &[checkpoint_at(&rows, through)]);
        prop_assert_eq!(inside, broken(at, fault));
        // Or when it is known from elsewhere how far the trail goes.
        let mut verifier = ChainVerifier::from_genesis(REGISTRY, &[]);
        verifier.expect_through(last);
        prop_assert_eq!(
            run(verifier, &damaged, &[]),
            broken(at, Fault::Missing { through })
        );
    }

    #[test]
    fn ac_185_a_row_removed_and_the_rest_renumbered_is_named((rows, index) in place()) {
        let mut damaged = rows.clone();
        damaged.remove(index);
        damaged[index..].iter_mut().for_each(|row| row.sequence -= 1);
        let verdict = from_genesis(&damaged, &[]);
        if index < damaged.len() {
            prop_assert_eq!(verdict, broken(rows[index].sequence, Fault::Changed));
        } else {
            prop_assert!(verdict.is_intact());
        }
    }

    #[test]
    fn ac_185_swapped_rows_name_the_first((rows, one) in place(), two in 0..60_usize) {
        let two = two % rows.len();
        prop_assume!(one != two);
        let at = rows[one.min(two)].sequence;
        let mut damaged = rows.clone();
        damaged.swap(one, two);
        prop_assert_eq!(from_genesis(&damaged, &[]), broken(at, Fault::OutOfOrder));
        // What two rows hold is swapped, and their numbers are not.
        (damaged[one].sequence, damaged[two].sequence) =
            (damaged[two].sequence, damaged[one].sequence);
        prop_assert_eq!(from_genesis(&damaged, &[]), broken(at, Fault::Changed));
    }

    #[test]
    fn ac_185_a_row_twice_is_named((rows, index) in place(), after in 0..60_usize) {
        let after = index + after % (rows.len() - index);
        let mut damaged = rows.clone();
        damaged.insert(after + 1, rows[index].clone());
        let at = rows[index].sequence;
        prop_assert_eq!(from_genesis(&damaged, &[]), broken(at, Fault::Inserted));
    }

    #[test]
    fn ac_185_a_row_put_in_between_is_named((rows, index) in place(), with_hash in any::<bool>()) {
        let mut damaged = rows.clone();
        let mut added = rows[index].clone();
        added.texts[1] = "someone else".to_owned();
        damaged.insert(index, added);
        damaged[index + 1..].iter_mut().for_each(|row| row.sequence += 1);
        if with_hash {
            rechain(&mut damaged[..=index], index);
        }
        // One that has a right hash of its own is seen by the row after it.
        let at = rows[index].sequence + i64::from(with_hash);
        prop_assert_eq!(from_genesis(&damaged, &[]), broken(at, Fault::Changed));
        // With the number of another row it is a second one.
        let mut damaged = rows.clone();
        damaged.insert(index + 1, rows[index].clone());
        damaged[index + 1].texts[1] = "someone else".to_owned();
        prop_assert_eq!(
            from_genesis(&damaged, &[]),
            broken(rows[index].sequence, Fault::Inserted)
        );
    }
}
