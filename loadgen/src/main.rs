//! `corewire-load`: a load generator for any WebSocket server. Not built yet; it says so and fails.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[allow(clippy::print_stderr, reason = "a command speaks to its user here")]
    {
        eprintln!("corewire-load has no scenarios yet. Until it does, measure with another generator.");
    }
    ExitCode::from(2)
}
