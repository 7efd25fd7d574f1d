//! Hot connections: what their posted receives bring, and how they come and go.

use std::os::fd::AsFd;

use super::super::hot::HotSlot;
use super::super::ring::{Event, Received};
use super::settling::Gear;
use super::{Shard, Temperature};
use crate::handler::Handler;

impl<H: Handler> Shard<H> {
    /// Waits in the ring, where the set is watched too, and which the writes of the turn before leave by the same call.
    pub(super) fn wait_in_ring(&mut self) {
        let behind = self.is_behind();
        let Some(ring) = &mut self.ring else { return };
        if !self.set_watched {
            self.set_watched = true;
            ring.watch(self.epoll.as_fd());
        }
        let (mut events, mut writes) = (std::mem::take(&mut self.events), std::mem::take(&mut self.writes));
        if behind {
            ring.poll(&mut events, &mut writes);
        } else {
            ring.wait(&mut events, &mut writes);
        }
        self.take_written(writes);
        if !events.is_empty() {
            self.begin_turn();
        }
        let mut ready = false;
        for event in events.drain(..) {
            match event {
                Event::Received { slot, received, more } => {
                    self.handle_received(HotSlot::from_number(slot), received, more)
                }
                Event::NotCancelled { slot } => self.cancel_again(HotSlot::from_number(slot)),
                Event::Readable => ready = true,
            }
        }
        self.events = events;
        if ready {
            self.set_watched = false;
            self.take_ready();
        }
    }

    fn handle_received(&mut self, slot: HotSlot, received: Received, more: bool) {
        let (Some(index), Some(ring)) = (self.hot.index(slot), &mut self.ring) else { return };
        let mut leaves = self.hot.is_leaving(slot) || self.restless;
        match received {
            Received::Bytes(filled) => {
                self.hot.note_read(slot, self.state.core_ref().now());
                self.reads += 1;
                self.state.handle_input(index, ring.bytes(&filled));
                // Who sends more than that at a time is better cold.
                leaves |= filled.is_full();
                ring.give(filled);
            }
            Received::Eof => self.state.handle_eof(index),
            Received::Broken => self.state.handle_reset(index),
            Received::NoBuffer => ring.grow_for(self.hot.len()),
            Received::Cancelled => {}
        }
        leaves |= !self.state.core().wants_input(index);
        match (more, leaves) {
            (true, true) => self.leave(slot),
            (true, false) => {}
            (false, true) => {
                self.hot.remove(slot);
                self.demote(index);
            }
            (false, false) => {
                if let (Some(ring), Some(fd)) = (&mut self.ring, &self.sockets[index].fd) {
                    ring.post_receive(slot.number(), fd.as_fd());
                }
            }
        }
    }

    /// Takes a cold connection out of the set and posts a receive for it.
    pub(super) fn promote(&mut self, index: u32) {
        if self.stopping {
            return;
        }
        // Never post a receive while the set may still report the same bytes.
        self.unwatch(index);
        let socket = &mut self.sockets[index];
        let (Some(fd), Some(ring)) = (&socket.fd, &mut self.ring) else { return };
        let slot = self.hot.insert(index, self.clock.now());
        ring.post_receive(slot.number(), fd.as_fd());
        socket.temperature = Temperature::Hot(slot);
        let metrics = self.state.core().metrics();
        metrics.promotions.add(1);
        metrics.connections_hot.add(1);
        metrics.connections_cold.sub(1);
    }

    /// Nothing of a hot connection is in the ring any more.
    fn demote(&mut self, index: u32) {
        self.sockets[index].temperature = Temperature::Cold;
        let metrics = self.state.core().metrics();
        metrics.demotions.add(1);
        metrics.connections_hot.sub(1);
        metrics.connections_cold.add(1);
        self.state.note_demotion(index);
        self.gear = Gear::Direct;
        self.settle(index);
    }

    /// Has the receive of a hot connection come back.
    pub(super) fn leave(&mut self, slot: HotSlot) {
        if self.hot.leave(slot) {
            self.cancel(slot);
        }
    }

    pub(super) fn leave_all(&mut self) {
        for slot in self.hot.all() {
            self.leave(slot);
        }
    }

    /// Has those leave who were silent, and gives the buffers' memory back when nobody is left.
    pub(super) fn sweep(&mut self) {
        let all = self.load.favours_cold(&self.thermostat);
        let Some(leaving) = self.hot.sweep_if_due(self.clock.now(), all) else { return };
        for slot in leaving {
            self.cancel(slot);
        }
        if self.hot.is_empty()
            && let Some(ring) = &mut self.ring
        {
            ring.shrink();
            self.state.core().note_buffers_freed();
        }
    }

    /// A cancellation found the receive just running, which then goes on; or it had ended, and that has been told or will.
    fn cancel_again(&mut self, slot: HotSlot) {
        if self.hot.is_leaving(slot) {
            self.cancel(slot);
        }
    }

    fn cancel(&mut self, slot: HotSlot) {
        if let Some(ring) = &mut self.ring {
            ring.cancel_receive(slot.number());
        }
    }
}
