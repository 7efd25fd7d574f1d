//! The log on stderr: text for people or JSON for machines.

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use super::{LogFormat, LogLevel};

/// Sends the log of this process to stderr from now on. Fails if the process has a log already.
///
/// The level holds for Corewire; of the libraries below it, only warnings and errors are logged, except at
/// [`LogLevel::Trace`]. Text is coloured when stderr is a terminal and `NO_COLOR` is not set.
pub fn init(format: LogFormat, level: LogLevel) -> Result<(), TryInitError> {
    let registry = tracing_subscriber::registry().with(filter(level));
    match format {
        LogFormat::Text => {
            let colour =
                io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(colour);
            registry.with(layer).try_init()
        }
        LogFormat::Json => {
            let layer = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(io::stderr);
            registry.with(layer).try_init()
        }
    }
}

fn filter(level: LogLevel) -> Targets {
    let ours = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let theirs = match level {
        LogLevel::Trace => LevelFilter::TRACE,
        _ => ours.min(LevelFilter::WARN),
    };
    Targets::new().with_target("corewire", ours).with_default(theirs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn libraries_are_quieter_than_corewire() {
        let debug = filter(LogLevel::Debug);
        assert!(debug.would_enable("corewire::shard", &Level::DEBUG));
        assert!(!debug.would_enable("corewire::shard", &Level::TRACE));
        assert!(!debug.would_enable("hyper::proto", &Level::INFO));
        assert!(debug.would_enable("hyper::proto", &Level::WARN));

        let error = filter(LogLevel::Error);
        assert!(!error.would_enable("corewire", &Level::WARN));
        assert!(!error.would_enable("rustls", &Level::WARN));

        assert!(filter(LogLevel::Trace).would_enable("rustls", &Level::TRACE));
    }
}
