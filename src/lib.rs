//! Corewire: a WebSocket server for Linux, one io_uring runtime per core.
//!
//! To embed it, implement `handler::Handler` and hand one per core to `server::Server`; the module `server` begins
//! with an example, and the repository's `examples/` has four more.
//!
//! # Features
//!
//! All are on by default. Without any, what is left compiles to functions and state machines over bytes, with
//! no runtime and no system call.
//!
//! | feature | adds |
//! |---|---|
//! | `engine` | `handler`, `server` and what they stand on: shards on monoio, the mesh, `metrics`, `builtin` |
//! | `tls` | `tls`, and TLS in `connection` and `server` |
//! | `auth` | `auth`: tokens and API keys |
//! | `wire` | `wire`: what clients of topics speak |
//! | `control` | `control`: metrics and health over HTTP, on a thread of its own; needs `engine` |
//! | `webhooks` | `webhooks`: events and questions to a back end over HTTP; needs `engine` |
//! | `cli` | `config` and the `corewire` command; needs all others |
//!
//! # Map
//!
//! Code that decides never awaits; code that awaits never decides. The folders are ordered from the inside out, and
//! each knows only what stands above it:
//!
//! - `http`: request heads and plain replies. Knows no sockets and no WebSocket.
//! - `protocol`: RFC 6455 and RFC 7692 as functions over bytes. Knows no connection.
//! - `tls`: ciphertext in, plaintext out, around rustls. Knows neither sockets nor who speaks inside.
//! - `connection`: one peer: bytes and time in, events and bytes out. Knows no socket, clock or other peer.
//! - `rate`: token buckets. Knows no clock, and not what is counted.
//! - `auth`: tokens and keys in, permissions out. Knows neither sockets nor HTTP, and is told the time.
//! - `wire`: JSON text to typed messages and back, and events of SSE. Knows no topics, subscribers or connections.
//! - `topics`: who hears what: names, namespaces, subscriptions, history, presence. Knows neither WebSocket nor cores'
//!   threads.
//! - `metrics`: counters with one writer each. Knows nobody who reads them.
//! - `ids`: names of things that cross folders.
//! - `handler`: what an application implements. Knows no shards and no sockets.
//! - `backend`: what a back end is told and asked. Knows not how either travels.
//! - `mesh`: bounded rings between cores. Knows not what an envelope means.
//! - `shard`: one core: its connections, its timers, and monoio, which is named nowhere else.
//! - `control`: the admin thread, with tokio.
//! - `webhooks`: events and questions over HTTP, with tokio too.
//! - `builtin`: the servers of the `corewire` command: handlers like any embedder's.
//! - `config`: options from the command line, the environment and a file. Knows nothing that runs.
//! - `server`: builds the shards and the mesh and starts them. The only place that knows everyone.

pub mod connection;
pub mod http;
pub mod protocol;
pub mod rate;
pub mod topics;

#[cfg(feature = "auth")]
pub mod auth;
#[cfg(feature = "wire")]
pub mod wire;

#[cfg(feature = "tls")]
pub mod tls;

#[cfg(feature = "engine")]
pub mod backend;
#[cfg(feature = "engine")]
pub mod handler;
#[cfg(feature = "engine")]
pub mod ids;
#[cfg(feature = "engine")]
pub mod mesh;
#[cfg(feature = "engine")]
pub mod metrics;
#[cfg(feature = "engine")]
pub mod server;
#[cfg(feature = "engine")]
pub mod shard;

#[cfg(feature = "engine")]
pub mod builtin;
#[cfg(feature = "cli")]
pub mod config;
#[cfg(feature = "control")]
pub mod control;
#[cfg(feature = "webhooks")]
pub mod webhooks;

/// The examples in README.md, compiled.
#[cfg(all(doctest, feature = "engine"))]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(test)]
mod tidy;
