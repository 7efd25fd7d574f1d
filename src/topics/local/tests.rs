//! What a core asks of homes, and what it tells its connections.

use bytes::Bytes;

use super::super::message::{Answer, Attendee, Deliver, PresenceChange, Receipt, ReceiptId, Refused, Tally, ToCore};
use super::super::position::{Epoch, Horizon, NotRecovered};
use super::super::publication::{DataKind, Draft, Publication};
use super::*;

/// Everything that was told, in order.
#[derive(Default)]
struct Told {
    sent: Vec<(usize, ToHome)>,
    heard: Vec<(u32, String)>,
}

impl Told {
    fn tell(&mut self, to: &[SubscriberId], text: impl Into<String>) {
        let text = text.into();
        self.heard.extend(to.iter().map(|id| (id.0, text.clone())));
    }

    fn heard(&mut self) -> Vec<(u32, String)> {
        std::mem::take(&mut self.heard)
    }

    fn sent(&mut self) -> Vec<ToHome> {
        std::mem::take(&mut self.sent).into_iter().map(|(_, message)| message).collect()
    }
}

impl Outlet for Told {
    fn send(&mut self, core: usize, message: ToHome) {
        self.sent.push((core, message));
    }

    fn deliver(&mut self, topic: &Topic, _: Epoch, publication: &Publication, to: &[SubscriberId]) -> Tally {
        self.tell(to, format!("{topic} {}", publication.offset));
        Tally { delivered: to.len() as u64, ..Tally::default() }
    }

    fn subscribed(&mut self, to: SubscriberId, subject: &Subject, begun: &Begun<'_>) {
        let missed: Vec<_> = begun.publications.iter().map(|publication| publication.offset).collect();
        self.tell(&[to], format!("{subject} begins, {:?} {missed:?}", begun.recovery));
    }

    fn refused(&mut self, to: SubscriberId, topic: &Topic, refused: Refused) {
        self.tell(&[to], format!("{topic} refused: {refused}"));
    }

    fn gap(&mut self, topic: &Topic, position: Position, to: &[SubscriberId]) {
        self.tell(to, format!("{topic} gap to {}", position.offset));
    }

    fn presence(&mut self, topic: &Topic, change: &PresenceChange, to: &[SubscriberId]) {
        self.tell(to, format!("{topic} {change:?}"));
    }

    fn members(&mut self, topic: &Topic, members: &[Member], to: &[SubscriberId]) {
        self.tell(to, format!("{topic} has {} members", members.len()));
    }

    fn answer(&mut self, ticket: Ticket, _: Answer) {
        self.heard.push((u32::MAX, format!("{ticket:?}")));
    }
}

const NOW: Moment = Moment(0);

fn topic() -> Topic {
    Topic::parse("a").expect("good")
}

fn at(offset: u64) -> Position {
    Position { epoch: Epoch::new(1), offset }
}

fn publication(offset: u64) -> Publication {
    Publication { offset, draft: Draft { kind: DataKind::Text, data: Bytes::new(), key: None, publisher: None } }
}

fn deliver(offset: u64) -> ToCore {
    let (epoch, publication, receipt) = (Epoch::new(1), publication(offset), Some(ReceiptId(offset)));
    ToCore::Deliver(Deliver { topic: topic(), epoch, publication, receipt })
}

fn answer(ticket: Ticket, newest: u64, oldest: u64, offsets: std::ops::Range<u64>) -> ToCore {
    let horizon = Horizon { position: at(newest), oldest };
    ToCore::Subscribed { topic: topic(), ticket, horizon, publications: offsets.map(publication).collect() }
}

fn tally(offset: u64, count: u64) -> ToHome {
    let tally = Tally { subscribers: count, delivered: count, ..Tally::default() };
    ToHome::Tally { receipt: ReceiptId(offset), tally }
}

fn local() -> (Local, Told) {
    let namespaces = Namespaces::new(super::super::Namespace { presence: true, ..Default::default() }, []);
    (Local::new(1, Arc::new(namespaces.expect("good"))), Told::default())
}

fn subscribe(local: &mut Local, told: &mut Told, id: u32, want: Want) {
    local.subscribe(SubscriberId(id), &topic(), want, None, NOW, told).expect("it is new");
}

/// What was asked, and under which number.
fn asked(told: &mut Told) -> (Ticket, Want) {
    match &told.sent()[..] {
        [ToHome::Subscribe { ticket, want, .. }] => (*ticket, *want),
        other => panic!("{other:?}"),
    }
}

fn said(id: u32, text: &str) -> (u32, String) {
    (id, text.to_owned())
}

#[test]
fn the_home_is_asked_once_for_all_that_wait() {
    let (mut local, mut told) = local();
    for id in 0..100 {
        subscribe(&mut local, &mut told, id, Want::Since(at(5 + u64::from(id) % 3)));
    }
    let (ticket, want) = asked(&mut told);
    assert_eq!(want, Want::Since(at(5)));
    // What comes before the answer is in the answer.
    local.handle(0, deliver(8), NOW, &mut told);
    assert_eq!((told.heard(), told.sent()), (vec![], vec![tally(8, 0)]));
    local.handle(0, answer(ticket, 8, 3, 6..9), NOW, &mut told);
    let heard = told.heard();
    assert_eq!(heard.len(), 100);
    assert_eq!(heard[0], said(0, "a begins, Recovered [6, 7, 8]"));
    assert_eq!(heard[2], said(2, "a begins, Recovered [8]"));
    local.handle(0, deliver(9), NOW, &mut told);
    assert_eq!((told.heard().len(), told.sent()), (100, vec![tally(9, 100)]));
    subscribe(&mut local, &mut told, 200, Want::Nothing);
    subscribe(&mut local, &mut told, 201, Want::Since(at(9)));
    assert_eq!(told.heard(), [said(200, "a begins, NotAsked []"), said(201, "a begins, Recovered []")]);
    assert_eq!(told.sent(), [], "nothing had to be asked");
}

#[test]
fn whom_an_answer_does_not_serve_is_asked_for_again() {
    let (mut local, mut told) = local();
    subscribe(&mut local, &mut told, 0, Want::Nothing);
    let (ticket, _) = asked(&mut told);
    subscribe(&mut local, &mut told, 1, Want::Since(at(1)));
    subscribe(&mut local, &mut told, 2, Want::Since(at(4)));
    subscribe(&mut local, &mut told, 3, Want::Last);
    local.handle(0, answer(ticket, 5, 3, 1..1), NOW, &mut told);
    let why = NotRecovered::NotKept;
    assert_eq!(
        told.heard(),
        [said(0, "a begins, NotAsked []"), said(1, &format!("a begins, NotRecovered({why:?}) []"))]
    );
    let (ticket, want) = asked(&mut told);
    assert_eq!(want, Want::Since(at(4)));
    local.handle(0, answer(ticket, 5, 3, 5..6), NOW, &mut told);
    assert_eq!(told.heard(), [said(2, "a begins, Recovered [5]"), said(3, "a begins, NotAsked [5]")]);
}

#[test]
fn who_knows_more_than_an_answer_under_way_waits_for_another() {
    let (mut local, mut told) = local();
    subscribe(&mut local, &mut told, 0, Want::Since(at(2)));
    let (ticket, _) = asked(&mut told);
    // It comes from a core that was told sooner.
    subscribe(&mut local, &mut told, 1, Want::Since(at(5)));
    local.handle(0, answer(ticket, 3, 1, 3..4), NOW, &mut told);
    assert_eq!(told.heard(), [said(0, "a begins, Recovered [3]")]);
    let (ticket, want) = asked(&mut told);
    assert_eq!(want, Want::Since(at(5)));
    for offset in [4, 5, 6] {
        local.handle(0, deliver(offset), NOW, &mut told);
    }
    assert_eq!(told.heard(), [said(0, "a 4"), said(0, "a 5"), said(0, "a 6")]);
    local.handle(0, answer(ticket, 6, 1, 6..7), NOW, &mut told);
    assert_eq!(told.heard(), [said(1, "a begins, Recovered [6]")]);
}

#[test]
fn a_lost_publication_is_found_and_handed_on_late() {
    let (mut local, mut told) = local();
    subscribe(&mut local, &mut told, 0, Want::Nothing);
    let (ticket, _) = asked(&mut told);
    local.handle(0, answer(ticket, 3, 1, 1..1), NOW, &mut told);
    told.heard();
    local.handle(0, deliver(5), NOW, &mut told);
    let (ticket, want) = asked(&mut told);
    assert_eq!((want, told.heard()), (Want::Since(at(3)), vec![]));
    local.handle(0, deliver(6), NOW, &mut told);
    assert_eq!(told.sent(), [], "what became of it is not known yet");
    subscribe(&mut local, &mut told, 1, Want::Nothing);
    local.handle(0, answer(ticket, 6, 1, 4..7), NOW, &mut told);
    let want = [said(0, "a 4"), said(0, "a 5"), said(0, "a 6"), said(1, "a begins, NotAsked []")];
    assert_eq!(told.heard(), want);
    // Nothing follows, but the home knows.
    let behind = |offset| ToCore::Behind { topic: topic(), position: at(offset), members: Some(vec![]) };
    local.handle(0, behind(6), NOW, &mut told);
    assert_eq!(told.sent(), []);
    local.handle(0, behind(8), NOW, &mut told);
    let (ticket, _) = asked(&mut told);
    told.heard();
    local.handle(0, answer(ticket, 8, 9, 1..1), NOW, &mut told);
    assert_eq!(told.heard(), [said(0, "a gap to 8"), said(1, "a gap to 8")]);
    local.handle(0, deliver(8), NOW, &mut told);
    assert_eq!((told.heard(), told.sent()), (vec![], vec![]), "told before");
}

#[test]
fn a_home_that_does_not_answer_is_asked_again() {
    let (mut local, mut told) = local();
    subscribe(&mut local, &mut told, 0, Want::Last);
    let first = asked(&mut told);
    assert_eq!(local.deadline(), Some(Moment(1000)));
    local.handle_timeout(Moment(999), &mut told);
    assert_eq!(told.sent(), []);
    local.handle_timeout(Moment(1000), &mut told);
    assert_eq!(asked(&mut told), first, "whichever answer comes first is good");
    local.handle(0, answer(first.0, 0, 1, 1..1), Moment(1500), &mut told);
    local.handle(0, answer(first.0, 0, 1, 1..1), Moment(1500), &mut told);
    assert_eq!(told.heard(), [said(0, "a begins, NotAsked []")]);
    local.handle_timeout(Moment(9000), &mut told);
    assert_eq!((told.sent(), local.deadline()), (vec![], None));
}

#[test]
fn the_home_learns_when_the_last_one_goes() {
    let (mut local, mut told) = local();
    subscribe(&mut local, &mut told, 0, Want::Nothing);
    subscribe(&mut local, &mut told, 1, Want::Nothing);
    assert_eq!(local.subscribe(SubscriberId(1), &topic(), Want::Nothing, None, NOW, &mut told), Err(AlreadySubscribed));
    let (ticket, _) = asked(&mut told);
    assert!(local.unsubscribe(SubscriberId(0), "a", &mut told) && !local.unsubscribe(SubscriberId(0), "a", &mut told));
    assert_eq!(told.sent(), []);
    local.remove(SubscriberId(1), &mut told);
    assert_eq!(told.sent(), [ToHome::Unsubscribe { topic: topic() }]);
    local.handle(0, answer(ticket, 0, 1, 1..1), NOW, &mut told);
    assert_eq!(told.heard(), [], "nobody waits any more");
    local.handle(0, deliver(1), NOW, &mut told);
    assert_eq!(told.sent(), [ToHome::Nobody { topic: topic() }, tally(1, 0)]);
}

#[test]
fn a_refusal_ends_the_subscription() {
    let (mut local, mut told) = local();
    subscribe(&mut local, &mut told, 0, Want::Nothing);
    let (ticket, _) = asked(&mut told);
    let refused = Refused::TooManyTopics;
    local.handle(0, ToCore::NotSubscribed { topic: topic(), ticket, refused }, NOW, &mut told);
    assert_eq!(told.heard(), [said(0, "a refused: there are too many topics")]);
    assert_eq!(local.interest().subscription_count(), 0);
}

#[test]
fn a_pattern_begins_when_every_core_knows_it() {
    let mut told = Told::default();
    let mut local = Local::new(3, Arc::default());
    let pattern = Pattern::parse("*").expect("good");
    local.subscribe_pattern(SubscriberId(0), &pattern, NOW, &mut told).expect("new");
    local.subscribe_pattern(SubscriberId(1), &pattern, NOW, &mut told).expect("new");
    let ticket = match &told.sent()[..] {
        [ToHome::Pattern { ticket, .. }, ToHome::Pattern { .. }, ToHome::Pattern { .. }] => *ticket,
        other => panic!("{other:?}"),
    };
    let known = || ToCore::PatternKnown { pattern: pattern.clone(), ticket };
    local.handle(0, known(), NOW, &mut told);
    local.handle(2, known(), NOW, &mut told);
    local.handle(2, deliver(1), NOW, &mut told);
    assert_eq!((told.heard(), told.sent()), (vec![], vec![tally(1, 0)]), "awaited, so the home goes on");
    local.handle_timeout(Moment(1000), &mut told);
    assert!(matches!(&told.sent[..], [(1, ToHome::Pattern { .. })]), "only who has not answered");
    told.sent();
    local.handle(1, known(), NOW, &mut told);
    assert_eq!(told.heard(), [said(0, "* begins, NotAsked []"), said(1, "* begins, NotAsked []")]);
    local.subscribe_pattern(SubscriberId(2), &pattern, NOW, &mut told).expect("new");
    local.handle(2, deliver(2), NOW, &mut told);
    let want = [said(2, "* begins, NotAsked []"), said(0, "a 2"), said(1, "a 2"), said(2, "a 2")];
    assert_eq!((told.heard(), told.sent()), (want.to_vec(), vec![tally(2, 3)]));
    for id in 0..3 {
        local.remove(SubscriberId(id), &mut told);
    }
    assert_eq!(told.sent(), vec![ToHome::PatternEnded { pattern }; 3]);
}

#[test]
fn a_user_enters_once_and_is_renewed() {
    let (mut local, mut told) = local();
    let ann = Member { user: "ann".into(), info: Bytes::from_static(b"{}") };
    for id in [0, 1] {
        local.subscribe(SubscriberId(id), &topic(), Want::Nothing, Some(&ann), NOW, &mut told).expect("new");
    }
    let sent = told.sent();
    let recount = |connections| ToHome::Recount { topic: topic(), user: "ann".into(), connections };
    assert!(
        matches!(&sent[..], [ToHome::Subscribe { .. }, ToHome::Enter { member, .. }, again] if *member == ann && *again == recount(2))
    );
    local.handle_timeout(Moment(10_000), &mut told);
    assert!(matches!(&told.sent()[..], [ToHome::Subscribe { .. }, ToHome::Renew { .. }]));
    local.handle(0, ToCore::Attend { topic: topic() }, NOW, &mut told);
    assert_eq!(
        told.sent(),
        [ToHome::Attendance { topic: topic(), members: vec![Attendee { member: ann, connections: 2 }] }]
    );
    local.remove(SubscriberId(0), &mut told);
    assert_eq!(told.sent(), [recount(1)]);
    local.remove(SubscriberId(1), &mut told);
    assert_eq!(
        told.sent(),
        [ToHome::Leave { topic: topic(), user: "ann".into() }, ToHome::Unsubscribe { topic: topic() }]
    );
}

#[test]
fn questions_and_answers_pass_through() {
    let (mut local, mut told) = local();
    subscribe(&mut local, &mut told, 0, Want::Nothing);
    let (ticket, _) = asked(&mut told);
    local.handle(0, answer(ticket, 0, 1, 1..1), NOW, &mut told);
    local.handle(0, ToCore::Count { topic: topic(), receipt: ReceiptId(4) }, NOW, &mut told);
    let tally = Tally { subscribers: 1, ..Tally::default() };
    assert_eq!(told.sent(), [ToHome::Tally { receipt: ReceiptId(4), tally }]);
    told.heard();
    let receipt = Receipt { position: at(1), counts: None, is_repeat: false };
    local.handle(0, ToCore::Answer { ticket: Ticket(77), answer: Answer::Published(receipt) }, NOW, &mut told);
    local.handle(0, ToCore::Presence { topic: topic(), change: PresenceChange::Left("ann".into()) }, NOW, &mut told);
    assert_eq!(told.heard(), [said(u32::MAX, "Ticket(77)"), said(0, "a Left(\"ann\")")]);
}
