//! The control channel between cores: bounded rings, one per pair, and a bell per core.
//!
//! Knows not what an envelope means. Each ring has one sender and one receiver, so nothing on the way is shared;
//! threads that are not cores put theirs into one bounded queue per core.
//!
//! **Why it cannot deadlock.** A core never waits for another: sending either finds room in the ring, or puts the
//! envelope in the sender's own bounded backlog for that core, or is refused and counted. A core empties its own
//! mailbox in every turn, whether its backlogs are full or not. So of two cores that publish to each other, each
//! makes room for the other, and a backlog moves on as soon as its receiver takes a turn. What slows down is the
//! source: while [`Post::is_congested`], the shard stops reading from the peers whose messages cross.
//!
//! **Order.** Envelopes of one sender arrive in the order in which it sent them: the backlog is emptied first.

mod bell;
mod census;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;

pub use bell::{Bell, Ringer};
pub use census::Census;

/// Ends of all rings, one pair of [`Post`] and [`Mailbox`] per core, and a way in for other threads.
pub struct Mesh<T> {
    /// By core; hand each to its thread.
    pub cores: Vec<(Post<T>, Mailbox<T>)>,
    /// By core; for threads that are not cores.
    pub outside: Vec<Outside<T>>,
}

/// The sending ends of one core.
pub struct Post<T> {
    lanes: Vec<Option<Lane<T>>>,
}

/// The way from one core to one other.
struct Lane<T> {
    ring: rtrb::Producer<T>,
    backlog: VecDeque<T>,
    bell: Arc<Bell>,
}

/// The receiving end of one core.
pub struct Mailbox<T> {
    rings: Vec<rtrb::Consumer<T>>,
    outside: Arc<ArrayQueue<T>>,
    bell: Arc<Bell>,
}

/// A way into one core's mailbox from any thread.
pub struct Outside<T> {
    queue: Arc<ArrayQueue<T>>,
    bell: Arc<Bell>,
}

/// The receiving core's ring and the sender's backlog are full; the envelope comes back.
#[derive(Debug, PartialEq, Eq)]
pub struct Full<T>(pub T);

impl<T> Mesh<T> {
    /// Rings between `ringers.len()` cores. `ringers[core]` wakes that core.
    ///
    /// Each ring holds `capacity` envelopes, each backlog as many again.
    ///
    /// # Panics
    ///
    /// If `capacity` is zero.
    pub fn new(ringers: Vec<Box<dyn Ringer>>, capacity: usize) -> Self {
        assert!(capacity > 0, "a ring without room carries nothing");
        let bells: Vec<_> = ringers.into_iter().map(|ringer| Arc::new(Bell::new(ringer))).collect();
        let queues: Vec<_> = bells.iter().map(|_| Arc::new(ArrayQueue::new(capacity))).collect();
        let mut posts: Vec<Vec<Option<Lane<T>>>> = bells.iter().map(|_| Vec::new()).collect();
        let mut mailboxes = Vec::new();
        for (to, bell) in bells.iter().enumerate() {
            let mut rings = Vec::new();
            for (from, lanes) in posts.iter_mut().enumerate() {
                lanes.push((from != to).then(|| {
                    let (ring, consumer) = rtrb::RingBuffer::new(capacity);
                    rings.push(consumer);
                    Lane { ring, backlog: VecDeque::new(), bell: bell.clone() }
                }));
            }
            mailboxes.push(Mailbox { rings, outside: queues[to].clone(), bell: bell.clone() });
        }
        let outside =
            queues.into_iter().zip(&bells).map(|(queue, bell)| Outside { queue, bell: bell.clone() }).collect();
        let cores = posts.into_iter().map(|lanes| Post { lanes }).zip(mailboxes).collect();
        Self { cores, outside }
    }
}

impl<T> Post<T> {
    /// The cores that can be sent to: all but the sender.
    pub fn peers(&self) -> impl Iterator<Item = usize> + use<T> {
        let there: Vec<_> = self.lanes.iter().map(Option::is_some).collect();
        (0..there.len()).filter(move |&core| there[core])
    }

    /// How many cores there are, the sender included.
    pub fn core_count(&self) -> usize {
        self.lanes.len()
    }

    /// Sends to `core`, or keeps for it.
    ///
    /// # Errors
    ///
    /// [`Full`] if neither ring nor backlog has room.
    ///
    /// # Panics
    ///
    /// If `core` is the sender itself or does not exist.
    pub fn send(&mut self, core: usize, envelope: T) -> Result<(), Full<T>> {
        let lane = self.lanes[core].as_mut().expect("a core does not send to itself");
        lane.catch_up();
        if lane.backlog.is_empty() {
            match lane.ring.push(envelope) {
                Ok(()) => {
                    lane.bell.ring();
                    return Ok(());
                }
                Err(rtrb::PushError::Full(envelope)) => lane.backlog.push_back(envelope),
            }
        } else if lane.has_room() {
            lane.backlog.push_back(envelope);
        } else {
            return Err(Full(envelope));
        }
        lane.bell.ring();
        Ok(())
    }

    /// Whether one more envelope for `core` would be kept. Always so for the sender itself, which needs no ring.
    pub fn has_room(&self, core: usize) -> bool {
        self.lanes[core].as_ref().is_none_or(Lane::has_room)
    }

    /// Moves backlogs on into their rings. To be called in every turn while [`Post::is_congested`].
    pub fn catch_up(&mut self) {
        for lane in self.lanes.iter_mut().flatten() {
            lane.catch_up();
        }
    }

    /// Whether some backlog is half full: time to stop everybody whose messages might cross, while there is room for
    /// what is under way.
    pub fn is_nearly_full(&self) -> bool {
        self.lanes.iter().flatten().any(|lane| lane.backlog.len() * 2 >= lane.ring.buffer().capacity())
    }

    /// Whether some envelope waits in a backlog.
    pub fn is_congested(&self) -> bool {
        self.lanes.iter().flatten().any(|lane| !lane.backlog.is_empty())
    }
}

impl<T> Lane<T> {
    fn has_room(&self) -> bool {
        self.backlog.len() < self.ring.buffer().capacity()
    }

    fn catch_up(&mut self) {
        let mut moved = false;
        while let Some(envelope) = self.backlog.pop_front() {
            match self.ring.push(envelope) {
                Ok(()) => moved = true,
                Err(rtrb::PushError::Full(envelope)) => {
                    self.backlog.push_front(envelope);
                    break;
                }
            }
        }
        if moved {
            self.bell.ring();
        }
    }
}

impl<T> Mailbox<T> {
    /// Must be called before the mailbox is emptied, so that whatever comes later rings again.
    pub fn answer_bell(&self) {
        self.bell.answer();
    }

    /// Makes the core take another turn: it did not empty the mailbox.
    pub fn ring_again(&self) {
        self.bell.ring();
    }

    /// The next envelope: other cores' in turn, then other threads'.
    pub fn take(&mut self) -> Option<T> {
        // One ring after the other and not round-robin: each is bounded and the caller empties all of them.
        self.rings.iter_mut().find_map(|ring| ring.pop().ok()).or_else(|| self.outside.pop())
    }
}

impl<T> Outside<T> {
    /// Sends to the core.
    ///
    /// # Errors
    ///
    /// [`Full`] if its queue has no room.
    pub fn send(&self, envelope: T) -> Result<(), Full<T>> {
        self.queue.push(envelope).map_err(Full)?;
        self.bell.ring();
        Ok(())
    }
}

impl<T> Clone for Outside<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), bell: self.bell.clone() }
    }
}
