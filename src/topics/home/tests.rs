//! What a home answers, and whom it tells.

use std::time::Duration;

use bytes::Bytes;

use super::super::message::{Counts, Deliver, Member, Publish, Receipt, ReceiptId, Reply, Tally, TopicInfo};
use super::super::namespace::Namespace;
use super::super::position::{Horizon, NotRecovered, Position};
use super::super::publication::{DataKind, Draft};
use super::*;

struct Bench {
    home: Home,
    now: Moment,
}

fn topic(name: &str) -> Topic {
    Topic::parse(name).expect(name)
}

fn draft(text: &str) -> Draft {
    Draft { kind: DataKind::Text, data: Bytes::copy_from_slice(text.as_bytes()), key: None, publisher: None }
}

fn publish(name: &str, text: &str) -> Publish {
    let (topic, draft) = (topic(name), draft(text));
    Publish { topic, draft, idempotency_key: None, ticket: Ticket(1), reply: Reply::Accepted }
}

impl Bench {
    fn new(change: impl FnOnce(&mut HomeOptions)) -> Self {
        let mut options = HomeOptions::new(0, 4, 7);
        change(&mut options);
        let short = Namespace { name: "short".to_owned(), history_messages: 2, ..Namespace::default() };
        let last = Namespace { name: "last".to_owned(), history_messages: 1, ..Namespace::default() };
        let namespaces = Namespaces::new(Namespace { presence: true, ..Namespace::default() }, [short, last]);
        Self { home: Home::new(options, Arc::new(namespaces.expect("good"))), now: Moment(0) }
    }

    fn say(&mut self, core: usize, message: ToHome) -> Outbound {
        let mut out = Outbound::default();
        self.home.handle(Party::Core(core), message, self.now, &mut out);
        out
    }

    fn publish(&mut self, publish: Publish) -> (Vec<usize>, Answer) {
        let out = self.say(3, ToHome::Publish(Box::new(publish)));
        let mut cores = Vec::new();
        let mut answered = None;
        for (party, message) in out.messages {
            match (party, message) {
                (Party::Core(core), ToCore::Deliver(_)) => cores.push(core),
                (Party::Core(3), ToCore::Answer { ticket: Ticket(1), answer }) => answered = Some(answer),
                other => panic!("{other:?}"),
            }
        }
        (cores, answered.expect("it is answered"))
    }

    fn subscribe(&mut self, core: usize, name: &str, want: Want) -> (Horizon, Vec<u64>, Vec<HomeEvent>) {
        let out = self.say(core, ToHome::Subscribe { topic: topic(name), ticket: Ticket(2), want });
        match &out.messages[..] {
            [(Party::Core(to), ToCore::Subscribed { horizon, publications, .. })] if *to == core => {
                let offsets = publications.iter().map(|publication| publication.offset).collect();
                (*horizon, offsets, out.events)
            }
            other => panic!("{other:?}"),
        }
    }

    fn wait(&mut self, span: Duration) -> Outbound {
        self.now = self.now.after(span);
        let mut out = Outbound::default();
        self.home.handle_timeout(self.now, &mut out);
        out
    }
}

#[test]
fn a_core_without_subscribers_is_never_told() {
    let mut bench = Bench::new(|_| {});
    assert_eq!(bench.publish(publish("a", "1")).0, [0; 0]);
    bench.subscribe(2, "a", Want::Nothing);
    let pattern = Pattern::parse("a:*").expect("good");
    bench.say(1, ToHome::Pattern { pattern: pattern.clone(), ticket: Ticket(3) });
    assert_eq!(bench.publish(publish("a", "2")).0, [2]);
    assert_eq!(bench.publish(publish("a:b", "3")).0, [1]);
    assert_eq!(bench.publish(publish("short:b", "4")).0, [0; 0]);
    bench.say(1, ToHome::PatternEnded { pattern: pattern.clone() });
    bench.say(2, ToHome::Unsubscribe { topic: topic("a") });
    assert_eq!((bench.publish(publish("a", "5")).0, bench.publish(publish("a:b", "6")).0), (vec![], vec![]));
    // What was not heard of: the core's word that nobody is there counts for everything.
    bench.say(1, ToHome::Pattern { pattern, ticket: Ticket(4) });
    bench.subscribe(1, "a:b", Want::Nothing);
    bench.say(1, ToHome::Nobody { topic: topic("a:b") });
    assert_eq!(bench.publish(publish("a:b", "7")).0, [0; 0]);
}

#[test]
fn a_topic_is_occupied_by_the_first_and_vacated_by_the_last() {
    let mut bench = Bench::new(|_| {});
    assert_eq!(bench.subscribe(1, "a", Want::Nothing).2, [HomeEvent::Occupied(topic("a"))]);
    assert_eq!(bench.subscribe(1, "a", Want::Nothing).2, []);
    assert_eq!(bench.subscribe(2, "a", Want::Nothing).2, []);
    let leave = || ToHome::Unsubscribe { topic: topic("a") };
    assert_eq!(bench.say(1, leave()).events, []);
    assert_eq!(bench.say(2, leave()).events, [HomeEvent::Vacated(topic("a"))]);
    assert_eq!(bench.say(2, leave()).events, []);
}

#[test]
fn who_comes_back_is_told_exactly_what_it_missed() {
    let mut bench = Bench::new(|_| {});
    for text in ["1", "2", "3", "4"] {
        bench.publish(publish("short:a", text));
    }
    let (horizon, offsets, _) = bench.subscribe(1, "short:a", Want::Last);
    assert_eq!((horizon.position.offset, horizon.oldest, offsets), (4, 3, vec![4]));
    let since = |offset| Want::Since(Position { offset, ..horizon.position });
    assert_eq!(bench.subscribe(1, "short:a", since(2)).1, [3, 4]);
    assert_eq!(bench.subscribe(1, "short:a", since(3)).1, [4]);
    assert_eq!(bench.subscribe(1, "short:a", since(4)).1, [0; 0]);
    assert_eq!(bench.subscribe(1, "short:a", since(1)).1, [0; 0], "not a part of it");
    assert_eq!(horizon.recovers(Position { offset: 1, ..horizon.position }), Err(NotRecovered::NotKept));
    bench.wait(Duration::from_secs(60));
    let (horizon, offsets, _) = bench.subscribe(1, "short:a", since(3));
    assert_eq!((horizon.oldest, offsets), (5, vec![]), "too old by now");
}

#[test]
fn who_cannot_be_told_all_is_told_the_last_value_where_one_is_kept() {
    let mut bench = Bench::new(|_| {});
    for text in ["1", "2", "3"] {
        bench.publish(publish("last:a", text));
    }
    let (horizon, ..) = bench.subscribe(1, "last:a", Want::Nothing);
    let cases = [
        ("all of it", horizon.position.epoch, 2, vec![3]),
        ("nothing was missed", horizon.position.epoch, 3, vec![]),
        ("not kept", horizon.position.epoch, 1, vec![3]),
        ("ahead", horizon.position.epoch, 4, vec![3]),
        ("another life", Epoch::new(1), 3, vec![3]),
    ];
    for (name, epoch, offset, told) in cases {
        assert_eq!(bench.subscribe(1, "last:a", Want::Since(Position { epoch, offset })).1, told, "{name}");
    }
    bench.wait(Duration::from_secs(60));
    let (_, offsets, _) = bench.subscribe(1, "last:a", Want::Since(Position { offset: 1, ..horizon.position }));
    assert_eq!(offsets, [0; 0], "too old by now");
}

#[test]
fn a_topic_that_nobody_needs_is_forgotten_and_begins_another_life() {
    let mut bench = Bench::new(|_| {});
    bench.publish(publish("a", "1"));
    let before = bench.home.position(&topic("a")).expect("it is known");
    bench.wait(Duration::from_secs(59));
    assert_eq!(bench.home.topic_count(), 1, "its history is kept");
    bench.wait(Duration::from_secs(61));
    assert_eq!((bench.home.topic_count(), bench.home.deadline()), (0, None));
    bench.publish(publish("a", "2"));
    let after = bench.home.position(&topic("a")).expect("it is known");
    assert_eq!(after.offset, 1);
    assert_ne!(before.epoch, after.epoch);
}

#[test]
fn what_is_said_twice_is_published_once() {
    let mut bench = Bench::new(|_| {});
    let once = || Publish { idempotency_key: Some("key".into()), ..publish("a", "1") };
    let Answer::Published(first) = bench.publish(once()).1 else { panic!("it was published") };
    let again = Receipt { is_repeat: true, ..first.clone() };
    assert_eq!(bench.publish(once()).1, Answer::Published(again));
    assert_eq!(bench.home.publication_count(), 1);
    bench.wait(Duration::from_secs(300));
    let Answer::Published(later) = bench.publish(once()).1 else { panic!("it was published") };
    assert!(!first.is_repeat && !later.is_repeat && first.position != later.position);
    let long = Publish { idempotency_key: Some("x".repeat(129).into()), ..publish("a", "1") };
    assert_eq!(bench.publish(long).1, Answer::Refused(Refused::KeyTooLong { bytes: 129 }));
}

#[test]
fn what_is_refused_says_why() {
    let mut bench = Bench::new(|options| options.topics_max = 1);
    let large = publish("a", &"x".repeat(65_537));
    assert_eq!(bench.publish(large).1, Answer::Refused(Refused::TooLarge { bytes: 65_537, max: 65_536 }));
    bench.publish(publish("a", "1"));
    assert_eq!(bench.publish(publish("b", "1")).1, Answer::Refused(Refused::TooManyTopics));
    let out = bench.say(1, ToHome::Subscribe { topic: topic("b"), ticket: Ticket(9), want: Want::Nothing });
    let refused = Refused::TooManyTopics;
    assert_eq!(
        out.messages,
        [(Party::Core(1), ToCore::NotSubscribed { topic: topic("b"), ticket: Ticket(9), refused })]
    );
}

#[test]
fn a_receipt_adds_up_what_cores_say_and_names_the_silent() {
    let mut bench = Bench::new(|_| {});
    bench.subscribe(1, "a", Want::Nothing);
    bench.subscribe(2, "a", Want::Nothing);
    let counted = Publish { reply: Reply::Counted, ..publish("a", "1") };
    let out = bench.say(3, ToHome::Publish(Box::new(counted)));
    let receipts: Vec<_> = out
        .messages
        .iter()
        .map(|(_, message)| match message {
            ToCore::Deliver(Deliver { receipt, .. }) => receipt.expect("it is wanted"),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(receipts, [ReceiptId(0); 2]);
    let tally = Tally { subscribers: 3, delivered: 2, conflated: 1, dropped: 1 };
    assert!(bench.say(2, ToHome::Tally { receipt: receipts[0], tally }).messages.is_empty());
    assert!(bench.wait(Duration::from_millis(999)).messages.is_empty());
    let out = bench.wait(Duration::from_millis(1));
    let position = bench.home.position(&topic("a")).expect("it is known");
    let counts = Some(Counts { tally, silent: vec![1] });
    let answer = Answer::Published(Receipt { position, counts, is_repeat: false });
    assert_eq!(out.messages, [(Party::Core(3), ToCore::Answer { ticket: Ticket(1), answer })]);
}

#[test]
fn questions_are_answered_for_known_and_unknown_topics() {
    let mut bench = Bench::new(|_| {});
    let ask = |bench: &mut Bench, name: &str, what| {
        let out = bench.say(1, ToHome::Read { topic: topic(name), ticket: Ticket(5), what });
        match out.messages.into_iter().next() {
            Some((Party::Core(1), ToCore::Answer { ticket: Ticket(5), answer })) => answer,
            other => panic!("{other:?}"),
        }
    };
    let history = |since, limit| Read::History { since, limit };
    assert_eq!(ask(&mut bench, "a", history(None, 9)), Answer::History { horizon: None, publications: vec![] });
    assert_eq!(ask(&mut bench, "a", Read::Members), Answer::Members(vec![]));
    assert_eq!(ask(&mut bench, "a", Read::Info), Answer::Info(TopicInfo::default()));
    assert_eq!(bench.home.topic_count(), 0, "a question makes no topic");
    for text in ["1", "2", "3"] {
        bench.publish(publish("a", text));
    }
    let mut offsets = |since, limit| match ask(&mut bench, "a", history(since, limit)) {
        Answer::History { publications, .. } => {
            publications.iter().map(|publication| publication.offset).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!((offsets(None, 9), offsets(None, 2), offsets(None, 0)), (vec![1, 2, 3], vec![2, 3], vec![]));
    let Answer::Info(info) = ask(&mut bench, "a", Read::Info) else { panic!("figures") };
    assert_eq!((info.history_messages, info.history_bytes, info.horizon.map(|it| it.oldest)), (3, 3, Some(1)));
}

#[test]
fn members_come_and_go_for_those_who_listen() {
    let mut bench = Bench::new(|_| {});
    let ann = || Member { user: "ann".into(), info: Bytes::from_static(b"{}") };
    bench.subscribe(2, "a", Want::Nothing);
    let out = bench.say(1, ToHome::Enter { topic: topic("a"), member: ann() });
    let joined = PresenceChange::Joined(ann());
    assert_eq!(out.events, [HomeEvent::Presence(topic("a"), joined.clone())]);
    assert_eq!(out.messages, [(Party::Core(2), ToCore::Presence { topic: topic("a"), change: joined })]);
    let out = bench.say(1, ToHome::Renew { topic: topic("a"), digest: Default::default() });
    assert_eq!(out.messages, [(Party::Core(1), ToCore::Attend { topic: topic("a") })]);
    let out = bench.wait(PRESENCE_LEASE);
    assert_eq!(out.events, [HomeEvent::Presence(topic("a"), PresenceChange::Left("ann".into()))]);
}

#[test]
fn a_core_that_missed_something_is_told_where_the_topic_stands() {
    let mut bench = Bench::new(|_| {});
    bench.subscribe(2, "a", Want::Nothing);
    bench.publish(publish("a", "1"));
    bench.home.missed(2, &topic("a"), bench.now);
    bench.home.missed(2, &topic("unknown"), bench.now);
    assert!(bench.wait(BEHIND_DELAY - Duration::from_millis(1)).messages.is_empty());
    let position = bench.home.position(&topic("a")).expect("it is known");
    let behind = ToCore::Behind { topic: topic("a"), position, members: Some(vec![]) };
    assert_eq!(bench.wait(Duration::from_millis(1)).messages, [(Party::Core(2), behind)]);
    assert!(bench.wait(BEHIND_DELAY).messages.is_empty(), "once");
}

#[test]
fn new_namespaces_count_at_once() {
    let mut bench = Bench::new(|_| {});
    let pattern = Pattern::parse("a:*").expect("good");
    bench.say(1, ToHome::Pattern { pattern, ticket: Ticket(3) });
    assert_eq!(bench.publish(publish("a:b", "1")).0, [1]);
    let vip = Namespace { name: "a:b".to_owned(), message_bytes_max: 3, ..Namespace::default() };
    bench.home.configure(Arc::new(Namespaces::new(Namespace::default(), [vip]).expect("good")));
    assert_eq!(bench.publish(publish("a:b", "2")).0, [0; 0], "it belongs to another namespace now");
    assert_eq!(bench.publish(publish("a:c", "2222")).0, [1]);
    assert_eq!(bench.publish(publish("a:b", "2222")).1, Answer::Refused(Refused::TooLarge { bytes: 4, max: 3 }));
}
