//! The `corewire` command.

mod reload;
mod startup;

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use corewire::config::{Config, ConfigError, Invocation, Loaded, logging};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Makes the allocator give back the pages that this thread has freed; a thread's heap is its own.
fn collect() {
    // SAFETY: it takes no pointer and may be called on any thread at any time; nothing that is in use is touched.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

fn main() -> ExitCode {
    match invocation() {
        Ok(Invocation::Print(text)) => print(&text),
        Ok(Invocation::Check(loaded)) => check(&loaded),
        Ok(Invocation::Run(loaded)) => run(loaded),
        Err(error) => complain(&error, EXIT_CONFIG),
    }
}

/// What the command line, the environment and the file say now.
fn invocation() -> Result<Invocation, ConfigError> {
    let variable = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let read_file = |path: &std::path::Path| std::fs::read_to_string(path);
    Config::from_sources(std::env::args_os(), variable, read_file)
}

/// The same for a server that runs. Its command line is what it was.
fn load_again() -> Result<Loaded, ConfigError> {
    match invocation()? {
        Invocation::Run(loaded) | Invocation::Check(loaded) => Ok(loaded),
        Invocation::Print(_) => unreachable!("a server that was to print something would not run"),
    }
}

/// `--check-config`: what a start would do, without doing it.
fn check(loaded: &Loaded) -> ExitCode {
    if let Err(error) = loaded.choose_cores(&allowed_cores()) {
        return complain(&error, EXIT_CONFIG);
    }
    for warning in &loaded.warnings {
        complain(&format_args!("warning: {warning}"), 0);
    }
    print(&loaded.to_toml())
}

fn run(loaded: Loaded) -> ExitCode {
    let mut cores = match loaded.choose_cores(&allowed_cores()) {
        Ok(cores) => cores,
        Err(error) => return complain(&error, EXIT_CONFIG),
    };
    if loaded.config.cores.is_none() {
        // A container's CPU quota: more threads than it pays for would only be throttled.
        cores.truncate(std::thread::available_parallelism().map_or(1, usize::from));
    }
    if let Err(error) = logging::init(loaded.config.log, loaded.config.log_level) {
        return complain(&format_args!("error: the log cannot be set up: {error}"), EXIT_FAILED);
    }
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    match startup::serve(&loaded.config, &cores, load_again) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tracing::error!("{failure}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// The process's affinity mask.
fn allowed_cores() -> Vec<usize> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    cores.into_iter().map(|core| core.id).collect()
}

/// Writes to stdout. A reader that has left is no failure.
fn print(text: &str) -> ExitCode {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::from(EXIT_FAILED),
        _ => ExitCode::SUCCESS,
    }
}

/// Writes to stderr, where nothing can be done about a failure.
fn complain(message: &dyn Display, code: u8) -> ExitCode {
    let _ = writeln!(io::stderr(), "{message}");
    ExitCode::from(code)
}

/// The server could not start, or failed.
const EXIT_FAILED: u8 = 1;
/// An option is wrong.
const EXIT_CONFIG: u8 = 2;
