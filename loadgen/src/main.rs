//! `corewire-load`: a benchmark for any WebSocket server.
//!
//! From the inside out, and each knows only what stands above it:
//!
//! - `units`, `sizes`, `payload`, `template`, `schedule`, `ledger`, `sequence`, `latency`, `target`: values and arithmetic. No clock, no socket.
//! - `clock`, `tally`, `link`: what a worker holds. No runtime.
//! - `scenario`: what is done with the connections, a file each. Decides, never awaits.
//! - `transport`, `worker`: bytes and time. The only ones that know monoio.
//! - `observe`, `spawn`: the server as `/proc` shows it, and its life.
//! - `board`, `conduct`: one run of several workers.
//! - `view`: what is seen while a run goes on.
//! - `report`: what is said about a run.
//! - `crowd`: idle connections in several processes.
//! - `args`, `commands`, `mix`, `compare`: the command line, plans of several phases, several servers in turn.

mod args;
mod board;
mod clock;
mod commands;
mod compare;
mod conduct;
mod crowd;
mod latency;
mod ledger;
mod link;
mod mix;
mod observe;
mod payload;
mod report;
mod scenario;
mod schedule;
mod sequence;
mod sizes;
mod spawn;
mod tally;
mod target;
mod template;
mod transport;
mod units;
mod view;
mod worker;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match commands::execute(args::CommandLine::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            commands::note(&format!("error: {reason}"));
            ExitCode::from(EXIT_BAD_INPUT)
        }
    }
}

/// Something was asked for that cannot be had.
const EXIT_BAD_INPUT: u8 = 2;
