//! Whether the disk has room for what is going to be built. A build that runs out of it ends after a quarter of an
//! hour, with a word of the compiler about some file.

use std::path::Path;

use rustix::fs::statvfs;

/// What a folder for building that is there already may still grow by, in GiB.
const GROWTH: u64 = 3;

/// Says so when there is less room than a command will take: so many GiB when nothing is built yet. Only says so, since
/// what is there and what others take meanwhile are guesses.
pub(crate) fn mind(gib: u64) {
    let target = crate::target();
    let wants = if target.join("debug/deps").is_dir() {
        GROWTH.min(gib)
    } else {
        gib
    };
    if let Some(free) = free(&target)
        && let Some(warning) = warning(free, wants, &target)
    {
        eprintln!("{warning}");
    }
}

/// GiB that we may still write where a folder is or will be.
fn free(folder: &Path) -> Option<u64> {
    let there = folder.ancestors().find(|folder| folder.exists())?;
    let found = statvfs(there).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize) >> 30)
}

fn warning(free: u64, wants: u64, target: &Path) -> Option<String> {
    (free < wants).then(|| {
        format!(
            "warning: {free} GiB are free for {}, and this takes about {wants}; \
             CARGO_TARGET_DIR names another place",
            target.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_too_full_is_told_of_and_none_that_is_not() {
        let place = Path::new("/somewhere/target");
        let said = warning(2, 12, place).expect("too little");
        assert!(
            said.contains("2 GiB") && said.contains("12") && said.contains("/somewhere/target")
        );
        assert_eq!(warning(12, 12, place), None);
    }

    #[test]
    fn a_folder_that_is_not_made_yet_has_the_room_of_the_one_it_will_be_in() {
        let folder = tempfile::tempdir().expect("a folder");
        let here = free(folder.path()).expect("some disk");
        let later = free(&folder.path().join("not/yet")).expect("the same disk");
        assert!(here.abs_diff(later) <= 1, "{here} and {later}");
    }
}
