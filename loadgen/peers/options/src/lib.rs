//! The command line that all peers share.

use std::path::PathBuf;

/// How a peer is started.
#[derive(Clone, Debug, clap::Parser)]
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
