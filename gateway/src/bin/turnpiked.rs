//! `turnpiked`: the gateway.
#![forbid(unsafe_code)]

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::{Parser, ValueEnum};
use gateway::daemon::{self, Options};
use tracing_subscriber::EnvFilter;

/// A gateway between tenant networks and a BGP fabric.
#[derive(Parser)]
#[command(name = "turnpiked", version)]
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

/// Has the C library ask for huge pages, which it does only when told before the process starts: lookups in large tables
/// spend much of their time in the TLB otherwise. Where the kernel gives none, nothing changes.
fn with_huge_pages() {
    const TUNABLES: &str = "GLIBC_TUNABLES";
    if std::env::var_os(TUNABLES).is_some() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut command = Command::new(program);
    let mut arguments = std::env::args_os();
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    let error = command.args(arguments).env(TUNABLES, "glibc.malloc.hugetlb=1").exec();
    eprintln!("turnpiked: running without huge pages for tables: {error}");
}

fn main() -> ExitCode {
    with_huge_pages();
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
