//! The weather clears: everybody comes back and must know everything; everybody leaves and nothing must be left.

use std::collections::BTreeSet;
use std::time::Duration;

use super::client::{Speaks, Temper};
use super::faults::Faults;
use super::link::End;
use super::plan::{Kind, TOPICS};
use super::steps::Simulation;
use super::world::World;
use super::{DEPART_SPAN, SETTLE_SPAN};
use crate::metrics::ShardMetrics;
use crate::topics::{Answer, Position, Read, Reply, Ticket, ToHome, Topic, TopicInfo};

type Gauge = fn(&ShardMetrics) -> u64;

impl Simulation {
    /// No more faults; everybody is there and reads, until all that is tried again has been.
    pub(super) fn settle(&mut self) {
        let world = &mut self.world;
        world.is_calm = true;
        world.links.iter_mut().for_each(|link| link.widen());
        world.cores.iter_mut().for_each(|core| core.is_stalled = false);
        world.clients.iter_mut().for_each(|client| client.temper = Temper::Attentive);
        let until = world.now.after(SETTLE_SPAN);
        while self.world.now < until {
            self.come_back();
            self.pass(8);
        }
        // Whoever came last has been answered when nothing moves any more.
        for _ in 0..10_000 {
            self.come_back();
            self.breathe();
            self.take_answers();
            if self.is_quiet() {
                return;
            }
        }
        panic!("the world does not come to rest");
    }

    /// Everybody is connected, and subscribed to what it wants to hear.
    fn come_back(&mut self) {
        for index in 0..self.world.clients.len() {
            if self.world.clients[index].peer.is_none() {
                self.world.connect(index);
            }
            if !self.world.clients[index].can_talk() {
                continue;
            }
            let World { clients, links, faults, .. } = &mut self.world;
            let client = &mut clients[index];
            let Speaks::V1(reader) = &mut client.speaks else { continue };
            let wanted = reader.topics.iter().filter(|(_, reading)| !reading.is_wanted).map(|(topic, _)| topic.clone());
            let wanted: Vec<_> = wanted.collect();
            let mut texts: Vec<_> = wanted
                .iter()
                .map(|topic| reader.subscribe(topic, Kind::of(topic).knows_members(), false, faults))
                .collect();
            // Whose question was refused asks again.
            texts.extend(reader.unknown_members().iter().map(|topic| reader.ask_for_members(topic)));
            texts.iter().for_each(|text| client.say(text, links));
        }
    }

    fn is_quiet(&self) -> bool {
        let world = &self.world;
        let is_still = |client: &super::client::Client| {
            let Some(peer) = &client.peer else { return false };
            let link = &world.links[peer.link];
            client.can_talk() && link.up.is_empty() && link.down.is_empty()
        };
        let has_begun = |client: &super::client::Client| match &client.speaks {
            Speaks::V1(reader) => {
                reader.topics.values().all(|reading| reading.has_begun)
                    && reader.patterns.values().all(|has_begun| *has_begun)
                    && reader.requests.is_empty()
            }
            Speaks::Raw(_) | Speaks::Stream(_) | Speaks::Member { .. } => true,
        };
        world.clients.iter().all(is_still)
            && world.clients.iter().all(has_begun)
            && world.cores.iter().all(|core| !core.is_ready(world.now, &world.links))
    }

    /// What is asked from outside is asked again until there is room.
    fn ask_outside(&mut self, topic: &Topic, what: Read) -> Answer {
        self.tickets_given += 1;
        let ticket = Ticket(self.tickets_given);
        for _ in 0..1000 {
            if self.world.tell_home(topic, ToHome::Read { topic: topic.clone(), ticket, what }) {
                break;
            }
            self.breathe();
        }
        for _ in 0..1000 {
            self.breathe();
            let mut answers = self.world.listener.answers.lock().expect("one thread");
            if let Some(place) = answers.iter().position(|(other, _)| *other == ticket) {
                return answers.remove(place).1;
            }
        }
        panic!("{topic}: {what:?} is not answered");
    }

    pub(super) fn check_knowledge(&mut self) {
        let unanswered = self.outside.values().filter(|asked| asked.must_be_answered()).count();
        assert_eq!(unanswered, 0, "whoever asks from outside is answered");
        for name in TOPICS {
            let topic = Topic::parse(name).expect(name);
            let Answer::Info(info) = self.ask_outside(&topic, Read::Info) else { panic!("figures were asked for") };
            self.check_readers(name, &info);
            self.check_members(&topic);
            if Kind::of(name).is_kept_whole() {
                self.check_history(&topic);
            }
        }
        self.check_raw_publishers();
        self.world.truth.borrow().check_order();
        self.check_metrics();
    }

    fn check_readers(&self, name: &str, info: &TopicInfo) {
        let world = &self.world;
        let newest = info.horizon.map(|horizon| horizon.position);
        let mut subscribers = 0;
        for client in &world.clients {
            match &client.speaks {
                Speaks::V1(reader) => {
                    let Some(reading) = reader.topics.get(name) else { continue };
                    subscribers += 1;
                    let (newest, position) = (newest.expect("somebody hears it"), reading.position.expect("it began"));
                    assert_eq!(position.epoch.0, newest.epoch.number(), "{name}");
                    let may_miss = !Kind::of(name).is_firm() && world.sum(|metrics| metrics.queue_drops.get()) > 0;
                    assert!(may_miss || position.offset == newest.offset, "{name}: {position}, newest {newest}");
                    if Kind::of(name) == Kind::Latest && !may_miss {
                        self.check_newest_of_each(name, newest, reading);
                    }
                }
                Speaks::Raw(reader) if reader.subjects.contains(&name) => {
                    subscribers += 1;
                    // It may have come when all had been said.
                    let Some((epoch, offset)) = reader.last(name) else { continue };
                    let newest = newest.expect("somebody hears it");
                    let is_newest = (epoch, offset) == (newest.epoch.number(), newest.offset);
                    assert!(is_newest || !Kind::of(name).is_firm(), "{name}: {offset}, newest {newest}");
                }
                Speaks::Member { topic, .. } => subscribers += u64::from(*topic == name),
                Speaks::Stream(reader) if reader.subjects.contains(&name) => {
                    subscribers += 1;
                    let (newest, position) =
                        (newest.expect("somebody hears it"), reader.stands(name).expect("it began"));
                    assert_eq!(position.epoch.0, newest.epoch.number(), "{name}");
                    let may_miss = !Kind::of(name).is_firm() && world.sum(|metrics| metrics.queue_drops.get()) > 0;
                    assert!(may_miss || position.offset == newest.offset, "{name}: {position}, newest {newest}");
                }
                Speaks::Raw(_) | Speaks::Stream(_) => {}
            }
        }
        let patterns = world.clients.iter().filter(|client| client.overhears(name)).count() as u64;
        assert_eq!(info.counts.tally.subscribers, subscribers + patterns, "{name}: {:?}", info.counts);
        assert!(info.counts.silent.is_empty());
    }

    /// Whoever cannot be told of a refusal is closed: so what those have said who are still there was published.
    fn check_raw_publishers(&self) {
        let truth = self.world.truth.borrow();
        for client in &self.world.clients {
            let (Speaks::Raw(reader), Some(peer)) = (&client.speaks, &client.peer) else { continue };
            if reader.only_topic().is_some_and(|topic| Kind::of(topic).is_kept_whole()) {
                let lost = truth.unplaced_of(peer.link as u64);
                assert!(lost.is_empty(), "{lost:?} were lost, and nobody was told");
            }
        }
    }

    fn check_newest_of_each(&self, name: &str, newest: Position, reading: &super::reading::Reading) {
        let truth = self.world.truth.borrow();
        let Some(life) = truth.life(name, newest.epoch.number()) else { return };
        let mut want = std::collections::BTreeMap::new();
        for (&offset, &number) in life.range(reading.complete_from + 1..) {
            want.insert(truth.said(number).key, offset);
        }
        assert_eq!(reading.newest, want, "{name}: the newest of each key");
    }

    fn check_members(&mut self, topic: &Topic) {
        let world = &self.world;
        let mut want = BTreeSet::new();
        for client in &world.clients {
            if let Speaks::Member { user, topic: of } = &client.speaks
                && *of == topic.as_str()
            {
                want.insert((*user).to_owned());
            }
        }
        for client in &world.clients {
            let Speaks::V1(reader) = &client.speaks else { continue };
            let Some(reading) = reader.topics.get(topic.as_str()) else { continue };
            if reading.listens {
                let told = reading.members.as_ref().expect("it has asked");
                assert_eq!(*told, want, "{topic}: what a listener was told");
            }
        }
        world.listener.watch(topic, |watch| assert_eq!(watch.members, want, "{topic}: what events say"));
        let Answer::Members(members) = self.ask_outside(topic, Read::Members) else { panic!("members were asked for") };
        let users = members.iter().map(|attendee| &*attendee.member.user);
        assert!(users.eq(want.iter()), "{topic}: {members:?}, not {want:?}");
    }

    /// What is kept is what is known, all of it, and nothing else.
    fn check_history(&mut self, topic: &Topic) {
        let read = Read::History { since: None, limit: usize::MAX };
        let Answer::History { horizon, publications } = self.ask_outside(topic, read) else {
            panic!("the history was asked for")
        };
        let Some(horizon) = horizon else { return };
        let mut truth = self.world.truth.borrow_mut();
        assert!(publications.iter().map(|publication| publication.offset).eq(1..=horizon.position.offset), "{topic}");
        for publication in publications {
            let text = std::str::from_utf8(&publication.draft.data).expect("it was text");
            let number = truth.number_of(text);
            truth.place(number, topic.as_str(), horizon.position.epoch.number(), publication.offset);
        }
        let known = truth.life(topic.as_str(), horizon.position.epoch.number()).map_or(0, |life| life.len());
        assert_eq!(
            known as u64, horizon.position.offset,
            "{topic}: somebody was told of a publication that is not kept"
        );
    }

    fn check_metrics(&mut self) {
        let world = &mut self.world;
        let published = world.sum(|metrics| metrics.publications.get());
        let (known, possible) = world.truth.borrow().counts();
        assert!(
            (known..=possible).contains(&published),
            "{known} are known, {possible} were said, {published} counted"
        );
        let received = world.sum(|metrics| metrics.mesh_received.get());
        let sent = world.sum(|metrics| metrics.mesh_sent.get()) + world.outside_sent;
        assert_eq!(received, sent, "what was sent has arrived");
        assert_eq!(world.sum(|metrics| metrics.handler_panics.get()), 0);
        let Faults { mesh_refused, publications_refused, queue_drops, conflated, .. } = &mut world.faults;
        let sum = |of: Gauge| world.metrics.iter().map(|metrics| of(metrics)).sum::<u64>();
        *mesh_refused = sum(|metrics| metrics.mesh_refused.get());
        *publications_refused = sum(|metrics| metrics.publications_refused.get());
        *queue_drops = sum(|metrics| metrics.queue_drops.get());
        *conflated = sum(|metrics| metrics.publications_conflated.get());
    }

    /// Everybody leaves, in whatever way, or because the server ends; and time passes.
    pub(super) fn depart(&mut self) {
        if self.world.one_in(3) {
            self.world.drain(Duration::from_secs(5));
        } else {
            self.leave();
        }
        let until = self.world.now.after(DEPART_SPAN);
        while self.world.now < until {
            self.pass(30);
        }
    }

    fn leave(&mut self) {
        for index in 0..self.world.clients.len() {
            let World { clients, links, random, now, .. } = &mut self.world;
            let client = &mut clients[index];
            let Some(peer) = &mut client.peer else { continue };
            let link = &mut links[peer.link];
            match random.below(4) {
                0 if peer.is_open() && !peer.is_stream => {
                    peer.close(link, *now);
                    continue;
                }
                0 | 1 => link.close_by_client(End::Fin),
                2 => link.close_by_client(End::Reset),
                _ => link.vanish(),
            }
            client.lose();
        }
    }

    pub(super) fn check_nothing_is_left(&mut self) {
        let world = &self.world;
        assert!(world.clients.iter().all(|client| client.peer.is_none()));
        assert_eq!(world.census.present(), 0, "connections that are counted");
        let gauges: [(&str, Gauge); 6] = [
            ("open", |metrics| metrics.connections_open.get()),
            ("handshaking", |metrics| metrics.connections_handshaking.get()),
            ("closing", |metrics| metrics.connections_closing.get()),
            ("cold", |metrics| metrics.connections_cold.get()),
            ("queued bytes", |metrics| metrics.queued_bytes.get()),
            ("subscriptions", |metrics| metrics.subscriptions.get()),
        ];
        for (name, of) in gauges {
            assert!(world.metrics.iter().all(|metrics| of(metrics) == 0), "{name}");
        }
        for core in &world.cores {
            assert!(!core.has_sockets(), "sockets");
            core.check_empty();
        }
        for name in TOPICS {
            let topic = Topic::parse(name).expect(name);
            world.listener.watch(&topic, |watch| assert!(watch.members.is_empty(), "{name}: {:?}", watch.members));
        }
    }
}

impl super::steps::OutsideAsked {
    /// Whoever asks for no answer is only told of a refusal.
    fn must_be_answered(&self) -> bool {
        self.reply() != Reply::Nothing
    }
}
