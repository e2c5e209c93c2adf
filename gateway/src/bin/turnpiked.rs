//! `turnpiked`: the gateway.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use gateway::daemon::{self, Options};
use tracing_subscriber::EnvFilter;

/// A gateway between tenant networks and a BGP fabric.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file (TOML); it is checked and committed to the store as a new revision if it changed.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Directory of the configuration store.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/turnpike")]
    state_dir: PathBuf,
    /// Check the configuration file and exit.
    #[arg(long)]
    check: bool,
    /// What to log: a level, or module=level pairs (RUST_LOG says the same).
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: String,
    /// How log lines look.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().or_else(|_| EnvFilter::try_new(&arguments.log));
    let filter = match filter {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!(
                "turnpiked: --log {}: {error}: write a level such as info, or module=level",
                arguments.log
            );
            return ExitCode::from(2);
        }
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match arguments.log_format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().init(),
    }
    let options = Options {
        config: arguments.config,
        state_dir: arguments.state_dir,
        check: arguments.check,
        dpdk_log: Default::default(),
    };
    match daemon::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{:?}", miette::Report::new(error));
            ExitCode::FAILURE
        }
    }
}
