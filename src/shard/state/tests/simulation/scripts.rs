//! Short stories, told exactly: what was found to go wrong once.

use super::client::{Speaks, Temper};
use super::core::Outdoors;
use super::faults::Faults;
use super::link::End;
use super::plan::Plan;
use super::raw_reader::RawReader;
use super::reader::Reader;
use super::steps::Simulation;
use super::world::World;
use crate::connection::Random;
use crate::handler::TopicNews;
use crate::topics::{DataKind, Epoch, Position, Publish, Reply, Ticket, ToHome, Topic};

impl Simulation {
    /// Everybody is connected, on core 0, and subscribed to everything.
    fn stage(queued_bytes_max: usize, all: Vec<Speaks>) -> Self {
        let mut simulation = Self::of(World::of(Random::new(1), Plan::calm(1, queued_bytes_max), all));
        simulation.world.is_calm = true;
        for client in 0..simulation.world.clients.len() {
            simulation.world.connect(client);
        }
        simulation.rest();
        simulation
    }

    /// Whatever can happen without the clock happens.
    fn rest(&mut self) {
        for _ in 0..100 {
            self.breathe();
        }
    }

    /// A back end says something so many times.
    fn say(&mut self, topic: &str, times: usize) {
        for pad in 0..times {
            self.publish_once(topic, 50 + pad * 37 % 100);
            self.rest();
        }
    }

    fn publish_once(&mut self, topic: &str, pad: usize) {
        let topic = Topic::parse(topic).expect(topic);
        let number = self.world.truth.borrow_mut().say(&topic, None, DataKind::Text, u64::MAX, pad);
        let draft = self.world.truth.borrow().draft(number);
        let (ticket, reply) = (Ticket::NOBODY, Reply::Nothing);
        let publish = Publish { topic: topic.clone(), draft, idempotency_key: None, ticket, reply };
        assert!(self.world.tell_home(&topic, ToHome::Publish(Box::new(publish))), "there is room");
    }

    /// From now on a client reads nothing, and the network takes hardly anything for it.
    fn deafen(&mut self, client: usize) {
        let client = &mut self.world.clients[client];
        client.temper = Temper::Deaf;
        self.world.links[client.peer.as_ref().expect("it is connected").link].narrow(100);
    }

    /// It reads again.
    fn cure(&mut self, client: usize) {
        let client = &mut self.world.clients[client];
        client.temper = Temper::Attentive;
        self.world.links[client.peer.as_ref().expect("it is connected").link].widen();
        self.rest();
    }

    /// Several messages of a client arrive in one read.
    fn pipeline(&mut self, client: usize, messages: impl FnOnce(&mut Reader) -> Vec<String>) {
        let World { clients, links, .. } = &mut self.world;
        let client = &mut clients[client];
        let texts = messages(reader(&mut client.speaks));
        texts.iter().for_each(|text| client.say(text, links));
        self.rest();
    }

    fn tell_news(&mut self, topic: &str, news: TopicNews<'_>) {
        let World { cores, links, random, faults, .. } = &mut self.world;
        let topic = Topic::parse(topic).expect(topic);
        cores[0].tell_news(&topic, news, &mut Outdoors { links, random, faults, is_calm: true });
        self.rest();
    }

    fn reader(&mut self, client: usize) -> &mut Reader {
        reader(&mut self.world.clients[client].speaks)
    }

    fn offset(&mut self, client: usize, topic: &str) -> u64 {
        self.reader(client).topics[topic].position.expect("it has begun").offset
    }
}

fn reader(speaks: &mut Speaks) -> &mut Reader {
    match speaks {
        Speaks::V1(reader) => reader,
        Speaks::Raw(_) | Speaks::Stream(_) | Speaks::Member { .. } => panic!("it does not speak corewire.v1"),
    }
}

/// Publications waited for a client that did not read, and what it was told about its subscriptions overtook them: it
/// heard old ones after the end of the subscription, and twice after the next one had begun.
#[test]
fn what_is_said_about_a_subscription_does_not_overtake_what_waits() {
    let mut simulation = Simulation::stage(4000, vec![Speaks::v1(&["drop:a"])]);
    simulation.deafen(0);
    simulation.say("drop:a", 20);
    let mut ignored = Faults::default();
    simulation.pipeline(0, |reader| {
        let unsubscribed = reader.unsubscribe("drop:a", &mut ignored);
        vec![unsubscribed, reader.subscribe("drop:a", false, true, &mut ignored)]
    });
    simulation.say("drop:a", 5);
    simulation.cure(0);
    assert_eq!(simulation.offset(0, "drop:a"), 25);
}

/// Who is closed is sent what waits before it, in order and without a hole.
#[test]
fn what_waits_goes_before_the_close() {
    let mut simulation = Simulation::stage(4000, vec![Speaks::v1(&["drop:a", "whole:a"])]);
    simulation.deafen(0);
    simulation.say("drop:a", 10);
    simulation.say("whole:a", 40);
    simulation.cure(0);
    assert_eq!(simulation.world.faults.slow_closes, 1);
    // 4000 bytes of both, of which frames that wait outside of the queue may have half.
    let heard = simulation.offset(0, "whole:a");
    assert!((10..20).contains(&heard), "{heard} of 40");
}

/// The server said how the first subscription had begun when the second one was asked for, and then told what that one
/// had missed without a word.
#[test]
fn the_beginning_of_one_subscription_is_not_told_of_the_next() {
    let mut simulation = Simulation::stage(1 << 20, vec![Speaks::v1(&["whole:a"]), Speaks::v1(&["whole:a"])]);
    let mut ignored = Faults::default();
    simulation.say("whole:a", 3);
    simulation.pipeline(1, |reader| vec![reader.unsubscribe("whole:a", &mut ignored)]);
    simulation.say("whole:a", 3);
    simulation.pipeline(1, |reader| {
        let fresh = reader.subscribe("whole:a", false, true, &mut ignored);
        let ended = reader.unsubscribe("whole:a", &mut ignored);
        vec![fresh, ended, reader.subscribe("whole:a", false, false, &mut ignored)]
    });
    assert_eq!((simulation.offset(1, "whole:a"), simulation.world.faults.failed_recoveries), (6, 0));
    assert_eq!(simulation.world.faults.replayed, 3);
}

#[test]
fn a_subscription_that_was_ended_is_not_listened_to_any_more() {
    let member = Speaks::Member { user: "ann", topic: "whole:a" };
    let mut simulation = Simulation::stage(1 << 20, vec![Speaks::v1(&["whole:a"]), member]);
    let mut ignored = Faults::default();
    simulation.pipeline(0, |reader| {
        let ended = reader.unsubscribe("whole:a", &mut ignored);
        vec![ended, reader.subscribe("whole:a", true, false, &mut ignored)]
    });
    simulation.world.had_losses = true;
    simulation.tell_news("whole:a", TopicNews::Members(&[]));
    assert_eq!(simulation.world.faults.ended_for_loss, 1);
    simulation.pipeline(0, |reader| vec![reader.subscribe("whole:a", false, true, &mut ignored)]);
    // Whoever hears of this has not asked.
    let gone = simulation.world.clients[1].peer.as_ref().expect("it is connected").link;
    simulation.world.links[gone].close_by_client(End::Reset);
    simulation.world.clients[1].lose();
    simulation.rest();
    assert!(simulation.reader(0).topics["whole:a"].has_begun);
    let whole = Topic::parse("whole:a").expect("good");
    simulation.world.listener.watch(&whole, |watch| assert!(watch.members.is_empty(), "{:?}", watch.members));
}

/// Its core slept although it had something to tell itself.
#[test]
fn a_connection_that_breaks_while_it_is_written_to_leaves_its_topics_at_once() {
    let mut simulation = Simulation::stage(1 << 20, vec![Speaks::v1(&["whole:a"])]);
    simulation.publish_once("whole:a", 10);
    let World { cores, links, random, faults, now, .. } = &mut simulation.world;
    let link = links.len() - 1;
    cores[0].break_when_told(link, &mut Outdoors { links, random, faults, is_calm: true });
    cores[0].check_rest(*now, links);
    assert_eq!(faults.broken_writes, 1);
}

/// Bare data has no message to say so with.
#[test]
fn a_raw_client_is_closed_when_something_is_lost_that_it_should_have_heard() {
    let mut simulation = Simulation::stage(1 << 20, vec![Speaks::Raw(RawReader::new(vec!["none:a"]))]);
    simulation.say("none:a", 2);
    simulation.world.had_losses = true;
    simulation.tell_news("none:a", TopicNews::Gap(Position { epoch: Epoch::new(1), offset: 9 }));
    assert_eq!(simulation.world.faults.try_later_closes, 1);
    assert!(simulation.world.clients[0].peer.is_none());
}

#[test]
fn whoever_reads_too_slowly_is_told_4006_on_either_wire() {
    let raw = Speaks::Raw(RawReader::new(vec!["whole:a"]));
    let mut simulation = Simulation::stage(2000, vec![Speaks::v1(&["whole:a"]), raw]);
    simulation.deafen(0);
    simulation.deafen(1);
    simulation.say("whole:a", 40);
    simulation.cure(0);
    simulation.cure(1);
    assert_eq!(simulation.world.faults.slow_closes, 2);
}
