//! The command line that all peers share.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

/// How a peer is started.
#[derive(Clone, Debug, Parser)]
pub struct Options {
    /// Port to listen on, on 127.0.0.1.
    #[arg(long, default_value_t = 9001)]
    pub port: u16,
    /// What is done with a message.
    #[arg(long, value_enum, default_value_t = Mode::Echo)]
    pub mode: Mode,
    /// Threads that serve.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Certificate chain in PEM; with it the server speaks TLS.
    #[arg(long, requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Key of the certificate, in PEM.
    #[arg(long, requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
}

/// What is done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// It goes back to its sender.
    Echo,
    /// It goes to everybody, its sender too.
    Broadcast,
}

impl Options {
    /// The command line of a floor, which echoes bytes and knows neither messages nor TLS.
    ///
    /// Where more is asked of it, it says so and ends the process with exit code 2, as for any wrong argument.
    pub fn parse_for_floor() -> Self {
        let options = Self::parse();
        let refusal = if options.mode == Mode::Broadcast {
            "this server only echoes bytes: it has no broadcast"
        } else if options.tls_cert.is_some() {
            "this server only echoes bytes: it has no TLS"
        } else if options.threads != 1 {
            "this server has one thread"
        } else {
            return options;
        };
        Self::command().error(ErrorKind::ValueValidation, refusal).exit()
    }
}
