use super::*;
use crate::topics::Topic;

const MS: Duration = Duration::from_millis(1);

fn options() -> BatchOptions {
    let backoff = Backoff { min: 100 * MS, max: 1_000 * MS };
    BatchOptions { events_max: 3, wait: 20 * MS, backoff }
}

/// A queue, its clock, and what a receiver has got.
struct World {
    outgoing: Outgoing,
    now: Instant,
    pushed: Vec<u64>,
    last_seq: u64,
    sending: Option<Bytes>,
    failed: Option<(Bytes, Instant)>,
    received: Vec<u64>,
}

impl World {
    fn new() -> Self {
        Self {
            outgoing: Outgoing::new(options(), "5eed".into()),
            now: Instant::now(),
            pushed: Vec::new(),
            last_seq: 0,
            sending: None,
            failed: None,
            received: Vec::new(),
        }
    }

    fn push(&mut self, lost_before: u64) {
        self.last_seq += lost_before + 1;
        self.pushed.push(self.last_seq);
        let event = Event::Occupied(Topic::parse("a").unwrap());
        self.outgoing.push(lost_before, 10, event, UnixMillis(0), self.now);
    }

    /// Asks for a batch, and holds what comes against what may come.
    fn poll(&mut self) -> Option<Vec<u64>> {
        let deadline = self.outgoing.deadline();
        let body = self.outgoing.poll_batch(self.now);
        assert_eq!(body.is_some(), deadline.is_some_and(|deadline| deadline <= self.now), "the deadline says when");
        let body = body?;
        assert!(self.sending.is_none(), "one at a time");
        if let Some((failed, retry_at)) = self.failed.take() {
            assert_eq!(failed, body, "the same bytes again");
            assert!(retry_at <= self.now || self.outgoing.is_draining);
        }
        self.sending = Some(body.clone());
        Some(seqs(&body))
    }

    fn deliver(&mut self) -> bool {
        let Some(body) = self.sending.take() else { return false };
        let seqs = seqs(&body);
        let (left, _) = self.outgoing.delivered();
        assert_eq!(left, Left { events: seqs.len(), bytes: seqs.len() * 10 });
        self.received.extend(seqs);
        true
    }

    /// The attempt fails; with `arrived` it did arrive, and only the answer was lost.
    fn fail(&mut self, arrived: bool) -> bool {
        let Some(body) = self.sending.take() else { return false };
        if arrived {
            self.received.extend(seqs(&body));
        }
        let delay = self.outgoing.failed(self.now, 0);
        assert!(delay >= 50 * MS && delay <= 1_000 * MS);
        self.failed = Some((body, self.now + delay));
        true
    }

    /// Everything goes out, and it is what came, in order; an event may come again with its whole batch.
    fn finish(mut self) {
        self.outgoing.drain(self.now);
        while !self.outgoing.is_empty() {
            if self.sending.is_none() {
                self.poll().expect("nothing waits any more");
            }
            self.deliver();
        }
        assert_eq!((self.outgoing.deadline(), self.outgoing.event_count()), (None, 0));
        assert!(self.outgoing.poll_batch(self.now + Duration::from_secs(3600)).is_none());
        let mut new = Vec::new();
        for seq in self.received {
            if new.last().is_none_or(|last| *last < seq) {
                new.push(seq);
            }
        }
        assert_eq!(new, self.pushed, "what a receiver has that skips what it knows");
    }
}

fn seqs(body: &[u8]) -> Vec<u64> {
    let body: serde_json::Value = serde_json::from_slice(body).expect("JSON");
    assert_eq!(body["stream"], "5eed");
    let events = body["events"].as_array().expect("an array");
    assert!((1..=3).contains(&events.len()), "{} events", events.len());
    events.iter().map(|event| event["seq"].as_u64().expect("a number")).collect()
}

#[test]
fn a_batch_is_full_or_its_first_event_has_waited() {
    let mut world = World::new();
    assert_eq!(world.poll(), None);
    world.push(0);
    world.now += 19 * MS;
    assert_eq!(world.poll(), None);
    world.push(0);
    world.now += MS;
    assert_eq!(world.poll(), Some(vec![1, 2]), "the second has not waited, and goes along");
    (0..7).for_each(|_| world.push(0));
    assert_eq!(world.poll(), None, "one is under way");
    assert!(world.deliver());
    assert_eq!(world.poll(), Some(vec![3, 4, 5]), "full, so at once");
    assert!(world.deliver());
    assert_eq!(world.poll(), Some(vec![6, 7, 8]));
    assert!(world.deliver());
    assert_eq!(world.poll(), None, "one is left, and waits for others");
    assert_eq!(world.outgoing.event_count(), 1);
    world.finish();
}

#[test]
fn what_was_lost_is_a_gap() {
    let mut world = World::new();
    world.push(0);
    world.push(4);
    world.push(0);
    assert_eq!(world.poll(), Some(vec![1, 6, 7]));
    world.finish();
}

#[test]
fn a_failed_batch_waits_longer_each_time_and_nothing_overtakes_it() {
    let mut world = World::new();
    world.push(0);
    world.now += 20 * MS;
    for delay in [50, 100, 200, 400, 500, 500] {
        assert_eq!(world.poll(), Some(vec![1]));
        world.push(0);
        world.fail(false);
        assert_eq!(world.outgoing.deadline(), Some(world.now + delay * MS));
        world.now += delay * MS - MS;
        assert_eq!(world.poll(), None);
        world.now += MS;
    }
    assert_eq!(world.poll(), Some(vec![1]));
    world.deliver();
    assert_eq!(world.poll(), Some(vec![2, 3, 4]));
    assert_eq!(world.outgoing.event_count(), 6);
    world.fail(false);
    assert_eq!(world.outgoing.deadline(), Some(world.now + 50 * MS), "another batch begins anew");
    world.finish();
}

#[test]
fn a_drain_waits_for_nothing_but_the_receiver() {
    let mut world = World::new();
    (0..4).for_each(|_| world.push(0));
    assert_eq!(world.poll(), Some(vec![1, 2, 3]));
    world.fail(false);
    world.outgoing.drain(world.now);
    assert_eq!(world.poll(), Some(vec![1, 2, 3]), "before its time");
    world.fail(false);
    assert_eq!(world.poll(), None, "once; after that it has to wait again");
    world.now += 100 * MS;
    assert_eq!(world.poll(), Some(vec![1, 2, 3]));
    world.deliver();
    assert_eq!(world.poll(), Some(vec![4]), "not for others either");
    world.finish();
}

#[test]
fn a_large_batch_is_cut_by_its_bytes() {
    let options = BatchOptions { events_max: 1000, ..options() };
    let mut outgoing = Outgoing::new(options, "5eed".into());
    let now = Instant::now();
    let topic = Topic::parse(&"a".repeat(255)).unwrap();
    for _ in 0..10_000 {
        outgoing.push(0, 1, Event::Occupied(topic.clone()), UnixMillis(0), now);
    }
    let options = BatchOptions { events_max: 10_000, ..options };
    outgoing.options = options;
    outgoing.drain(now);
    let mut seen = 0;
    while let Some(body) = outgoing.poll_batch(now) {
        assert!(body.len() < BATCH_BYTES_AIM + 400, "{} bytes", body.len());
        seen += outgoing.delivered().0.events;
    }
    assert_eq!(seen, 10_000);
    assert!(outgoing.is_empty());
}

/// Every order of six out of eight things that can happen.
#[test]
fn whatever_happens_in_whatever_order() {
    const STEPS: u32 = 6;
    let things = 8usize;
    for mut code in 0..things.pow(STEPS) {
        let mut world = World::new();
        world.push(0);
        for _ in 0..STEPS {
            match code % things {
                0 => world.push(0),
                1 => world.push(2),
                2 => world.now += 20 * MS,
                3 => world.now += 60 * MS,
                4 => drop(world.poll()),
                5 => drop(world.deliver()),
                6 => drop(world.fail(code & 64 != 0)),
                _ => world.outgoing.drain(world.now),
            }
            code /= things;
        }
        world.finish();
    }
}

/// Long runs, so that batches fill and fail many times.
#[test]
fn a_long_life_with_a_receiver_that_fails_at_random() {
    for seed in 1..=200u64 {
        let mut random = seed;
        let mut next = move |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let mut world = World::new();
        for _ in 0..400 {
            match next(8) {
                0..=2 => world.push(if next(10) == 0 { next(5) } else { 0 }),
                3 => world.now += Duration::from_millis(next(200)),
                4 | 5 => drop(world.poll()),
                6 => drop(world.deliver()),
                _ => drop(world.fail(next(3) == 0)),
            }
        }
        world.finish();
    }
}
