//! The Debian package of the server, made with `dpkg-deb` alone: a program, a unit, and three scripts.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    git, process,
    tools::{self, Need},
};

/// Name of the Debian package, and of the program.
const PACKAGE: &str = "keywright-server";
const UNIT: &str = "usr/lib/systemd/system/keywright-server.service";
const DEFAULTS: &str = "etc/default/keywright-server";

/// Where each file of `packaging/` goes, and whether it is run.
const FILES: &[(&str, &str, bool)] = &[
    ("server/keywright-server.service", UNIT, false),
    ("server/default", DEFAULTS, false),
    (
        "server/sysusers.conf",
        "usr/lib/sysusers.d/keywright-server.conf",
        false,
    ),
    (
        "server/README",
        "usr/share/doc/keywright-server/README",
        false,
    ),
    (
        "copyright",
        "usr/share/doc/keywright-server/copyright",
        false,
    ),
    (
        "monitoring/alerts.yml",
        "usr/share/doc/keywright-server/examples/alerts.yml",
        false,
    ),
    ("server/postinst", "DEBIAN/postinst", true),
    ("server/prerm", "DEBIAN/prerm", true),
    ("server/postrm", "DEBIAN/postrm", true),
];

/// What says that the service starts with the machine.
const ENABLED: &str = "etc/systemd/system/multi-user.target.wants/keywright-server.service";

/// What the unit may not be more exposed than, in tenths, by systemd's own measure.
const MOST_EXPOSED: &str = "15";

/// `cargo xtask bundle server`.
pub(crate) fn run(verify: bool) -> Result<()> {
    tools::ensure(&[Need::Compile, Need::Pack])?;
    let version = git::version(&crate::root(), env!("CARGO_PKG_VERSION"));
    process::step("build the server", || {
        // The program says which build it is, as its package does.
        process::run(process::cargo().env("KEYWRIGHT_BUILD", &version).args([
            "build",
            "--release",
            "--locked",
            "--package",
            "keywright-server",
        ]))
    })?;
    let folder = crate::target().join("release");
    let package = process::step("make the server's Debian package", || {
        assemble(
            &folder.join(PACKAGE),
            &folder.join("bundle/server"),
            &version,
        )
    })?;
    println!("made {}", package.display());
    if verify {
        process::step("install, run and remove the package in a folder", || {
            check_installed(&package)
        })?;
        process::step("look at the unit", check_unit)?;
        println!("ok: {PACKAGE} installs, runs and goes");
    }
    Ok(())
}

/// Makes the package of a program in `folder`, in the place of those that were made there before: whoever installs
/// what is in the folder means the newest. Returns its path.
fn assemble(program: &Path, folder: &Path, version: &str) -> Result<PathBuf> {
    let architecture = process::output(process::command("dpkg").arg("--print-architecture"))?;
    let architecture = architecture.trim();
    let tree = folder.join("tree");
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    let packaging = crate::root().join("packaging");
    for (from, to, runs) in FILES {
        put(&packaging.join(from), &tree.join(to), *runs)?;
    }
    put(program, &tree.join("usr/bin").join(PACKAGE), true)?;
    let size = size_of(&tree)?.div_ceil(1024);
    let libc = glibc_of(&fs::read(program)?);
    fs::write(
        tree.join("DEBIAN/control"),
        control(version, architecture, size, libc),
    )?;
    fs::write(tree.join("DEBIAN/conffiles"), format!("/{DEFAULTS}\n"))?;
    modes(&tree)?;
    for old in fs::read_dir(folder)? {
        let old = old?.path();
        if old.extension().is_some_and(|ending| ending == "deb") {
            fs::remove_file(old)?;
        }
    }
    let package = folder.join(format!("{PACKAGE}_{version}_{architecture}.deb"));
    let mut build = process::command("dpkg-deb");
    build
        .args(["--build", "--root-owner-group", "-Zxz"])
        .arg(&tree)
        .arg(&package);
    process::output(&mut build)?;
    fs::remove_dir_all(&tree)?;
    Ok(package)
}

fn put(from: &Path, to: &Path, runs: bool) -> Result<()> {
    let folder = to.parent().context("a file has a folder")?;
    fs::create_dir_all(folder)?;
    fs::copy(from, to).with_context(|| format!("no {}", from.display()))?;
    let mode = if runs { 0o755 } else { 0o644 };
    fs::set_permissions(to, fs::Permissions::from_mode(mode))?;
    Ok(())
}

/// Whatever the umask of whoever packs is: folders are for everybody to read.
fn modes(folder: &Path) -> Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            modes(&path)?;
        }
    }
    Ok(())
}

fn size_of(folder: &Path) -> Result<u64> {
    let mut size = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        size += if entry.file_type()?.is_dir() {
            size_of(&entry.path())?
        } else {
            entry.metadata()?.len()
        };
    }
    Ok(size)
}

/// The newest `GLIBC_2.N` that a program names: what its machine must have.
fn glibc_of(program: &[u8]) -> u32 {
    let mark = b"GLIBC_2.";
    let found = program.windows(mark.len()).enumerate();
    let found = found.filter(|(_, part)| part == mark).map(|(at, _)| {
        let digits = program[at + mark.len()..].iter();
        let digits = digits.take(3).take_while(|byte| byte.is_ascii_digit());
        digits.fold(0, |number, byte| number * 10 + u32::from(byte - b'0'))
    });
    found.max().unwrap_or(0)
}

fn control(version: &str, architecture: &str, size: u64, libc: u32) -> String {
    let libc = match libc {
        0 => "libc6".to_owned(),
        minor => format!("libc6 (>= 2.{minor})"),
    };
    format!(
        "Package: {PACKAGE}\nVersion: {version}\nArchitecture: {architecture}\n\
         Maintainer: The Keywright authors <keywright@localhost>\nInstalled-Size: {size}\n\
         Depends: {libc}, libgcc-s1, ca-certificates, systemd | adduser\n\
         Suggests: nginx | caddy, postgresql\n\
         Section: net\nPriority: optional\nHomepage: https://github.com/keywright/keywright\n\
         Description: Identity and API-key server\n \
         OpenID Provider, people and sessions, and API keys for other people's APIs:\n \
         issued, verified, rotated and revoked over HTTP.\n"
    )
}

/// Into a root of its own, by the real dpkg: installed, run, removed and purged.
fn check_installed(package: &Path) -> Result<()> {
    let root = tempfile::tempdir()?;
    dpkg(root.path(), "--install", package.as_os_str())?;
    let program = root.path().join("usr/bin").join(PACKAGE);
    let said = process::output(process::command(&program).arg("--version"))?;
    ensure!(said.contains(env!("CARGO_PKG_VERSION")), "it says {said}");
    let defaults = root.path().join(DEFAULTS);
    fs::write(&defaults, "KEYWRIGHT_SERVER_LOG=debug\n")?;
    let data = root.path().join("var/lib/keywright");
    fs::create_dir_all(&data)?;
    fs::write(data.join("server.toml"), "")?;
    check_enabled(root.path(), true, "after it was installed")?;
    dpkg(root.path(), "--remove", PACKAGE.as_ref())?;
    ensure!(!program.exists(), "the program is left");
    ensure!(
        defaults.exists(),
        "a changed setting is gone before a purge"
    );
    // Put on again, it is as it was: enabled, and then not.
    dpkg(root.path(), "--install", package.as_os_str())?;
    check_enabled(root.path(), true, "after it was removed and installed")?;
    if has_helper() {
        fs::remove_file(root.path().join(ENABLED))?;
        dpkg(root.path(), "--remove", PACKAGE.as_ref())?;
        dpkg(root.path(), "--install", package.as_os_str())?;
        check_enabled(root.path(), false, "although somebody disabled it")?;
    }
    dpkg(root.path(), "--purge", PACKAGE.as_ref())?;
    check_enabled(root.path(), false, "after a purge")?;
    ensure!(!defaults.exists(), "a purge leaves settings");
    ensure!(data.join("server.toml").exists(), "the data are gone");
    Ok(())
}

/// Debian and its kin have it always.
fn has_helper() -> bool {
    Command::new("deb-systemd-helper").output().is_ok()
}

fn check_enabled(root: &Path, wanted: bool, when: &str) -> Result<()> {
    let is_enabled = fs::symlink_metadata(root.join(ENABLED)).is_ok();
    ensure!(
        !has_helper() || is_enabled == wanted,
        "the service is enabled: {is_enabled}, {when}"
    );
    Ok(())
}

fn dpkg(root: &Path, action: &str, what: &OsStr) -> Result<String> {
    let database = root.join("var/lib/dpkg");
    fs::create_dir_all(database.join("info"))?;
    fs::create_dir_all(database.join("updates"))?;
    for name in ["status", "available"] {
        let path = database.join(name);
        if !path.exists() {
            fs::write(path, "")?;
        }
    }
    let mut root_flag = OsString::from("--root=");
    root_flag.push(root);
    let mut command = process::command("dpkg");
    command.env("PATH", with_sbin(std::env::var_os("PATH").as_deref()));
    // Scripts run here with DPKG_ROOT set: this root has no shell of its own, and nothing it depends on.
    command
        .arg(root_flag)
        .args([
            "--force-not-root",
            "--force-script-chrootless",
            "--force-depends",
        ])
        .arg(action)
        .arg(what);
    process::output(&mut command)
}

/// dpkg wants programs of folders that Debian does not put on everybody's PATH, and refuses without them.
fn with_sbin(path: Option<&OsStr>) -> OsString {
    let mut all = path.unwrap_or_default().to_owned();
    for folder in ["/usr/sbin", "/sbin"] {
        if !all.is_empty() {
            all.push(":");
        }
        all.push(folder);
    }
    all
}

/// What systemd thinks of the unit, without running it.
fn check_unit() -> Result<()> {
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        eprintln!("note: no systemd-analyze here: the unit is not looked at");
        return Ok(());
    }
    let root = tempfile::tempdir()?;
    let units = root.path().join("usr/lib/systemd/system");
    fs::create_dir_all(&units)?;
    for entry in fs::read_dir("/usr/lib/systemd/system")?.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|ending| ending == "target") && path.is_file() {
            fs::copy(&path, units.join(entry.file_name()))?;
        }
    }
    let here = crate::root().join("packaging/server/keywright-server.service");
    put(&here, &root.path().join(UNIT), false)?;
    for program in ["usr/bin/keywright-server", "bin/kill"] {
        put(Path::new("/bin/true"), &root.path().join(program), true)?;
    }
    let mut flag = OsString::from("--root=");
    flag.push(root.path());
    let analyze = |words: &[&str]| {
        let mut command = process::command("systemd-analyze");
        command.arg(&flag).arg("--no-pager").args(words);
        command.output().context("cannot start systemd-analyze")
    };
    let verify = |what: &str| -> Result<()> {
        // It warns of what it does not know and succeeds.
        let verified = analyze(&["verify", "keywright-server.service"])?;
        let said = String::from_utf8_lossy(&verified.stderr);
        ensure!(
            verified.status.success() && said.trim().is_empty(),
            "the unit is not right{what}: {said}"
        );
        Ok(())
    };
    verify("")?;
    let threshold = format!("--threshold={MOST_EXPOSED}");
    let security = analyze(&[
        "security",
        "--offline=true",
        &threshold,
        "keywright-server.service",
    ])?;
    let said = String::from_utf8_lossy(&security.stdout).into_owned();
    let last = said.lines().rev().find(|line| line.contains("exposure"));
    eprintln!("{}", last.unwrap_or("").trim());
    if !security.status.success() {
        bail!("the unit is more exposed than {MOST_EXPOSED} tenths: {said}");
    }
    ensure!(
        said.contains("sched_setscheduler is allowed"),
        "hashes cannot run behind everything else under the unit: {said}"
    );
    let beside = root.path().join(UNIT).with_extension("service.d");
    fs::create_dir_all(&beside)?;
    fs::write(beside.join("port.conf"), documented_drop_in()?)?;
    verify(" with the documented drop-in")?;
    let with = analyze(&["security", "--offline=true", "keywright-server.service"])?;
    let with = String::from_utf8_lossy(&with.stdout);
    for part in ["PrivateUsers=", "AmbientCapabilities="] {
        let is_taken = |line: &&str| line.contains(part) && line.trim_start().starts_with('✗');
        ensure!(
            with.lines().any(|line| is_taken(&line)),
            "no {part}: {with}"
        );
    }
    Ok(())
}

/// What the guide says to a server that listens below 1024.
fn documented_drop_in() -> Result<String> {
    let guide = fs::read_to_string(crate::root().join("docs/server.md"))?;
    let blocks = guide.split("```ini\n").skip(1);
    let block = blocks
        .filter_map(|rest| rest.split("```").next())
        .find(|block| block.contains("AmbientCapabilities="));
    Ok(block.context("no drop-in in the guide")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stand-in for the server, so that the package is tested without a release build.
    fn package(folder: &Path) -> PathBuf {
        let program = folder.join("stand-in");
        let text = format!(
            "#!/bin/sh\necho {}\n# GLIBC_2.9 GLIBC_2.36\n",
            env!("CARGO_PKG_VERSION")
        );
        fs::write(&program, text).unwrap();
        assemble(&program, &folder.join("made"), VERSION).unwrap()
    }

    const VERSION: &str = "0.1.0+git20261130041000.abcdef1";

    #[test]
    fn the_newest_package_is_the_only_one_in_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let first = package(folder.path());
        let program = folder.path().join("stand-in");
        let second = assemble(
            &program,
            &folder.path().join("made"),
            "0.1.0+git20261130041001.abcdef2",
        );
        assert!(second.unwrap().exists() && !first.exists());
    }

    #[test]
    fn dpkg_finds_its_programs_whatever_path_a_person_has() {
        let ordinary = Some(OsStr::new("/usr/local/bin:/usr/bin:/bin"));
        for path in [ordinary, None] {
            let path = with_sbin(path);
            let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
            assert!(folders.contains(&"/usr/sbin".into()) && !folders.contains(&PathBuf::new()));
        }
    }

    #[test]
    fn what_is_documented_reads_the_settings_as_the_service_does() {
        for path in ["docs/server.md", "packaging/server/README"] {
            let text = fs::read_to_string(crate::root().join(path)).unwrap();
            // A shell would take `&` in an address for its own.
            assert!(!text.contains(". /etc/default"), "{path}");
            let wanted = "-p EnvironmentFile=-/etc/default/keywright-server";
            assert!(text.contains(wanted), "{path}");
        }
    }

    #[test]
    fn the_package_has_what_it_needs_installs_in_a_root_and_leaves_the_data() {
        let folder = tempfile::tempdir().unwrap();
        let package = package(folder.path());
        let dpkg = |flag: &str| {
            process::output(process::command("dpkg-deb").arg(flag).arg(&package)).unwrap()
        };
        let listing = dpkg("--contents");
        for (_, path, runs) in FILES.iter().filter(|one| !one.1.starts_with("DEBIAN")) {
            let mode = if *runs { "-rwxr-xr-x" } else { "-rw-r--r--" };
            let line = listing.lines().find(|line| line.ends_with(path)).unwrap();
            assert!(
                line.starts_with(mode) && line.contains("root/root"),
                "{line}"
            );
        }
        let program = listing
            .lines()
            .find(|line| line.ends_with("usr/bin/keywright-server"));
        assert!(program.unwrap().starts_with("-rwxr-xr-x"));
        let info = dpkg("--info");
        for part in [
            "libc6 (>= 2.36)",
            "conffiles",
            "postinst",
            "Section: net",
            VERSION,
        ] {
            assert!(info.contains(part), "{part} in {info}");
        }
        assert!(
            !info.contains("Recommends"),
            "it starts no proxy by itself: {info}"
        );
        check_installed(&package).unwrap();
    }

    #[test]
    fn scripts_are_shell_and_the_unit_is_tight() {
        for name in ["postinst", "prerm", "postrm"] {
            let script = crate::root().join("packaging/server").join(name);
            process::output(process::command("sh").arg("-n").arg(script)).unwrap();
        }
        check_unit().unwrap();
        let unit = crate::root().join("packaging/server/keywright-server.service");
        let unit = fs::read_to_string(unit).unwrap();
        for line in [
            "User=keywright",
            "ProtectSystem=strict",
            "NoNewPrivileges=yes",
            "MemoryDenyWriteExecute=yes",
            "SystemCallFilter=@system-service",
            "RestartForceExitStatus=SIGHUP",
            "CapabilityBoundingSet=",
        ] {
            assert!(unit.lines().any(|own| own == line), "{line}");
        }
        // Uses of keys are written down at the end, to what must not be gone by then.
        let after = unit.lines().find(|line| line.starts_with("After="));
        for service in [
            "postgresql.service",
            "redis-server.service",
            "valkey-server.service",
        ] {
            assert!(after.unwrap().contains(service), "{service}");
        }
        // Both come back after they were taken away: one alone counts as neither.
        let filters: Vec<&str> = unit
            .lines()
            .filter_map(|line| line.strip_prefix("SystemCallFilter="))
            .skip_while(|filter| !filter.contains("@resources"))
            .skip(1)
            .collect();
        assert_eq!(filters, ["sched_setscheduler setpriority"]);
        assert!(
            !unit
                .lines()
                .any(|own| own.to_lowercase().contains("password="))
        );
    }

    #[test]
    fn the_newest_library_is_what_counts() {
        assert_eq!(glibc_of(b"GLIBC_2.2.5\0GLIBC_2.34\0GLIBC_2.4\0"), 34);
        assert_eq!(glibc_of(b"nothing"), 0);
    }
}
