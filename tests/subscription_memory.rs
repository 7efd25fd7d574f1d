//! What a million subscriptions on one core cost, counted at the allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use corewire::topics::{
    Answer, Begun, Epoch, Horizon, Local, Member, Moment, Namespaces, Outlet, Position, PresenceChange, Publication,
    Refused, Subject, SubscriberId, Tally, Ticket, ToCore, ToHome, Topic, Want,
};

/// Passes everything on to the system, and counts what this thread holds.
struct Counting;

thread_local! {
    static HELD_BYTES: Cell<isize> = const { Cell::new(0) };
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: both methods pass their arguments on unchanged to `System`, which keeps the contract of `GlobalAlloc`; the
// counts are thread-locals without destructor or allocation, so they can be touched inside an allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD_BYTES.set(HELD_BYTES.get() + layout.size() as isize);
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps `alloc`'s contract towards us, and we ask for the same layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD_BYTES.set(HELD_BYTES.get() - layout.size() as isize);
        // SAFETY: `at` came from `System.alloc` with this layout, as the caller promises and `alloc` above did.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The homes of all topics, of which nothing was ever published; counts what is delivered.
#[derive(Default)]
struct Homes {
    asked: Vec<(Topic, Ticket)>,
    begun: usize,
    delivered: usize,
    let_go: usize,
}

impl Outlet for Homes {
    fn send(&mut self, _: usize, message: ToHome) {
        match message {
            ToHome::Subscribe { topic, ticket, .. } => self.asked.push((topic, ticket)),
            ToHome::Unsubscribe { .. } => self.let_go += 1,
            other => panic!("not expected: {other:?}"),
        }
    }

    fn deliver(&mut self, _: &Topic, _: Epoch, _: &Publication, to: &[SubscriberId]) -> Tally {
        self.delivered += to.len();
        Tally { delivered: to.len() as u64, ..Tally::default() }
    }

    fn subscribed(&mut self, _: SubscriberId, _: &Subject, _: &Begun<'_>) {
        self.begun += 1;
    }

    fn refused(&mut self, _: SubscriberId, _: &Topic, refused: Refused) {
        panic!("{refused}");
    }

    fn gap(&mut self, _: &Topic, _: Position, _: &[SubscriberId]) {
        panic!("nothing is lost");
    }

    fn presence(&mut self, _: &Topic, _: &PresenceChange, _: &[SubscriberId]) {}

    fn members(&mut self, _: &Topic, _: &[Member], _: &[SubscriberId]) {}

    fn answer(&mut self, _: Ticket, _: Answer) {}
}

/// Which topic a connection subscribes to as its first, second and so on.
type Choice = fn(u32, u32) -> u32;

const MILLION: u32 = 1_000_000;

fn topic(number: u32) -> Topic {
    Topic::parse(&format!("prices:{number}")).expect("it is good")
}

fn horizon() -> Horizon {
    Horizon { position: Position { epoch: Epoch::new(1), offset: 0 }, oldest: 1 }
}

/// Each connection subscribes to the topics that `of` says. Answers bytes for each subscription.
fn measure(count: u32, topic_count: u32, connection_count: u32, of: Choice) -> f64 {
    let each = count / connection_count;
    let before = HELD_BYTES.get();
    let topics: Vec<_> = (0..topic_count).map(topic).collect();
    let (mut local, mut homes) = (Local::new(1, Arc::new(Namespaces::default())), Homes::default());
    for connection in 0..connection_count {
        for number in 0..each {
            let topic = &topics[of(connection, number) as usize];
            let subscribed =
                local.subscribe(SubscriberId(connection), topic, Want::Nothing, None, Moment(0), &mut homes);
            subscribed.expect("it is new");
        }
        for (topic, ticket) in std::mem::take(&mut homes.asked) {
            let answer = ToCore::Subscribed { topic, ticket, horizon: horizon(), publications: Vec::new() };
            local.handle(0, answer, Moment(0), &mut homes);
        }
    }
    local.handle_timeout(Moment(10_000), &mut homes);
    assert_eq!((homes.begun, local.interest().subscription_count()), (count as usize, count as usize));
    let held = HELD_BYTES.get() - before;
    check_delivery(&mut local, &topics, &mut homes, count);
    for connection in 0..connection_count {
        local.remove(SubscriberId(connection), &mut homes);
    }
    assert_eq!((homes.let_go, local.interest().subscription_count()), (topic_count as usize, 0));
    held as f64 / f64::from(count)
}

/// Everybody gets one publication of each topic, and nothing is allocated for that.
fn check_delivery(local: &mut Local, topics: &[Topic], homes: &mut Homes, count: u32) {
    use corewire::topics::{DataKind, Deliver, Draft};
    let draft = Draft { kind: DataKind::Text, data: bytes::Bytes::from_static(b"1.0842"), key: None, publisher: None };
    let publication = Publication { offset: 1, draft };
    let before = ALLOCATIONS.get();
    for topic in topics {
        let (topic, publication) = (topic.clone(), publication.clone());
        let deliver = Deliver { topic, epoch: Epoch::new(1), publication, receipt: None };
        local.handle(0, ToCore::Deliver(deliver), Moment(10_000), homes);
    }
    assert_eq!((homes.delivered, ALLOCATIONS.get() - before), (count as usize, 0));
}

#[test]
fn a_subscription_costs_at_most_48_bytes() {
    // The names of topics, and what is known of each, are included.
    let cases: [(&str, u32, u32, Choice); 3] = [
        ("1 topic, a million connections", 1, MILLION, |_, _| 0),
        ("1,000 topics, 1,000 connections", 1000, 1000, |_, number| number),
        ("20,000 topics, 50,000 connections", 20_000, 50_000, |connection, number| (connection * 20 + number) % 20_000),
    ];
    for (name, topics, connections, of) in cases {
        let bytes = measure(MILLION, topics, connections, of);
        assert!(bytes <= 48.0, "{name}: {bytes:.1} bytes each");
    }
}

#[test]
fn a_topic_with_one_subscription_costs_at_most_256_bytes() {
    let count = 200_000;
    let bytes = measure(count, count, 1000, |connection, number| connection * 200 + number);
    assert!(bytes <= 256.0, "{bytes:.1} bytes each");
}
