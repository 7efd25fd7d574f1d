//! Threads that are no cores: they publish and ask, hear answers and events, and speak to handlers.

#![cfg(feature = "cli")]

mod common;

use std::any::Any;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use common::{Client, PATIENCE, TestServer, VARIANTS, Variant, serve};
use corewire::handler::{Accept, Conn, Core, Handler, Request, Upgrade};
use corewire::protocol::Message;
use corewire::server::Outside;
use corewire::topics::{
    Access, Answer, DataKind, Draft, HomeEvent, Namespace, Namespaces, Read, Refused, Reply, SlowConsumer, Subject,
    Ticket, Topic, Want, Watch, Watched, WatcherId,
};

/// Subscribes whoever opens the path of a topic. Tells what is cast to it.
struct Desk {
    core: usize,
    heard: Sender<(usize, String)>,
}

impl Handler for Desk {
    type Session = Topic;

    fn upgrade(&mut self, _: &mut Conn<'_>, request: &Request<'_>) -> Upgrade<Topic> {
        Upgrade::Accept(Accept::new(topic(&request.path()[1..])))
    }

    fn open(&mut self, conn: &mut Conn<'_>, topic: &mut Topic) {
        conn.subscribe(topic, Want::Last, None).expect("it is open");
    }

    fn message(&mut self, conn: &mut Conn<'_>, _: &mut Topic, message: Message<'_>) {
        conn.reply(message).expect("there is room");
    }

    fn cast(&mut self, _: &mut Core<'_>, message: &(dyn Any + Send + Sync)) {
        let text = message.downcast_ref::<String>().expect("what was cast").clone();
        self.heard.send((self.core, text)).expect("the test listens");
    }
}

enum News {
    Answer(Ticket, Answer),
    Event(HomeEvent),
}

struct Ear(Sender<News>);

impl Outside for Ear {
    fn answered(&self, ticket: Ticket, answer: Answer) {
        self.0.send(News::Answer(ticket, answer)).expect("the test listens");
    }

    fn topic_event(&self, event: HomeEvent) {
        self.0.send(News::Event(event)).expect("the test listens");
    }
}

struct Stage {
    server: TestServer,
    news: Receiver<News>,
    heard: Receiver<(usize, String)>,
}

impl Stage {
    fn new(variant: Variant) -> Self {
        let (ear, news) = channel();
        let (desk, heard) = channel();
        let namespace = Namespace { message_bytes_max: 100, history_messages: 1, ..Namespace::default() };
        let namespaces = Namespaces::new(namespace, []).expect("one");
        let server = serve(
            variant,
            |builder| builder.cores(vec![0, 1]).namespaces(namespaces).outside(Arc::new(Ear(ear))),
            move |core| Desk { core, heard: desk.clone() },
        );
        Self { server, news, heard }
    }

    fn open(&self, topic: &str) -> Client {
        let mut client = Client::tcp(self.server.addr);
        assert_eq!(client.ask(&format!("/{topic}"), "").status, 101);
        client
    }

    fn publish(&self, topic: &Topic, data: &str, reply: Reply, ticket: u64) {
        let key = Some(format!("key {data}").into());
        self.server.handle.publish_asking(topic, draft(data), key, reply, Ticket(ticket)).expect("there is room");
    }

    #[track_caller]
    fn answer(&self, to: u64) -> Answer {
        match self.news.recv_timeout(PATIENCE).expect("an answer") {
            News::Answer(ticket, answer) => {
                assert_eq!(ticket, Ticket(to));
                answer
            }
            News::Event(event) => panic!("{event:?} instead of an answer"),
        }
    }

    #[track_caller]
    fn event(&self) -> HomeEvent {
        match self.news.recv_timeout(PATIENCE).expect("an event") {
            News::Event(event) => event,
            News::Answer(ticket, answer) => panic!("{answer:?} to {ticket:?} instead of an event"),
        }
    }
}

fn topic(name: &str) -> Topic {
    Topic::parse(name).expect(name)
}

fn draft(data: &str) -> Draft {
    Draft { kind: DataKind::Text, data: data.to_owned().into(), key: None, publisher: None }
}

#[test]
fn another_thread_publishes_and_reads_and_gets_its_answers() {
    for variant in VARIANTS {
        let stage = Stage::new(variant);
        // Some have their home on either core.
        for name in ["a", "b", "c", "d", "e", "f"] {
            let topic = topic(name);
            let mut client = stage.open(name);
            assert_eq!(stage.event(), HomeEvent::Occupied(topic.clone()));

            stage.publish(&topic, "one", Reply::Counted, 7);
            let Answer::Published(receipt) = stage.answer(7) else { panic!("not published") };
            let counts = receipt.counts.expect("it was asked for");
            assert_eq!((receipt.position.offset, counts.tally.delivered, counts.silent.len()), (1, 1, 0));
            assert_eq!(client.text(), "one");

            stage.publish(&topic, "one", Reply::Accepted, 8);
            let Answer::Published(repeat) = stage.answer(8) else { panic!("not published") };
            assert_eq!((repeat.position, repeat.is_repeat), (receipt.position, true));

            // Silent if it is accepted; and then what it asks for is what it gets.
            stage.publish(&topic, "two", Reply::Nothing, 9);
            assert_eq!(client.text(), "two");
            stage.server.handle.read(&topic, Read::History { since: None, limit: 5 }, Ticket(10)).expect("room");
            let Answer::History { publications, .. } = stage.answer(10) else { panic!("no history") };
            assert_eq!(publications.iter().map(|p| &p.draft.data[..]).collect::<Vec<_>>(), [b"two"]);

            stage.publish(&topic, &"x".repeat(101), Reply::Nothing, 11);
            assert_eq!(stage.answer(11), Answer::Refused(Refused::TooLarge { bytes: 101, max: 100 }));
            stage.server.handle.publish(&topic, draft(&"x".repeat(101))).expect("there is room");

            client.reset();
            assert_eq!(stage.event(), HomeEvent::Vacated(topic), "nobody is told of what was published without asking");
        }
    }
}

#[test]
fn a_value_reaches_the_handler_of_the_core_it_is_cast_to() {
    for variant in VARIANTS {
        let stage = Stage::new(variant);
        assert_eq!(stage.server.handle.core_count(), 2);
        for core in [1, 0, 1] {
            stage.server.handle.cast(core, Arc::new(format!("to {core}"))).expect("there is room");
            assert_eq!(stage.heard.recv_timeout(PATIENCE), Ok((core, format!("to {core}"))));
        }
    }
}

#[test]
fn whoever_watches_learns_what_is_published_where() {
    for variant in VARIANTS {
        let stage = Stage::new(variant);
        let watch = |hear: Option<&str>, ticket: u64| -> Vec<Watched> {
            let told = (0..2).map(|core| {
                let hear = hear.map(|subject| Subject::parse(subject).expect("good"));
                let watch = Watch { watcher: WatcherId(1), hear };
                stage.server.handle.watch(core, watch, Ticket(ticket)).expect("there is room");
                match stage.answer(ticket) {
                    Answer::Watched(watched) => *watched,
                    other => panic!("{other:?}"),
                }
            });
            told.collect()
        };
        let publish = |name: &str, data: &str, ticket: u64| {
            stage.publish(&topic(name), data, Reply::Accepted, ticket);
            assert!(matches!(stage.answer(ticket), Answer::Published(_)));
        };
        publish("a:0", "before", 1);
        watch(Some("a:*"), 2);
        for n in 0..8 {
            publish(&format!("a:{n}"), "heard", 10 + n);
            publish(&format!("b:{n}"), "not", 20 + n);
        }
        publish("a:3", "again", 40);

        let told = watch(None, 3);
        assert!(told.iter().all(|core| core.publication_count > 0), "both are homes: {told:?}");
        assert_eq!(told.iter().map(|core| core.publication_count).sum::<u64>(), 17);
        assert_eq!(told.iter().map(|core| core.topic_count).sum::<usize>(), 16);
        let of_busiest = told.iter().flat_map(|core| &core.busiest).find(|(topic, _)| topic.as_str() == "a:3");
        assert_eq!(of_busiest.map(|(_, count)| *count), Some(2));
        let mut heard: Vec<_> = told.iter().flat_map(|core| &core.heard).map(|heard| heard.topic.as_str()).collect();
        heard.sort_unstable();
        assert_eq!(heard, ["a:0", "a:1", "a:2", "a:3", "a:3", "a:4", "a:5", "a:6", "a:7"]);
        publish("a:0", "later", 41);
        assert!(watch(None, 4).iter().all(|core| core.heard.is_empty()), "the last question asked for nothing");
    }
}

#[test]
fn namespaces_change_under_subscribers() {
    for variant in VARIANTS {
        let stage = Stage::new(variant);
        let mut client = stage.open("t");
        assert_eq!(stage.event(), HomeEvent::Occupied(topic("t")));
        stage.publish(&topic("t"), &"x".repeat(101), Reply::Accepted, 1);
        assert!(matches!(stage.answer(1), Answer::Refused(Refused::TooLarge { .. })));

        let wider = Namespace {
            message_bytes_max: 101,
            history_messages: 3,
            publish: Access::Public,
            slow_consumer: SlowConsumer::DropOldest,
            ..Namespace::default()
        };
        stage.server.handle.configure(&Arc::new(Namespaces::new(wider, []).expect("one")));
        for n in 2..6 {
            stage.publish(&topic("t"), &format!("{n}{}", "x".repeat(100)), Reply::Accepted, n);
            assert!(matches!(stage.answer(n), Answer::Published(_)), "{n}");
            assert!(client.text().starts_with(&n.to_string()));
        }
        stage.server.handle.read(&topic("t"), Read::History { since: None, limit: 9 }, Ticket(6)).expect("room");
        let Answer::History { publications, .. } = stage.answer(6) else { panic!("no history") };
        assert_eq!(publications.len(), 3, "as many as are kept now");
    }
}
