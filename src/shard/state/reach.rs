//! The part of a core that does not depend on its handler: what a handler can reach.

use std::any::Any;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::super::envelope::Envelope;
use super::super::slab::Slab;
use super::super::wheel::Wheel;
use super::Peers;
use super::calm::Calm;
use super::memory::DriverMemory;
use super::opening::DeferredHeads;
use super::survey::Survey;
use super::topics::Topics;
use super::wall::WallClock;
use crate::connection::{Body, Broadcast, Connection, Limits, Outbox, SendError, Tick, Workspace};
use crate::handler::{self, Congested, Overflow, Peer, Reach, Remote};
use crate::http::{Cidr, Response};
use crate::ids::ConnId;
use crate::mesh::{Census, Outside, Post};
use crate::metrics::ShardMetrics;
use crate::protocol::MessageKind;
use crate::protocol::close::CloseCode;
use crate::protocol::handshake::OriginPolicy;
use crate::topics::Namespaces;

/// What one core is to be like.
#[derive(Clone)]
pub struct ShardOptions {
    /// Which core this is, counted from zero.
    pub core: u16,
    /// What each peer may use.
    pub limits: Limits,
    /// Which pages may open a WebSocket.
    pub origin: OriginPolicy,
    /// Proxies whose word about the client's address counts.
    pub trusted_proxies: Arc<[Cidr]>,
    /// TLS, if peers speak it; those of Unix sockets never do.
    #[cfg(feature = "tls")]
    pub tls: Option<crate::tls::ServerTls>,
    /// Connections over all cores.
    pub census: Arc<Census>,
    /// How topics behave.
    pub namespaces: Arc<Namespaces>,
    /// Who hears what topics say to threads that are no cores.
    pub listener: Arc<dyn handler::Outside>,
    /// This core's counters.
    pub metrics: Arc<ShardMetrics>,
    /// Feeds jitter; from the operating system.
    pub seed: u64,
}

/// Connections, timers and the ends of the mesh of one core.
pub struct CoreState {
    pub(super) now: Tick,
    pub(super) wall: WallClock,
    pub(super) slab: Slab,
    pub(super) wheel: Wheel,
    pub(super) workspace: Workspace,
    pub(super) touched: VecDeque<u32>,
    /// Decrypted bytes of the read under way.
    #[cfg(feature = "tls")]
    pub(super) plaintext: Vec<u8>,
    pub(super) peers: Peers,
    pub(super) deferred: DeferredHeads,
    pub(super) metrics: Arc<ShardMetrics>,
    pub(super) census: Arc<Census>,
    pub(super) origin: OriginPolicy,
    /// What `/readyz` says.
    pub(super) ready: bool,
    pub(super) draining: bool,
    /// Connections that are held back until other cores have caught up.
    pub(super) held: Vec<u32>,
    /// Connections that are being told that there is no room.
    surplus_count: usize,
    pub(super) survey: Survey,
    pub(super) calm: Calm,
    pub(super) driver_memory: DriverMemory,
    pub(super) topics: Box<Topics>,
    /// Whether something about topics waits to be done.
    pub(super) topics_pending: bool,
    /// When topics have something to do by themselves.
    pub(super) topics_due: Tick,
    /// Whether publications wait for some connection that reads too slowly.
    pub(super) has_backlogs: bool,
    pub(super) core: u16,
    /// The last one stands for the peers of Unix sockets.
    trusted_proxies: Vec<Cidr>,
    #[cfg(feature = "tls")]
    tls: Option<crate::tls::ServerTls>,
    pub(super) overflow: Overflow,
    pub(super) post: Post<Envelope>,
    outside: Outside<Envelope>,
}

impl CoreState {
    pub(super) fn new(
        options: ShardOptions,
        post: Post<Envelope>,
        outside: Outside<Envelope>,
        overflow: Overflow,
        now: Tick,
    ) -> Self {
        let topics = Topics::new(&options, post.core_count());
        Self {
            now,
            wall: WallClock::default(),
            slab: Slab::default(),
            wheel: Wheel::new(now),
            workspace: Workspace::new(options.limits, options.seed),
            touched: VecDeque::new(),
            #[cfg(feature = "tls")]
            plaintext: Vec::new(),
            peers: Peers::default(),
            deferred: DeferredHeads::default(),
            metrics: options.metrics,
            census: options.census,
            origin: options.origin,
            ready: true,
            draining: false,
            held: Vec::new(),
            surplus_count: 0,
            survey: Survey::new(now),
            calm: Calm::default(),
            driver_memory: DriverMemory::default(),
            topics: Box::new(topics),
            topics_pending: false,
            topics_due: Tick::NEVER,
            has_backlogs: false,
            core: options.core,
            trusted_proxies: options.trusted_proxies.iter().copied().chain([local_network()]).collect(),
            #[cfg(feature = "tls")]
            tls: options.tls,
            overflow,
            post,
            outside,
        }
    }

    /// What time it is for this core, which looks at the clock once in a turn.
    pub fn now(&self) -> Tick {
        self.now
    }

    /// This core's counters.
    pub fn metrics(&self) -> &ShardMetrics {
        &self.metrics
    }

    /// The connection at `index`.
    pub fn connection(&self, index: u32) -> Option<&Connection> {
        self.slab.get(index).map(|record| &record.connection)
    }

    /// The connection at `index`, to write what it has queued.
    pub fn connection_mut(&mut self, index: u32) -> Option<&mut Connection> {
        self.slab.get_mut(index).map(|record| &mut record.connection)
    }

    /// Which life of the index this is: another after each connection.
    pub fn generation(&self, index: u32) -> u32 {
        self.slab.get(index).map_or(0, |record| record.generation)
    }

    /// Whether the driver should read from `index`.
    pub fn wants_input(&self, index: u32) -> bool {
        self.slab.get(index).is_some_and(|record| record.connection.wants_input(&self.workspace))
    }

    /// Whether some envelope waits for another core to take a turn.
    pub fn is_congested(&self) -> bool {
        self.post.is_congested()
    }

    /// Moves envelopes on that waited, and lets those speak again that were held back meanwhile.
    pub fn catch_up(&mut self) {
        self.post.catch_up();
        if !self.post.is_congested() {
            let now = self.now;
            for index in std::mem::take(&mut self.held) {
                if let Some(connection) = self.connection_mut(index) {
                    connection.hold(false, now);
                    self.touch(index);
                }
            }
        }
    }

    /// What this connection said went to other cores, and some have fallen behind: it waits until they caught up.
    pub(super) fn hold_if_congested(&mut self, index: u32) {
        let now = self.now;
        if self.post.is_congested()
            && let Some(connection) = self.connection_mut(index)
        {
            connection.hold(true, now);
            self.held.push(index);
        }
    }

    /// Backlogs are filling up: nobody is heard until they have emptied, so that nothing must be refused.
    pub(super) fn hold_if_nearly_full(&mut self, index: u32) {
        if self.post.is_nearly_full() {
            self.hold_if_congested(index);
        }
    }

    /// How many connections are to be looked at at the end of the turn.
    pub fn touched_count(&self) -> usize {
        self.touched.len()
    }

    /// Whether `index` alone is to be looked at.
    pub fn touched_only(&self, index: u32) -> bool {
        self.touched.len() == 1 && self.touched[0] == index
    }

    /// The connection that is to be looked at next.
    pub fn next_touched(&self) -> Option<&Connection> {
        self.connection(*self.touched.front()?)
    }

    /// Whether there is nothing to be done about `index` now that all that waited for it is written.
    pub fn is_at_rest(&self, index: u32) -> bool {
        !self.has_backlogs && self.connection(index).is_some_and(Connection::is_at_rest)
    }

    /// What was lent to be written comes back, written in whole or in part.
    pub fn return_outbox(&mut self, index: u32, outbox: Box<Outbox>) {
        if let Some(record) = self.slab.get_mut(index) {
            record.connection.return_outbox(outbox, &mut self.workspace);
        }
    }

    /// The socket took bytes after it had been full.
    pub fn progress(&mut self, index: u32) {
        let now = self.now;
        if let Some(connection) = self.connection_mut(index) {
            connection.handle_progress(now);
        }
    }

    /// Whether nothing is left to do: draining, and everybody has gone.
    pub fn is_drained(&self) -> bool {
        self.draining && self.slab.is_empty()
    }

    pub(super) fn insert(&mut self, peer: Peer) -> Option<u32> {
        let surplus = !self.census.enter();
        if surplus {
            self.metrics.refused_capacity.add(1);
            // Under TLS saying no would cost a handshake.
            if self.surplus_count == SURPLUS_MAX || self.is_secure(peer) {
                return None;
            }
        }
        let Some(connection) = self.new_connection(peer) else {
            self.census.leave();
            return None;
        };
        let index = self.slab.insert(connection);
        self.peers.insert(index, peer);
        self.metrics.accepts.add(1);
        self.metrics.connections_handshaking.add(1);
        self.metrics.connections_cold.add(1);
        self.touch(index);
        if surplus {
            self.turn_away(index);
        }
        Some(index)
    }

    /// Answers before it is asked: the connection is not worth waiting for its request.
    fn turn_away(&mut self, index: u32) {
        let Some(record) = self.slab.get_mut(index) else { return };
        record.surplus = true;
        record.connection.respond(&Response::text(503, FULL), &mut self.workspace, self.now);
        self.surplus_count += 1;
        self.leave_opening(index);
    }

    /// Takes a connection out whose socket is closed.
    pub(super) fn remove(&mut self, index: u32) {
        let Some(record) = self.slab.get(index) else { return };
        if record.surplus {
            self.surplus_count -= 1;
        } else {
            self.census.leave();
        }
        self.wheel.disarm(&mut self.slab, index);
        if let Some(connection) = self.slab.remove(index) {
            connection.recycle(&mut self.workspace);
        }
        self.peers.remove(&index);
        self.metrics.connections_closing.sub(1);
        self.metrics.connections_cold.sub(1);
        self.note_given_up();
    }

    /// What is under way goes on as it began.
    #[cfg(feature = "tls")]
    pub(super) fn replace_tls(&mut self, tls: crate::tls::ServerTls) {
        if let Some(old) = &mut self.tls {
            *old = tls;
        }
    }

    #[cfg(feature = "tls")]
    fn is_secure(&self, peer: Peer) -> bool {
        self.tls.is_some() && peer != Peer::Unix
    }

    #[cfg(not(feature = "tls"))]
    fn is_secure(&self, _: Peer) -> bool {
        false
    }

    /// A Unix socket's peer is on this machine, a proxy most likely: it speaks plainly.
    #[cfg(feature = "tls")]
    fn new_connection(&mut self, peer: Peer) -> Option<Connection> {
        let Some(tls) = self.tls.as_ref().filter(|_| peer != Peer::Unix) else {
            return Some(Connection::accepted(&self.workspace, self.now));
        };
        match tls.session() {
            Ok(session) => Some(Connection::accepted_secure(session, &mut self.workspace, self.now)),
            Err(error) => {
                tracing::error!(%error, "no TLS session could be made; the connection is refused");
                self.metrics.refused_tls.add(1);
                None
            }
        }
    }

    #[cfg(not(feature = "tls"))]
    fn new_connection(&mut self, _: Peer) -> Option<Connection> {
        Some(Connection::accepted(&self.workspace, self.now))
    }

    /// Puts the connection on the list of what to look at at the end of the turn.
    pub fn touch(&mut self, index: u32) {
        let Some(record) = self.slab.get_mut(index) else { return };
        if !record.touched {
            record.touched = true;
            self.touched.push_back(index);
            self.survey.note_change();
        }
    }

    pub(super) fn id(&self, index: u32) -> ConnId {
        ConnId { core: self.core, index, generation: self.generation(index) }
    }

    pub(super) fn trusted_proxies(&self) -> &[Cidr] {
        &self.trusted_proxies[..self.trusted_proxies.len() - 1]
    }

    pub(super) fn trusted_proxies_and_local(&self) -> &[Cidr] {
        &self.trusted_proxies
    }

    /// The connection is not opening any more, one way or the other.
    pub(super) fn leave_opening(&mut self, index: u32) {
        self.peers.remove(&index);
        self.deferred.remove(&index);
        self.metrics.connections_handshaking.sub(1);
        self.metrics.connections_closing.add(1);
    }

    pub(super) fn begin_drain(&mut self, within: Duration) {
        self.ready = false;
        self.draining = true;
        let span_ms = within.as_millis() as u64;
        for index in 0..self.slab.end() {
            let jitter = Duration::from_millis(self.workspace.random.below(span_ms + 1));
            let at = self.now.after(jitter);
            if let Some(record) = self.slab.get_mut(index) {
                record.connection.retire_by(at);
                self.touch(index);
            }
        }
    }

    pub(super) fn close_here(&mut self, id: ConnId, code: CloseCode, reason: &str) {
        let now = self.now;
        if self.id(id.index) == id && self.has_backlog(id.index) {
            self.flush_backlog(id.index);
        }
        if let Some((workspace, connection)) = self.named(id) {
            connection.close(code, reason, workspace, now);
            self.touch(id.index);
        }
    }

    pub(super) fn resume_here(&mut self, id: ConnId) {
        let now = self.now;
        if let Some((_, connection)) = self.named(id) {
            connection.resume(now);
            self.touch(id.index);
        }
    }

    /// The connection with this name, if it still lives here.
    pub(super) fn named(&mut self, id: ConnId) -> Option<(&mut Workspace, &mut Connection)> {
        let record = self.slab.get_mut(id.index)?;
        (id.core == self.core && id.generation == record.generation)
            .then_some((&mut self.workspace, &mut record.connection))
    }

    /// Sends one envelope to every other core; answers how many did not take it.
    fn send_to_cores(&mut self, envelope: impl Fn() -> Envelope) -> Result<(), Congested> {
        let mut refused = 0;
        for core in self.post.peers() {
            match self.post.send(core, envelope()) {
                Ok(()) => self.metrics.mesh_sent.add(1),
                Err(_full) => refused += 1,
            }
        }
        self.metrics.mesh_refused.add(refused);
        if refused == 0 { Ok(()) } else { Err(Congested { cores: refused as usize }) }
    }
}

impl Reach for CoreState {
    fn send(&mut self, id: ConnId, kind: MessageKind, body: Body<'_>) -> Result<(), SendError> {
        self.send_here(id, kind, body)
    }

    fn send_to_all(&mut self, ids: &mut dyn Iterator<Item = ConnId>, kind: MessageKind, payload: Bytes) -> usize {
        let len = payload.len();
        let mut broadcast = Broadcast::new(kind, payload.clone());
        let mut reached = 0;
        for id in ids {
            if self.has_backlog(id.index) {
                reached += usize::from(self.send_behind(id, kind, payload.clone()).is_ok());
                continue;
            }
            let Some((workspace, connection)) = self.named(id) else { continue };
            let result = connection.send_broadcast(&mut broadcast, workspace);
            reached += usize::from(self.after_send(id.index, len, result).is_ok());
        }
        reached
    }

    fn ping(&mut self, id: ConnId, payload: &[u8]) -> Result<(), SendError> {
        let Some((workspace, connection)) = self.named(id) else { return Err(SendError::NotOpen) };
        let result = connection.ping(payload, workspace);
        self.touch(id.index);
        result
    }

    fn close(&mut self, id: ConnId, code: CloseCode, reason: &str) {
        self.close_here(id, code, reason);
    }

    fn pause(&mut self, id: ConnId) {
        if let Some((_, connection)) = self.named(id) {
            connection.pause();
            self.touch(id.index);
        }
    }

    fn resume(&mut self, id: ConnId) {
        self.resume_here(id);
    }

    fn queued_bytes(&self, id: ConnId) -> usize {
        let record = self.slab.get(id.index).filter(|record| record.generation == id.generation);
        record.map_or(0, |record| record.connection.queued_bytes())
    }

    fn broadcast(&mut self, kind: MessageKind, payload: Bytes) -> usize {
        self.broadcast_here(kind, payload)
    }

    fn broadcast_all(&mut self, kind: MessageKind, payload: Bytes) -> Result<(), Congested> {
        let sent = self.send_to_cores(|| Envelope::Broadcast { kind, payload: Bytes::copy_from_slice(&payload) });
        self.broadcast_here(kind, payload);
        sent
    }

    fn cast(&mut self, message: Arc<dyn Any + Send + Sync>) -> Result<(), Congested> {
        self.send_to_cores(|| Envelope::Cast(message.clone()))
    }

    fn remote(&self) -> Arc<dyn Remote> {
        Arc::new(self.outside.clone())
    }

    fn now(&self) -> Tick {
        self.now
    }

    fn unix_time(&self) -> Duration {
        self.wall.unix_time(self.now)
    }

    fn core_index(&self) -> usize {
        usize::from(self.core)
    }

    fn core_count(&self) -> usize {
        self.post.core_count()
    }

    fn connection_count(&self) -> usize {
        self.metrics.connections_open.get() as usize
    }

    fn connections_in(&self, slots: Range<u32>) -> Vec<ConnId> {
        let is_open = |&slot: &u32| self.connection(slot).is_some_and(Connection::is_open);
        (slots.start..slots.end.min(self.slab.end())).filter(is_open).map(|slot| self.id(slot)).collect()
    }

    fn slot_count(&self) -> u32 {
        self.slab.end()
    }

    fn is_open(&self, id: ConnId) -> bool {
        self.id(id.index) == id && self.connection(id.index).is_some_and(Connection::is_open)
    }
}

const FULL: &str = "This server has as many connections as it may have. Try again later.\n";

/// Connections of one core that may at a time be told that there is no room; those beyond are cut.
const SURPLUS_MAX: usize = 64;

/// Stands for the peer of a Unix socket, which has no address; no peer of a TCP socket has this one.
pub(super) const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

fn local_network() -> Cidr {
    "0.0.0.0/32".parse().expect("an address and a prefix length")
}
