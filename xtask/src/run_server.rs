//! Builds the server and serves a development data folder, which is made once.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::{fs::OpenOptionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::{
    process, reap,
    tools::{self, Need},
};

const PACKAGE: &str = "keywright-server";
const ADDRESS: &str = "127.0.0.1:8377";
const EMAIL: &str = "owner@example.org";

/// `cargo xtask run --server`.
pub(crate) fn run(release: bool) -> Result<()> {
    tools::ensure(&[Need::Compile])?;
    let server = build(release)?;
    let home = crate::target().join("xtask/server");
    let data = home.join("data");
    let password = password(&home)?;
    if !data.join("server.toml").exists() {
        set_up(&server, &home, &data)?;
    }
    eprintln!("  sign in     http://{ADDRESS}/account");
    eprintln!("  as          {EMAIL}");
    eprintln!("  password    {password}");
    eprintln!("  API         http://{ADDRESS}/api/docs");
    eprintln!("  root key    {}", home.join("root-key").display());
    eprintln!("  data        {}", data.display());
    eprintln!("  stop        Ctrl-C");
    let mut command = process::command(&server);
    command.args([
        "serve",
        "--listen",
        ADDRESS,
        "--log-format",
        "text",
        "--data",
    ]);
    command.arg(&data).process_group(0);
    let mut child = command.spawn().context("cannot start the server")?;
    loop {
        if let Some(status) = child.try_wait()? {
            bail!("the server ended ({status})");
        }
        if let Err(stopped) = process::pause(Duration::from_millis(50)) {
            // It drains by itself; what is left after that is ended.
            reap::send(child.id(), Signal::TERM);
            reap::end_tree(&mut child);
            return Err(stopped);
        }
    }
}

/// Builds the server and returns the binary's path.
pub(crate) fn build(release: bool) -> Result<PathBuf> {
    let kind = if release { "release" } else { "debug" };
    process::step(&format!("build the server ({kind})"), || {
        let mut cargo = process::cargo();
        cargo.args(["build", "--package", PACKAGE, "--bin", PACKAGE]);
        if release {
            cargo.arg("--release");
        }
        process::run(&mut cargo)
    })?;
    Ok(crate::target().join(kind).join(PACKAGE))
}

/// Makes a data folder with its first owner. The root key is kept beside it: this is a development
/// server, and keys are what people want to try.
pub(crate) fn set_up(server: &Path, home: &Path, data: &Path) -> Result<()> {
    password(home)?;
    let mut init = process::command(server);
    init.arg("init").arg("--data").arg(data);
    init.args(["--issuer", &format!("http://{ADDRESS}")]);
    init.args(["--admin-email", EMAIL, "--admin-password-file"]);
    init.arg(home.join("password"));
    let root_key = process::output(&mut init)?;
    write_private(&home.join("root-key"), root_key.trim())
}

/// The owner's password, made once.
fn password(home: &Path) -> Result<String> {
    let path = home.join("password");
    if !path.exists() {
        fs::create_dir_all(home)?;
        let mut bytes = [0_u8; 12];
        fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        write_private(&path, &text)?;
    }
    Ok(fs::read_to_string(&path)?.trim().to_owned())
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path)?;
    Ok(writeln!(file, "{text}")?)
}
