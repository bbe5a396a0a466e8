//! The binary's commands. They print to standard output what a script wants to read, and talk on
//! standard error.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line prints"
)]

mod audit;
mod backup;
mod clients;
mod doctor;
mod empty_folder;
mod end_again;
mod escrow;
mod healthy;
mod init;
mod installation;
mod keys;
mod migrate;
mod overrides;
mod owner;
mod owners;
mod peppers;
mod providers;
mod put_back;
mod restore;
mod serve;
mod shared;
mod signing_keys;
mod users;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The Keywright server: OpenID Provider, people, sessions and API keys.
#[derive(Debug, Parser)]
#[command(name = "keywright-server", version = keywright_server::BUILD, about)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sets a data folder up, once: settings, secrets, the first owner, and a root key.
    Init(init::Init),
    /// Serves a data folder.
    Serve(serve::Serve),
    /// Applications that may ask for tokens.
    #[command(subcommand)]
    Clients(clients::Clients),
    /// People.
    #[command(subcommand)]
    Users(users::Users),
    /// Services and teams that keys belong to.
    #[command(subcommand)]
    Owners(owners::Owners),
    /// Identity providers that people sign in by.
    #[command(subcommand)]
    Providers(providers::Providers),
    /// Keys that sign tokens.
    #[command(subcommand)]
    SigningKeys(signing_keys::SigningKeys),
    /// Peppers of API keys.
    #[command(subcommand)]
    Peppers(peppers::PepperCommand),
    /// The audit trail.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// API keys where they lie.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Looks for what is wrong and says what to do.
    Doctor(doctor::Doctor),
    /// Asks the running server whether it runs.
    Healthy(healthy::Healthy),
    /// Brings the database to this program's schema.
    Migrate(migrate::Migrate),
    /// Writes everything into one sealed file.
    Backup(backup::Backup),
    /// Writes settings and secrets into one sealed file, without the database.
    Escrow(escrow::Escrow),
    /// Puts a backup into a new data folder.
    Restore(restore::Restore),
    /// Says that the database was put back from a backup or a snapshot.
    PutBack(put_back::PutBack),
    /// Ends again what was ended after a backup that was put back.
    EndAgain(end_again::EndAgain),
}

/// Runs a command. What it found may be a code of its own.
pub(crate) fn run(arguments: Arguments) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .event_interval(keywright_server::EVENT_INTERVAL)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let done = match arguments.command {
            Command::Audit(audit) => return audit.run().await,
            Command::Keys(keys) => return keys.run().await,
            Command::Init(init) => init.run().await,
            Command::Serve(serve) => serve.run().await,
            Command::Clients(clients) => clients.run().await,
            Command::Users(users) => users.run().await,
            Command::Owners(owners) => owners.run().await,
            Command::Providers(providers) => providers.run().await,
            Command::SigningKeys(keys) => keys.run().await,
            Command::Peppers(peppers) => peppers.run().await,
            Command::Doctor(doctor) => doctor.run().await,
            Command::Healthy(healthy) => healthy.run().await,
            Command::Migrate(migrate) => migrate.run().await,
            Command::Backup(backup) => backup.run().await,
            Command::Escrow(escrow) => escrow.run().await,
            Command::Restore(restore) => restore.run().await,
            Command::PutBack(put_back) => put_back.run().await,
            Command::EndAgain(end_again) => end_again.run().await,
        };
        done.map(|()| ExitCode::SUCCESS)
    })
}

/// Says what went wrong.
pub(crate) fn complain(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}
