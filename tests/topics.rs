//! Topics over real sockets and cores: order, recovery, presence, silence, and subscribers that read too slowly.

#![cfg(feature = "cli")]

mod common;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Client, TEXT, TestServer, VARIANTS, Variant, serve, until};
use corewire::connection::Limits;
use corewire::handler::{Accept, Conn, ConnId, Core, Delivery, Handler, Request, TopicNews, Unanswered, Upgrade, Wire};
use corewire::metrics::{Counter, ShardMetrics};
use corewire::protocol::{Message, MessageKind};
use corewire::topics::{
    Answer, Begun, DataKind, Draft, Member, Namespace, Namespaces, Pattern, PresenceChange, Read, Refused, Reply,
    SlowConsumer, Subject, Ticket, Topic, Want,
};

/// Does with topics what its clients say. What it says itself begins with `+`.
struct Desk {
    asked: HashMap<Ticket, ConnId>,
    /// How often it was asked to encode a publication for a wire.
    encoded: Arc<AtomicUsize>,
}

const FULL: Wire = Wire(7);

impl Desk {
    fn subscribe(conn: &mut Conn<'_>, topic: &str, want: Want, user: Option<&str>) -> Option<String> {
        let member = user.map(|user| Member { user: user.into(), info: Bytes::from_static(b"{}") });
        conn.subscribe(&Topic::parse(topic).expect(topic), want, member.as_ref()).err().map(|error| error.to_string())
    }

    fn draft(rest: &str) -> (Topic, Draft) {
        let (topic, data) = rest.split_once(' ').unwrap_or((rest, ""));
        let key = data.split_once('=').map(|(key, _)| key.into());
        (
            Topic::parse(topic).expect(topic),
            Draft { kind: DataKind::Text, data: data.to_owned().into(), key, publisher: None },
        )
    }

    fn ask(&mut self, conn: &Conn<'_>, ticket: Result<Ticket, Refused>) -> Option<String> {
        match ticket {
            Ok(ticket) => {
                self.asked.insert(ticket, conn.id());
                None
            }
            Err(refused) => Some(refused.to_string()),
        }
    }
}

impl Handler for Desk {
    type Session = ();

    fn upgrade(&mut self, conn: &mut Conn<'_>, request: &Request<'_>) -> Upgrade<()> {
        let early = Self::subscribe(conn, "early", Want::Nothing, None);
        assert_eq!(early.as_deref(), Some("the connection is not open"));
        let wire = if request.path() == "/full" { FULL } else { Wire::default() };
        Upgrade::Accept(Accept::new(()).wire(wire))
    }

    fn message(&mut self, conn: &mut Conn<'_>, _: &mut (), message: Message<'_>) {
        let text = message.text().expect("a text").to_owned();
        let (command, rest) = text.split_once(' ').unwrap_or((&text, ""));
        let (topic, more) = rest.split_once(' ').unwrap_or((rest, ""));
        let said = match command {
            "subscribe" => Self::subscribe(conn, topic, Want::Nothing, None),
            "last" => Self::subscribe(conn, topic, Want::Last, None),
            "since" => Self::subscribe(conn, topic, Want::Since(more.parse().expect("a position")), None),
            "join" => Self::subscribe(conn, topic, Want::Nothing, Some(more)),
            "pattern" => {
                let pattern = Pattern::parse(topic).expect(topic);
                conn.subscribe_pattern(&pattern).err().map(|error| error.to_string())
            }
            "unsubscribe" => Some(format!("unsubscribed {} {}", conn.unsubscribe(topic), conn.subscriptions().len())),
            "publish" => {
                let (topic, draft) = Self::draft(rest);
                conn.publish(&topic, draft).err().map(|refused| refused.to_string())
            }
            "ask" | "count" => {
                let (topic, draft) = Self::draft(rest);
                let reply = if command == "ask" { Reply::Accepted } else { Reply::Counted };
                let ticket = conn.publish_asking(&topic, draft, None, reply);
                self.ask(conn, ticket)
            }
            "once" => {
                let (topic, draft) = Self::draft(rest);
                let ticket = conn.publish_asking(&topic, draft, Some("key".into()), Reply::Accepted);
                self.ask(conn, ticket)
            }
            "history" => {
                let limit = more.parse().expect("a number");
                let ticket = conn.read(&Topic::parse(topic).expect(topic), Read::History { since: None, limit });
                self.ask(conn, ticket)
            }
            "who" => {
                let ticket = conn.read(&Topic::parse(topic).expect(topic), Read::Members);
                self.ask(conn, ticket)
            }
            other => Some(other.to_owned()),
        };
        if let Some(said) = said {
            conn.send_text(&format!("+{said}")).expect("there is room");
        }
    }

    fn encode(&mut self, wire: Wire, delivery: &Delivery<'_>) -> Option<(MessageKind, Bytes)> {
        self.encoded.fetch_add(1, Ordering::Relaxed);
        if wire != FULL {
            return Some(delivery.bare());
        }
        let (_, data) = delivery.bare();
        let full = format!("{} {} {}", delivery.topic, delivery.publication.offset, String::from_utf8_lossy(&data));
        Some((MessageKind::Text, full.into()))
    }

    fn subscribed(&mut self, conn: &mut Conn<'_>, _: &mut (), subject: &Subject, begun: &Begun<'_>) {
        let position = begun.position.map_or("-".to_owned(), |position| position.to_string());
        let name = match subject {
            Subject::Topic(topic) => topic.as_str(),
            Subject::Pattern(pattern) => pattern.as_str(),
        };
        let said = format!("+subscribed {name} {position} {:?} {}", begun.recovery, begun.publications.len());
        conn.send_text(&said).expect("there is room");
    }

    fn topic_news(&mut self, core: &mut Core<'_>, topic: &Topic, news: TopicNews<'_>, to: &[ConnId]) {
        let said = match news {
            TopicNews::Gap(position) => format!("+gap {topic} {position}"),
            TopicNews::Presence(PresenceChange::Joined(member)) => format!("+joined {topic} {}", member.user),
            TopicNews::Presence(PresenceChange::Left(user)) => format!("+left {topic} {user}"),
            TopicNews::Members(members) => format!("+members {topic} {}", members.len()),
        };
        core.send_to_all(to.iter().copied(), MessageKind::Text, said.into());
    }

    fn answered(&mut self, core: &mut Core<'_>, ticket: Ticket, answer: Result<Answer, Unanswered>) {
        let said = match answer.expect("homes answer in time") {
            Answer::Published(receipt) => match receipt.counts {
                Some(counts) => format!("+{:?} {:?}", counts.tally, counts.silent),
                None => format!("+accepted {} {}", receipt.position.offset, receipt.is_repeat),
            },
            Answer::Members(members) => {
                members.iter().fold("+who".to_owned(), |all, one| format!("{all} {}", one.member.user))
            }
            Answer::History { publications, .. } => publications
                .iter()
                .fold("+history".to_owned(), |all, p| format!("{all} {}", String::from_utf8_lossy(&p.draft.data))),
            other => format!("+{other:?}"),
        };
        core.send_to_all(self.asked.remove(&ticket), MessageKind::Text, said.into());
    }
}

struct Stage {
    server: TestServer,
    encoded: Arc<AtomicUsize>,
}

fn stage(variant: Variant, namespaces: Namespaces, limits: Limits) -> Stage {
    let encoded = Arc::new(AtomicUsize::new(0));
    let shared = encoded.clone();
    let configure =
        |builder: corewire::server::Builder| builder.cores(vec![0, 1]).namespaces(namespaces).limits(limits);
    let handler = move |_| Desk { asked: HashMap::new(), encoded: shared.clone() };
    Stage { server: serve(variant, configure, handler), encoded }
}

fn default_stage(variant: Variant) -> Stage {
    stage(variant, Namespaces::new(presence(), []).expect("one"), Limits::default())
}

fn presence() -> Namespace {
    Namespace { presence: true, ..Namespace::default() }
}

impl Stage {
    fn open(&self) -> Client {
        Client::open(self.server.addr)
    }

    /// So many clients, until both cores have some.
    fn open_many(&self, path: &str, count: usize) -> Vec<Client> {
        let mut clients = Vec::new();
        let spread = || self.server.handle.metrics().iter().all(|metrics| metrics.connections_open.get() > 0);
        while clients.len() < count || !spread() {
            let mut client = Client::tcp(self.server.addr);
            assert_eq!(client.ask(path, "").status, 101);
            clients.push(client);
            assert!(clients.len() < count + 100, "the kernel spreads connections over cores");
        }
        clients
    }
}

/// Says something, and gets the next message.
fn ask(client: &mut Client, text: &str) -> String {
    client.send_text(text);
    client.text()
}

/// Subscribes, and gets the position at which it begins.
#[track_caller]
fn subscribe(client: &mut Client, command: &str) -> String {
    let said = ask(client, command);
    let words: Vec<_> = said.split(' ').collect();
    assert_eq!(words[0], "+subscribed", "{said}");
    words[2].to_owned()
}

#[test]
fn everybody_hears_everything_in_one_order_and_it_is_encoded_once_per_core_and_wire() {
    const EACH: usize = 200;
    for variant in VARIANTS {
        let stage = default_stage(variant);
        let mut bare = stage.open_many("/", 20);
        let mut full = stage.open_many("/full", 20);
        for client in bare.iter_mut().chain(&mut full) {
            subscribe(client, "subscribe chat:lobby");
        }
        let mut publishers = stage.open_many("/", 4);
        for n in 0..EACH {
            for (who, publisher) in publishers.iter_mut().enumerate() {
                publisher.send_text(&format!("publish chat:lobby {who}:{n}"));
            }
        }
        let total = EACH * publishers.len();
        let order: Vec<_> = (0..total).map(|_| bare[0].text()).collect();
        for who in 0..publishers.len() {
            let own = order.iter().filter_map(|text| text.strip_prefix(&format!("{who}:")));
            assert!(own.eq((0..EACH).map(|n| n.to_string())), "publisher {who}");
        }
        for client in &mut bare[1..] {
            assert!((0..total).all(|n| client.text() == order[n]));
        }
        for client in &mut full {
            for (n, data) in order.iter().enumerate() {
                assert_eq!(client.text(), format!("chat:lobby {} {data}", n + 1));
            }
        }
        let wires_per_core: usize = 2;
        let encoded = stage.encoded.load(Ordering::Relaxed);
        assert!(encoded <= total * wires_per_core * 2, "{encoded} times");
        assert_eq!(stage.server.sum(|metrics| &metrics.publications), total as u64);
        assert_eq!(stage.server.sum(|metrics| &metrics.subscriptions), (bare.len() + full.len()) as u64);
    }
}

#[test]
fn who_comes_back_gets_exactly_what_it_missed() {
    for variant in VARIANTS {
        let stage = default_stage(variant);
        let mut publisher = stage.open();
        // Several topics, so that some have their home on either core.
        for topic in ["news:a", "news:b", "news:c", "news:d", "news:e"] {
            let mut keeper = stage.open();
            let start = subscribe(&mut keeper, &format!("subscribe {topic}"));
            let (epoch, _) = start.split_once('-').expect("a position");
            for n in 1..=10 {
                assert_eq!(ask(&mut publisher, &format!("ask {topic} m{n}")), format!("+accepted {n} false"));
            }
            for n in 1..=10 {
                assert_eq!(keeper.text(), format!("m{n}"));
            }
            drop(keeper);
            for mut back in stage.open_many("/", 2) {
                let said = ask(&mut back, &format!("since {topic} {epoch}-4"));
                assert_eq!(said, format!("+subscribed {topic} {epoch}-10 Recovered 6"));
                for n in 5..=10 {
                    assert_eq!(back.text(), format!("m{n}"));
                }
            }
            let mut back = stage.open();
            let said = ask(&mut back, &format!("since {topic} 00000000000000ff-4"));
            assert_eq!(said, format!("+subscribed {topic} {epoch}-10 NotRecovered(EpochChanged) 0"));
            assert_eq!(ask(&mut publisher, &format!("ask {topic} live")), "+accepted 11 false");
            assert_eq!(back.text(), "live");
            let mut fresh = stage.open();
            subscribe(&mut fresh, &format!("last {topic}"));
            assert_eq!(fresh.text(), "live");
            assert_eq!(ask(&mut publisher, &format!("history {topic} 3")), "+history m9 m10 live");
            assert_eq!(ask(&mut publisher, &format!("once {topic} x")), "+accepted 12 false");
            assert_eq!(ask(&mut publisher, &format!("once {topic} x")), "+accepted 12 true");
        }
    }
}

#[test]
fn a_user_is_present_once_from_the_first_connection_to_the_last() {
    for variant in VARIANTS {
        let stage = default_stage(variant);
        for topic in ["room:1", "room:2", "room:3"] {
            let mut watcher = stage.open();
            subscribe(&mut watcher, &format!("subscribe {topic}"));
            let mut ada = stage.open_many("/", 2);
            for client in &mut ada {
                client.send_text(&format!("join {topic} ada"));
                // Of the two that it gets, the news of itself may come first, and comes only to the first of them.
                while !client.text().starts_with("+subscribed") {}
            }
            assert_eq!(watcher.text(), format!("+joined {topic} ada"));
            let mut bob = stage.open();
            bob.send_text(&format!("join {topic} bob"));
            assert_eq!(watcher.text(), format!("+joined {topic} bob"));
            assert_eq!(ask(&mut watcher, &format!("who {topic}")), "+who ada bob");
            let last = ada.pop().expect("there are several");
            ada.into_iter().for_each(Client::reset);
            bob.reset();
            assert_eq!(watcher.text(), format!("+left {topic} bob"), "ada is still there");
            drop(last);
            assert_eq!(watcher.text(), format!("+left {topic} ada"));
            assert_eq!(ask(&mut watcher, &format!("who {topic}")), "+who");
        }
    }
}

#[test]
fn unsubscribed_means_silent() {
    for variant in VARIANTS {
        let stage = default_stage(variant);
        let mut publisher = stage.open();
        for mut client in stage.open_many("/", 6) {
            subscribe(&mut client, "subscribe prices:eur");
            assert_eq!(ask(&mut client, "subscribe prices:eur"), "+the connection has this subscription already");
            subscribe(&mut client, "pattern prices:*");
            assert!(ask(&mut publisher, "ask prices:eur once").starts_with("+accepted"));
            assert_eq!(client.text(), "once", "and not again for the pattern");
            assert!(ask(&mut publisher, "ask prices:usd other").starts_with("+accepted"));
            assert_eq!(client.text(), "other");
            assert_eq!(ask(&mut client, "unsubscribe prices:*"), "+unsubscribed true 1");
            assert!(ask(&mut publisher, "ask prices:usd unheard").starts_with("+accepted"));
            assert!(ask(&mut publisher, "ask prices:eur heard").starts_with("+accepted"));
            assert_eq!(client.text(), "heard");
            assert_eq!(ask(&mut client, "unsubscribe prices:eur"), "+unsubscribed true 0");
            assert_eq!(ask(&mut client, "unsubscribe prices:eur"), "+unsubscribed false 0");
            let nobody = ask(&mut publisher, "count prices:eur unheard");
            assert_eq!(nobody, "+Tally { subscribers: 0, delivered: 0, conflated: 0, dropped: 0 } []");
            assert_eq!(ask(&mut client, "still there"), "+still");
        }
        until("no subscription is left", || stage.server.sum(|metrics| &metrics.subscriptions) == 0);
    }
}

#[test]
fn a_publication_is_counted_bounded_and_comes_from_any_thread() {
    for variant in VARIANTS {
        let small = Namespace { message_bytes_max: 100, ..presence() };
        let stage = stage(variant, Namespaces::new(small, []).expect("one"), Limits::default());
        let mut clients = stage.open_many("/", 8);
        for client in &mut clients {
            subscribe(client, "subscribe a:b");
        }
        let mut publisher = stage.open();
        let len = clients.len();
        let counted = format!("+Tally {{ subscribers: {len}, delivered: {len}, conflated: 0, dropped: 0 }} []");
        assert_eq!(ask(&mut publisher, "count a:b one"), counted);
        let topic = Topic::parse("a:b").expect("good");
        let draft = Draft { kind: DataKind::Json, data: "{\"two\":2}".into(), key: None, publisher: None };
        stage.server.handle.publish(&topic, draft).expect("there is room");
        let large = format!("publish a:b {}", "x".repeat(101));
        assert_eq!(ask(&mut publisher, &large), "+the publication has 101 bytes, and its namespace admits 100");
        for client in &mut clients {
            assert_eq!((client.text(), client.text()), ("one".to_owned(), "{\"two\":2}".to_owned()));
        }
    }
}

/// Values of three keys change two thousand times while their subscriber reads nothing. What it gets then is in
/// order, ends with the newest of each, and is much less than all.
#[test]
fn a_slow_subscriber_of_latest_values_gets_the_newest_of_each() {
    const CHANGES: usize = 2000;
    for variant in VARIANTS {
        let latest = Namespace { slow_consumer: SlowConsumer::Latest, ..presence() };
        let stage = stage(variant, Namespaces::new(latest, []).expect("one"), Limits::default());
        let mut slow = Client::tcp_narrow(stage.server.addr).upgraded("");
        subscribe(&mut slow, "subscribe cursors");
        let mut publisher = stage.open();
        let filler = "x".repeat(10_000);
        for n in 0..CHANGES {
            let key = ["a", "b", "c"][n % 3];
            publisher.send_text(&format!("publish cursors {key}={n} {filler}"));
        }
        let conflated = || stage.server.sum(|metrics| &metrics.publications_conflated);
        until("all are published", || stage.server.sum(|metrics| &metrics.publications) == CHANGES as u64);
        assert!(conflated() > 0);
        let mut heard = Vec::new();
        let newest = [CHANGES - 1, CHANGES - 2, CHANGES - 3];
        while !newest.iter().all(|n| heard.contains(n)) {
            let text = slow.text();
            let (_, rest) = text.split_once('=').expect("a key");
            heard.push(rest.split(' ').next().and_then(|n| n.parse().ok()).expect("a number"));
        }
        assert!(heard.is_sorted(), "in order");
        until("what was replaced is counted", || heard.len() as u64 + conflated() == CHANGES as u64);
        assert_eq!(stage.server.sum(|metrics| &metrics.queue_drops), 0);
        assert_eq!(ask(&mut slow, "still there"), "+still");
    }
}

#[test]
fn a_slow_subscriber_that_must_miss_nothing_is_disconnected() {
    for variant in VARIANTS {
        let limits = Limits { queued_bytes_max: 1 << 20, queued_bytes_pause: 1 << 20, ..Limits::default() };
        let stage = stage(variant, Namespaces::new(presence(), []).expect("one"), limits);
        let mut slow = Client::tcp_narrow(stage.server.addr).upgraded("");
        subscribe(&mut slow, "subscribe log");
        let mut publisher = stage.open();
        let filler = "x".repeat(50_000);
        let mut sent = 0;
        while stage.server.sum(|metrics| &metrics.queue_drops) == 0 {
            assert!(sent < 2000, "buffers of sockets are bounded");
            assert!(ask(&mut publisher, &format!("ask log {sent} {filler}")).starts_with("+accepted"));
            sent += 1;
        }
        // All that it was sent before is whole and in order; then it is told why it ends.
        for n in 0.. {
            let frame = slow.frame();
            if frame.opcode != TEXT {
                assert_eq!(common::close_parts(&frame.payload), (1008, "slow consumer".to_owned()));
                break;
            }
            assert!(frame.payload.starts_with(format!("{n} ").as_bytes()));
        }
        slow.set_read_timeout(Duration::from_secs(10));
        assert_eq!(ask(&mut publisher, "still there"), "+still");
    }
}

/// By the counters of the cores: where nobody hears, only the topic's home has a turn for it.
#[test]
fn a_publication_that_nobody_hears_wakes_its_home_and_no_other_core() {
    const COUNT: u64 = 200;
    for variant in VARIANTS {
        let stage = default_stage(variant);
        let all = |of: fn(&ShardMetrics) -> &Counter| -> Vec<u64> {
            stage.server.handle.metrics().iter().map(|metrics| of(metrics).get()).collect()
        };
        let topic = Topic::parse("nobody").expect("a good name");
        let (before, start) = (all(|metrics| &metrics.turns), Instant::now());
        // One at a time, so that none shares a turn with another.
        for published in 1..=COUNT {
            let draft = Draft { kind: DataKind::Text, data: Bytes::from_static(b"?"), key: None, publisher: None };
            stage.server.handle.publish(&topic, draft).expect("there is room");
            until("it is published", || stage.server.sum(|metrics| &metrics.publications) == published);
        }
        let turns: Vec<u64> = all(|metrics| &metrics.turns).iter().zip(before).map(|(now, then)| now - then).collect();
        let home = all(|metrics| &metrics.publications).iter().position(|&count| count == COUNT).expect("one has all");
        assert!(turns[home] >= COUNT, "{turns:?}");
        // Timers may have had a turn or two, and more on a machine that takes long over this.
        let timers = 5 * start.elapsed().as_secs();
        assert!(turns[1 - home] < COUNT / 10 + timers, "{turns:?}");
        assert_eq!(stage.server.sum(|metrics| &metrics.mesh_sent), 0);
    }
}
