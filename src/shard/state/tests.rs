//! Several cores, the mesh and their clients, stepped in one thread with a fake clock.

#[cfg(feature = "wire")]
mod simulation;
mod topics;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::connection::{Connection, Limits, Random, Workspace};
use crate::handler::{Accept, Request, Upgrade};
use crate::mesh::{Census, Mesh, Ringer};
use crate::protocol::handshake::OriginPolicy;
use crate::protocol::{MessageKind, Role};
use crate::topics::{DataKind, Draft, Topic, Want};

/// A bell that nobody needs: the test takes every mailbox's turn.
struct Silent;

impl Ringer for Silent {
    fn wake(&self) {}
}

/// Says everything to everybody; panics, pauses or closes where it is told to.
struct Everybody;

impl Handler for Everybody {
    type Session = u32;

    fn upgrade(&mut self, _: &mut Conn<'_>, request: &Request<'_>) -> Upgrade<u32> {
        match request.path() {
            "/refuse" => Upgrade::Refuse(crate::http::Response::text(402, "pay first\n")),
            "/panic" => panic!("asked to, in upgrade"),
            _ => Upgrade::Accept(Accept::new(0)),
        }
    }

    fn message(&mut self, conn: &mut Conn<'_>, count: &mut u32, message: Message<'_>) {
        *count += 1;
        match message.text() {
            Some("panic") => panic!("asked to, in message"),
            Some("close") => conn.close(CloseCode(4000), "asked to"),
            Some(text) if text.starts_with("subscribe ") => {
                let topic = Topic::parse(&text["subscribe ".len()..]).expect("a good name");
                conn.subscribe(&topic, Want::Nothing, None).expect("once");
            }
            Some(text) if text.starts_with("publish ") => {
                let (topic, data) = text["publish ".len()..].split_once(' ').expect("a topic and data");
                let draft = Draft { kind: DataKind::Text, data: data.to_owned().into(), key: None, publisher: None };
                // What finds no room is counted, and the test counts it too.
                let _ = conn.publish(&Topic::parse(topic).expect("a good name"), draft);
            }
            Some("count") => conn.send_text(&count.to_string()).expect("it is open"),
            Some(_) | None => {
                let kind = message.kind();
                conn.broadcast_all(kind, message.into_bytes()).expect("nobody is refused");
            }
        }
    }
}

struct World {
    cores: Vec<(State<Everybody>, Mailbox<Envelope>)>,
    clients: Vec<Client>,
    census: Arc<Census>,
    now: Tick,
    random: Random,
}

/// A client and its socket: bytes on their way in both directions.
struct Client {
    core: usize,
    index: u32,
    connection: Connection,
    workspace: Workspace,
    uplink: VecDeque<u8>,
    downlink: VecDeque<u8>,
    head: Option<Vec<u8>>,
    received: Vec<String>,
    closed: Option<Closed>,
    /// The server has sent FIN, or has let go of the socket.
    server_done: bool,
    server_gone: bool,
}

impl World {
    fn new(core_count: usize, capacity: usize, limits: Limits, connections_max: usize, seed: u64) -> Self {
        let ringers = (0..core_count).map(|_| Box::new(Silent) as Box<dyn Ringer>).collect();
        let mesh = Mesh::new(ringers, capacity);
        let census = Arc::new(Census::new(connections_max));
        let cores = mesh.cores.into_iter().zip(mesh.outside).enumerate();
        let cores = cores.map(|(core, ((post, mailbox), outside))| {
            let options = ShardOptions {
                core: core as u16,
                limits: limits.clone(),
                origin: OriginPolicy::Any,
                trusted_proxies: Arc::new([]),
                #[cfg(feature = "tls")]
                tls: None,
                census: census.clone(),
                namespaces: Arc::default(),
                listener: Arc::new(crate::handler::Nobody),
                metrics: Arc::new(ShardMetrics::default()),
                seed,
            };
            (State::new(Everybody, options, post, outside, Tick(0)), mailbox)
        });
        Self { cores: cores.collect(), clients: Vec::new(), census, now: Tick(0), random: Random::new(seed) }
    }

    /// A client that has asked for a WebSocket at `path`. `None`: there was no room.
    fn connect(&mut self, core: usize, path: &str) -> Option<usize> {
        let peer = Peer::Tcp(([127, 0, 0, 1], 4000).into());
        let index = self.cores[core].0.handle_accept(peer)?;
        let mut workspace = Workspace::new(Limits { ping_interval: Duration::ZERO, ..Limits::default() }, 7);
        let connection = Connection::established(Role::Client, None, &mut workspace, self.now);
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        self.clients.push(Client {
            core,
            index,
            connection,
            workspace,
            uplink: request.into_bytes().into(),
            downlink: VecDeque::new(),
            head: Some(Vec::new()),
            received: Vec::new(),
            closed: None,
            server_done: false,
            server_gone: false,
        });
        Some(self.clients.len() - 1)
    }

    fn say(&mut self, client: usize, text: &str) {
        let client = &mut self.clients[client];
        let body = crate::connection::Body::Borrowed(text.as_bytes());
        client.connection.send(MessageKind::Text, body, &mut client.workspace).expect("it is open");
        client.pump();
    }

    /// Some of what is on its way to the server arrives, cut anywhere.
    fn deliver(&mut self, client: usize) {
        let random = &mut self.random;
        let client = &mut self.clients[client];
        let state = &mut self.cores[client.core].0;
        if client.server_gone || !state.core_ref().wants_input(client.index) {
            return;
        }
        let len = random.below(client.uplink.len() as u64 + 1) as usize;
        let mut bytes: Vec<u8> = client.uplink.drain(..len).collect();
        if !bytes.is_empty() {
            state.handle_input(client.index, &mut bytes);
        }
    }

    /// The end of a core's turn: its mailbox, its timers, everything that was touched.
    fn turn(&mut self, core: usize) {
        let (state, mailbox) = &mut self.cores[core];
        state.set_now(self.now);
        state.handle_mailbox(mailbox);
        state.handle_timers();
        state.catch_up();
        while let Some(index) = state.pop_touched() {
            let client = self.clients.iter_mut().find(|c| c.core == core && c.index == index && !c.server_gone);
            let Some(client) = client else { continue };
            loop {
                match state.settle(index) {
                    None | Some(NextStep::Wait) => break,
                    Some(NextStep::Write) => {
                        let connection = state.core().connection_mut(index).expect("it was settled just now");
                        let outbox = connection.poll_transmit().expect("it has something to write");
                        client.downlink.extend(outbox.front());
                        let len = outbox.front().len();
                        outbox.advance(len);
                    }
                    Some(NextStep::Fin) => {
                        client.server_done = true;
                        state.core().connection_mut(index).expect("it is there").fin_sent();
                    }
                    Some(NextStep::Close) => {
                        client.server_gone = true;
                        state.release(index);
                        break;
                    }
                }
            }
        }
    }

    /// Everything on its way arrives, until nothing moves any more.
    fn settle(&mut self) {
        for _round in 0..10_000 {
            for client in 0..self.clients.len() {
                self.deliver(client);
                self.clients[client].hear(self.now);
            }
            for core in 0..self.cores.len() {
                self.turn(core);
            }
            let moving =
                self.clients.iter().any(|c| !c.downlink.is_empty() || (!c.uplink.is_empty() && !c.server_gone));
            let congested = self.cores.iter().any(|(state, _)| state.core_ref().is_congested());
            if !moving && !congested {
                return;
            }
        }
        panic!("the world does not come to rest");
    }

    fn metrics(&self, core: usize) -> &ShardMetrics {
        self.cores[core].0.core_ref().metrics()
    }
}

impl Client {
    /// What the client has queued goes on its way.
    fn pump(&mut self) {
        while let Some(outbox) = self.connection.poll_transmit() {
            self.uplink.extend(outbox.front());
            let len = outbox.front().len();
            outbox.advance(len);
        }
        self.connection.transmitted(&mut self.workspace);
    }

    /// What is on its way to the client arrives.
    fn hear(&mut self, now: Tick) {
        let mut bytes: Vec<u8> = self.downlink.drain(..).collect();
        if let Some(head) = &mut self.head {
            head.append(&mut bytes);
            let Some(end) = head.windows(4).position(|w| w == b"\r\n\r\n") else { return };
            bytes = head.split_off(end + 4);
            if head.starts_with(b"HTTP/1.1 101") {
                self.head = None;
            }
        }
        let mut input = Input::new(&mut bytes);
        while let Some(event) = self.connection.poll_event(&mut input, &mut self.workspace, now) {
            match event {
                Event::Message(message) => self.received.push(message.text().expect("text").to_owned()),
                Event::Closed(closed) => self.closed = Some(closed),
                _ => {}
            }
        }
        self.connection.end_input(&mut input, &mut self.workspace);
        self.pump();
    }
}

fn quiet_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let asked_for = info.payload().downcast_ref::<&str>().is_some_and(|text| text.starts_with("asked to"));
        if !asked_for {
            usual(info);
        }
    }));
}

#[test]
fn a_message_reaches_everybody_on_every_core() {
    let mut world = World::new(3, 16, Limits::default(), 100, 1);
    for core in [0, 0, 1, 2, 2] {
        world.connect(core, "/").expect("there is room");
    }
    world.settle();
    world.say(2, "hello");
    world.settle();
    for client in &world.clients {
        assert_eq!(client.received, ["hello"]);
    }
    assert_eq!(world.metrics(1).mesh_sent.get(), 2);
    assert_eq!(world.metrics(2).messages_out.get(), 2);
    assert_eq!(world.metrics(0).connections_open.get(), 2);
}

/// Tiny rings, many publishers that all speak at once: rings and backlogs fill, and still nothing is lost, doubled
/// or reordered per sender.
#[test]
fn congestion_slows_publishers_down_and_loses_nothing() {
    for seed in 0..60 {
        let mut world = World::new(3, 4, Limits::default(), 100, seed);
        let clients: Vec<_> = (0..12).map(|n| world.connect(n % 3, "/").expect("there is room")).collect();
        world.settle();
        for &client in &clients {
            for n in 0..30 {
                world.say(client, &format!("{client}:{n}"));
            }
        }
        world.settle();
        for client in &world.clients {
            assert_eq!(client.received.len(), 12 * 30, "seed {seed}");
            for sender in 0..12 {
                let own = client.received.iter().filter(|text| text.starts_with(&format!("{sender}:")));
                assert!(own.cloned().eq((0..30).map(|n| format!("{sender}:{n}"))), "seed {seed}, sender {sender}");
            }
        }
        let refused: u64 = (0..3).map(|core| world.metrics(core).mesh_refused.get()).sum();
        assert_eq!(refused, 0, "seed {seed}");
    }
}

#[test]
fn a_panic_closes_its_connection_with_1011_and_harms_no_other() {
    quiet_panics();
    let mut world = World::new(2, 16, Limits::default(), 100, 3);
    for core in [0, 0, 1] {
        world.connect(core, "/").expect("there is room");
    }
    world.settle();
    world.say(0, "panic");
    world.settle();
    assert_eq!(world.clients[0].closed.as_ref().map(|closed| closed.code), Some(CloseCode::INTERNAL_ERROR));
    assert_eq!(world.metrics(0).handler_panics.get(), 1);
    world.say(1, "still here");
    world.settle();
    assert_eq!(world.clients[1].received, ["still here"]);
    assert_eq!(world.clients[2].received, ["still here"]);

    let refused = world.connect(0, "/panic").expect("there is room");
    world.settle();
    let head = world.clients[refused].head.as_ref().expect("it was no 101");
    assert!(head.starts_with(b"HTTP/1.1 500"));
}

#[test]
fn what_leaves_takes_everything_along() {
    let mut world = World::new(1, 16, Limits::default(), 2, 4);
    let first = world.connect(0, "/").expect("there is room");
    world.connect(0, "/").expect("there is room");
    world.settle();
    let third = world.connect(0, "/").expect("it is accepted, to be told that there is no room");
    world.settle();
    assert!(world.clients[third].head.as_ref().expect("no 101").starts_with(b"HTTP/1.1 503"));
    assert_eq!((world.metrics(0).refused_capacity.get(), world.census.present()), (1, 2));
    world.cores[0].0.handle_eof(world.clients[third].index);
    world.settle();
    assert!(world.clients[third].server_gone);
    assert_eq!(world.census.present(), 2);
    world.say(first, "close");
    world.settle();
    assert_eq!(world.clients[first].closed.as_ref().map(|closed| closed.code), Some(CloseCode(4000)));
    assert!(world.clients[first].server_done);
    let (core, index) = (world.clients[first].core, world.clients[first].index);
    world.cores[core].0.handle_eof(index);
    world.settle();
    assert!(world.clients[first].server_gone);
    assert_eq!(world.census.present(), 1);
    let metrics = world.metrics(0);
    assert_eq!((metrics.connections_open.get(), metrics.connections_closing.get()), (1, 0));
    assert!(world.connect(0, "/").is_some(), "there is room again");
}

#[test]
fn the_surplus_is_bounded_too() {
    let mut world = World::new(1, 16, Limits::default(), 1, 4);
    world.connect(0, "/").expect("there is room");
    let told = (0..1000).take_while(|_| world.connect(0, "/").is_some()).count();
    assert_eq!(told, 64, "told that there is no room; the next one is cut");
    world.settle();
    for client in 1..=told {
        world.cores[0].0.handle_eof(world.clients[client].index);
    }
    world.settle();
    let metrics = world.metrics(0);
    assert_eq!((metrics.connections_open.get(), metrics.connections_closing.get(), world.census.present()), (1, 0, 1));
    assert!(world.connect(0, "/").is_some(), "the next one is told again");
}

#[test]
fn a_refusal_is_answered_and_counted() {
    let mut world = World::new(1, 16, Limits::default(), 10, 5);
    let client = world.connect(0, "/refuse").expect("there is room");
    world.settle();
    assert!(world.clients[client].head.as_ref().expect("no 101").starts_with(b"HTTP/1.1 402"));
    assert_eq!(world.metrics(0).refused_handler.get(), 1);
    assert_eq!(world.metrics(0).connections_handshaking.get(), 0);
}

#[test]
fn the_clock_pings_and_then_gives_up() {
    let limits = Limits {
        ping_interval: Duration::from_secs(1),
        idle_timeout: Duration::from_secs(3),
        handshake_timeout: Duration::from_secs(2),
        ..Limits::default()
    };
    let mut world = World::new(1, 16, limits, 10, 6);
    let deaf = world.connect(0, "/").expect("there is room");
    let slow = world.connect(0, "/").expect("there is room");
    world.clients[slow].uplink.truncate(10);
    world.settle();
    // Nobody answers the ping from here on: what goes down is not heard.
    let mut pinged_at = None;
    let mut closed_at = None;
    for tick in 1..400 {
        world.now = Tick(tick);
        world.turn(0);
        if pinged_at.is_none() && !world.clients[deaf].downlink.is_empty() {
            pinged_at = Some(world.now.since_start());
        }
        if closed_at.is_none() && world.clients[deaf].server_done {
            closed_at = Some(world.now.since_start());
        }
    }
    let near = |at: Option<Duration>, want: u64| {
        let at = at.expect("it happened").as_millis() as u64;
        assert!((want..want + 100).contains(&at), "{at} ms, wanted {want} ms");
    };
    near(pinged_at, 1000);
    near(closed_at, 3000);
    assert_eq!(world.metrics(0).refused_timeout.get(), 1);
    assert!(world.clients[slow].server_done);
}

#[test]
fn a_drain_says_going_away_to_everybody_within_its_time() {
    let mut world = World::new(1, 16, Limits::default(), 100, 7);
    for _ in 0..50 {
        world.connect(0, "/").expect("there is room");
    }
    world.settle();
    world.cores[0].0.core().begin_drain(Duration::from_secs(2));
    let mut told = Vec::new();
    for tick in 1..120 {
        world.now = Tick(tick);
        world.turn(0);
        for client in &mut world.clients {
            client.hear(Tick(tick));
        }
        told.push(world.clients.iter().filter(|client| client.closed.is_some()).count());
    }
    assert_eq!(told.last(), Some(&50));
    let at_half = told[31];
    assert!((10..=40).contains(&at_half), "{at_half} of 50 after one of two seconds: not spread");
    for client in &world.clients {
        assert_eq!(client.closed.as_ref().map(|closed| closed.code), Some(CloseCode::GOING_AWAY));
    }
    let late = world.connect(0, "/").expect("the socket is accepted still");
    world.settle();
    assert!(world.clients[late].head.as_ref().expect("no 101").starts_with(b"HTTP/1.1 503"));
}

#[test]
fn the_same_seed_gives_the_same_world() {
    let run = |seed| {
        let mut world = World::new(2, 4, Limits::default(), 100, seed);
        for n in 0..6 {
            world.connect(n % 2, "/").expect("there is room");
        }
        world.settle();
        for n in 0..20 {
            let client = world.random.below(6) as usize;
            world.say(client, &format!("{n}"));
            world.now = Tick(world.now.0 + 1);
        }
        world.settle();
        world.clients.iter().map(|client| client.received.clone()).collect::<Vec<_>>()
    };
    assert_eq!(run(11), run(11));
    assert_ne!(run(11), run(12));
}

#[test]
fn bytes_for_a_connection_that_is_gone_are_nobodys() {
    let mut world = World::new(1, 16, Limits::default(), 10, 8);
    let client = world.connect(0, "/").expect("there is room");
    world.settle();
    let id = world.cores[0].0.core.id(world.clients[client].index);
    world.cores[0].0.handle_reset(id.index);
    world.settle();
    assert!(world.clients[client].server_gone);
    let core = &mut world.cores[0].0.core;
    let sent = core.send_here(id, MessageKind::Text, crate::connection::Body::Shared(Bytes::from_static(b"late")));
    assert_eq!(sent, Err(crate::connection::SendError::NotOpen));
    world.connect(0, "/").expect("there is room");
    let core = &mut world.cores[0].0.core;
    let sent = core.send_here(id, MessageKind::Text, crate::connection::Body::Shared(Bytes::from_static(b"late")));
    assert_eq!(sent, Err(crate::connection::SendError::NotOpen), "another connection has its index now");
}
