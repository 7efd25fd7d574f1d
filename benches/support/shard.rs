//! One core without its sockets, with WebSockets open on it.

#![allow(dead_code, unreachable_pub, reason = "each benchmark uses a part of this module")]

use std::sync::Arc;

use bytes::Bytes;
use corewire::connection::{Limits, NextStep, Tick};
use corewire::handler::{Accept, Conn, Handler, Nobody, Peer, Request, Upgrade};
use corewire::mesh::{Census, Mesh, Ringer};
use corewire::metrics::ShardMetrics;
use corewire::protocol::Message;
use corewire::protocol::handshake::OriginPolicy;
use corewire::shard::ShardOptions;
use corewire::shard::state::State;

/// Says what it hears to everybody on its core.
pub struct Everybody;

impl Handler for Everybody {
    type Session = ();

    fn upgrade(&mut self, _: &mut Conn<'_>, _: &Request<'_>) -> Upgrade<()> {
        Upgrade::Accept(Accept::new(()))
    }

    fn message(&mut self, conn: &mut Conn<'_>, _: &mut (), message: Message<'_>) {
        let (kind, payload) = (message.kind(), Bytes::copy_from_slice(message.bytes()));
        conn.broadcast(kind, payload);
    }
}

struct Silent;

impl Ringer for Silent {
    fn wake(&self) {}
}

/// A core with `connections` open WebSockets, at the indexes from zero. `headers` end with CR LF each.
pub fn shard_of(connections: u32, headers: &str) -> State<Everybody> {
    let mesh = Mesh::new(vec![Box::new(Silent) as Box<dyn Ringer>], 16);
    let (post, _) = mesh.cores.into_iter().next().expect("one core");
    let outside = mesh.outside.into_iter().next().expect("one core");
    let options = ShardOptions {
        core: 0,
        limits: Limits::default(),
        origin: OriginPolicy::Any,
        trusted_proxies: Arc::new([]),
        #[cfg(feature = "tls")]
        tls: None,
        census: Arc::new(Census::new(usize::MAX)),
        namespaces: Arc::default(),
        listener: Arc::new(Nobody),
        metrics: Arc::new(ShardMetrics::default()),
        seed: 1,
    };
    let mut state = State::new(Everybody, options, post, outside, Tick(0));
    let request = format!(
        "GET / HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    let mut read = Vec::new();
    for expected in 0..connections {
        let index = state.handle_accept(Peer::Tcp(([127, 0, 0, 1], 4000).into())).expect("room");
        assert_eq!(index, expected);
        read.clear();
        read.extend_from_slice(request.as_bytes());
        state.handle_input(index, &mut read);
        drain(&mut state);
        assert!(state.core().connection(index).is_some_and(|connection| connection.is_open()));
    }
    state
}

/// The end of a turn, with sockets that take everything. Answers how many bytes they took.
pub fn drain(state: &mut State<Everybody>) -> usize {
    let mut taken = 0;
    while let Some(index) = state.pop_touched() {
        while let Some(NextStep::Write) = state.settle(index) {
            let connection = state.core().connection_mut(index).expect("it was settled just now");
            let outbox = connection.poll_transmit().expect("it has something to write");
            let len = outbox.queued_bytes();
            outbox.advance(len);
            taken += len;
        }
    }
    taken
}

/// Whether this is a measurement; else `cargo test` sees that it runs, and large things are made small.
pub fn is_measured() -> bool {
    std::env::args().any(|arg| arg == "--bench")
}
