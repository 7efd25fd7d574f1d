//! Events on their way to a webhook, whatever it does: delivered in order, at least once, or counted and seen as a gap.

#![cfg(feature = "webhooks")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::target::{Say, Target};
use common::{PATIENCE, bounded, until};
use corewire::backend::{Event, EventKind, EventKinds, Observer};
use corewire::topics::Topic;
use corewire::webhooks::{Figures, Prepared, Running, Secret, WebhookOptions};
use serde_json::Value;

const SECRET: &str = "a secret of some length";

fn options(url: &str) -> WebhookOptions {
    WebhookOptions {
        endpoint: url.parse().expect("a URL"),
        secret: Secret::new(SECRET.as_bytes()).expect("long enough"),
        events: EventKinds::all(),
        batch_events: 10,
        batch_wait: Duration::from_millis(5),
        queue_events: 1_000,
        queue_bytes: 1 << 20,
        timeout: PATIENCE,
        retry_min: Duration::from_millis(2),
        retry_max: Duration::from_millis(20),
    }
}

/// A webhook that is told of events by the test.
struct Stage {
    observer: Arc<dyn Observer>,
    figures: Figures,
    running: Running,
}

impl Stage {
    fn new(options: WebhookOptions) -> Self {
        let prepared = Prepared::new(Some(options), None, 0x5eed).expect("it needs no authorities");
        let observer = prepared.observer().expect("a webhook");
        assert!(prepared.decider().is_none());
        let figures = prepared.figures();
        let running = prepared.start().expect("a thread");
        Self { observer, figures, running }
    }

    fn tell(&self, numbers: impl IntoIterator<Item = usize>) {
        for number in numbers {
            self.observer.observe(Event::Occupied(topic(number)));
        }
    }

    fn figure(&self, name: &str, member: Option<&str>) -> u64 {
        let samples = self.figures.samples();
        let is_it = |label: Option<(&str, &str)>| label.map(|(_, member)| member) == member;
        samples.iter().find(|sample| sample.name == name && is_it(sample.label)).expect("a figure").value
    }

    fn stop(self, within: Duration) -> usize {
        let running = self.running;
        bounded("the thread ends", move || running.stop(within))
    }
}

fn topic(number: usize) -> Topic {
    Topic::parse(&format!("t:{number}")).expect("good")
}

fn numbers(events: &[Value]) -> Vec<usize> {
    events.iter().map(|event| event["topic"].as_str().unwrap()[2..].parse().unwrap()).collect()
}

fn seqs(events: &[Value]) -> Vec<u64> {
    events.iter().map(|event| event["seq"].as_u64().expect("a number")).collect()
}

#[test]
fn events_come_in_signed_batches_and_in_order() {
    let target = Target::agreeable();
    let stage = Stage::new(options(&target.url()));
    stage.tell(0..95);
    let events = target.wait_for_events(95);
    assert_eq!(numbers(&events), (0..95).collect::<Vec<_>>());
    assert_eq!(seqs(&events), (1..=95).collect::<Vec<_>>());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    for got in target.got() {
        assert!((1..=10).contains(&got.events().len()));
        assert!(now.as_secs().abs_diff(got.signed_at(SECRET)) <= 60);
        assert!(got.head.starts_with("POST /hook HTTP/1.1\r\n"), "{}", got.head);
        assert_eq!(got.header("Content-Type"), Some("application/json"));
        assert_eq!(got.json()["stream"], "0000000000005eed");
    }
    assert!(target.count() <= 40, "{} requests for 95 events", target.count());
    until("they are counted", || stage.figure("webhook_events_delivered_total", None) == 95);
    assert_eq!(stage.figure("webhook_events_total", None), 95);
    assert_eq!(stage.figure("webhook_waiting_bytes", None), 0);
    assert_eq!(stage.stop(PATIENCE), 0);
}

#[test]
fn only_what_is_wanted_is_sent() {
    let target = Target::agreeable();
    let events = [EventKind::Vacated].into_iter().collect();
    let stage = Stage::new(WebhookOptions { events, ..options(&target.url()) });
    stage.tell(0..5);
    stage.observer.observe(Event::Vacated(topic(7)));
    let events = target.wait_for_events(1);
    assert_eq!((&events[0]["event"], &events[0]["seq"]), (&"vacated".into(), &1.into()));
    assert_eq!(stage.figure("webhook_events_total", None), 1);
}

#[test]
fn a_target_that_is_down_for_a_while_misses_nothing() {
    let target = Target::agreeable();
    let (addr, url) = (target.addr, target.url());
    let stage = Stage::new(options(&url));
    stage.tell(0..10);
    target.wait_for_events(10);
    target.stop();
    stage.tell(10..50);
    until("some attempts have failed", || stage.figure("webhook_attempts_total", Some("failed")) >= 5);
    assert_eq!(stage.figure("webhook_waiting_events", None), 40);
    let back = Target::start_at(addr, None, |_| Say::ok("thanks"));
    let events = back.wait_for_events(40);
    assert_eq!(numbers(&events), (10..50).collect::<Vec<_>>());
    assert_eq!(seqs(&events), (11..=50).collect::<Vec<_>>());
    assert!(back.got().iter().all(|got| got.signed_at(SECRET) > 0));
    assert_eq!(stage.figure("webhook_events_lost_total", None), 0);
}

/// Every kind of failure: what was not acknowledged comes again, and nothing overtakes it.
#[test]
fn whatever_the_target_says_events_come_again_until_it_says_yes() {
    let count = AtomicUsize::new(0);
    let target = Target::start(move |_| match count.fetch_add(1, Ordering::Relaxed) % 7 {
        0 => Say::Status(500, "oops".into()),
        1 => Say::Status(400, String::new()),
        2 => Say::Hangup,
        3 => Say::Status(302, String::new()),
        4 => Say::Nothing,
        5 => Say::Status(204, String::new()),
        _ => Say::Status(200, "x".repeat(100_000)),
    });
    let stage = Stage::new(WebhookOptions { timeout: Duration::from_millis(100), ..options(&target.url()) });
    stage.tell(0..100);
    until("all are delivered", || stage.figure("webhook_events_delivered_total", None) == 100);
    let mut first_times = Vec::new();
    for seq in seqs(&target.events()) {
        if first_times.last().is_none_or(|last| *last < seq) {
            first_times.push(seq);
        }
    }
    assert_eq!(first_times, (1..=100).collect::<Vec<_>>());
    let bodies: Vec<_> = target.got().into_iter().map(|got| got.body).collect();
    assert_eq!(
        bodies[..6].iter().filter(|body| **body == bodies[0]).count(),
        6,
        "the same bytes until one is accepted"
    );
    assert!(stage.figure("webhook_attempts_total", Some("refused")) >= 3);
    assert!(stage.figure("webhook_attempts_total", Some("failed")) >= 2);
    assert_eq!(stage.figure("webhook_waiting_events", None), 0);
}

#[test]
fn a_full_queue_is_counted_and_leaves_a_gap() {
    let gate = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let open = gate.clone();
    let target =
        Target::start(
            move |_| if open.load(Ordering::Relaxed) { Say::ok("") } else { Say::Status(503, String::new()) },
        );
    let stage = Stage::new(WebhookOptions { queue_events: 20, ..options(&target.url()) });
    stage.tell(0..50);
    assert_eq!(stage.figure("webhook_events_lost_total", None), 30);
    assert_eq!(stage.figure("webhook_waiting_events", None), 20);
    gate.store(true, Ordering::Relaxed);
    until("there is room", || stage.figure("webhook_waiting_events", None) == 0);
    stage.tell(100..102);
    until("all are delivered", || stage.figure("webhook_events_delivered_total", None) == 22);
    let mut delivered: Vec<_> = target.events().iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    delivered.sort_unstable();
    delivered.dedup();
    assert_eq!(delivered, (1..=20).chain(51..=52).collect::<Vec<_>>(), "30 are missing, and that can be seen");
    let last = target.events().pop().expect("some");
    assert_eq!((last["topic"].as_str(), last["seq"].as_u64()), (Some("t:101"), Some(52)));
}

#[test]
fn bytes_are_bounded_too() {
    let target = Target::start(|_| Say::Nothing);
    let stage = Stage::new(WebhookOptions { queue_bytes: 10_000, ..options(&target.url()) });
    stage.tell(0..1_000);
    let (waiting, lost) =
        (stage.figure("webhook_waiting_events", None), stage.figure("webhook_events_lost_total", None));
    assert!((20..100).contains(&waiting), "{waiting} events");
    assert_eq!(waiting + lost, 1_000);
    assert!(stage.figure("webhook_waiting_bytes", None) <= 10_000);
    assert_eq!(stage.stop(Duration::from_millis(1)), waiting as usize, "what was not delivered is told");
}

#[test]
fn the_end_delivers_what_is_left() {
    let target = Target::agreeable();
    // It would wait for an hour to share a request, and to try again.
    let hour = Duration::from_secs(3600);
    let lazy = WebhookOptions { batch_wait: hour, retry_min: hour, retry_max: hour, ..options(&target.url()) };
    let stage = Stage::new(WebhookOptions { batch_events: 1_000, ..lazy });
    stage.tell(0..123);
    assert_eq!(stage.stop(PATIENCE), 0);
    assert_eq!(numbers(&target.events()), (0..123).collect::<Vec<_>>());
    assert_eq!(target.count(), 1);
}

#[test]
fn the_end_comes_although_nobody_listens() {
    let target = Target::agreeable();
    let url = target.url();
    drop(target);
    let stage = Stage::new(options(&url));
    stage.tell(0..7);
    assert_eq!(stage.stop(Duration::from_millis(200)), 7);
}
