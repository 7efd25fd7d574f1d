//! What happens, drawn by lot.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::client::{Speaks, Temper, pick_key, pick_pad};
use super::faults::Faults;
use super::link::End;
use super::plan::{Kind, TOPICS};
use super::world::World;
use crate::connection::Tick;
use crate::topics::{Answer, DataKind, Publish, Refused, Reply, Ticket, ToHome, Topic};

pub(super) struct Simulation {
    pub(super) world: World,
    /// What was asked from outside, by ticket, and whether an answer must come.
    pub(super) outside: BTreeMap<Ticket, OutsideAsked>,
    pub(super) tickets_given: u64,
}

pub(super) struct OutsideAsked {
    number: usize,
    reply: Reply,
    /// How often it was said, so how many answers come.
    times: u64,
    firsts: u64,
}

impl OutsideAsked {
    pub(super) fn reply(&self) -> Reply {
        self.reply
    }
}

impl Simulation {
    pub(super) fn new(seed: u64) -> Self {
        Self::of(World::new(seed))
    }

    pub(super) fn of(world: World) -> Self {
        Self { world, outside: BTreeMap::new(), tickets_given: 0 }
    }

    /// From the first step to the last check.
    pub(super) fn run(mut self) -> Faults {
        for client in 0..self.world.clients.len() {
            self.world.connect(client);
        }
        for _ in 0..self.world.plan.steps {
            self.step();
        }
        self.settle();
        self.check_knowledge();
        self.depart();
        self.check_nothing_is_left();
        self.world.faults
    }

    fn step(&mut self) {
        let client = self.world.random.below(self.world.clients.len() as u64) as usize;
        let core = self.world.random.below(self.world.plan.core_count as u64) as usize;
        match self.world.random.below(100) {
            0..12 => self.publish(client),
            12..16 => self.publish_from_outside(),
            16..20 => self.toggle(client),
            20..22 => self.ask(client),
            22..46 => self.read_some(client),
            46..84 => {
                self.world.turn(core);
            }
            84..88 => self.come_or_go(client),
            88..90 => self.churn(),
            90..93 => self.stall(core),
            93 if self.world.one_in(3) => self.world.configure(),
            93 => {
                let temper = self.world.pick(&[Temper::Attentive, Temper::Attentive, Temper::Slow, Temper::Deaf]);
                self.world.clients[client].temper = temper;
            }
            94..99 => self.pass(8),
            _ if self.world.one_in(6) => self.pass(2500),
            _ => self.pass(300),
        }
        self.take_answers();
    }

    fn publish(&mut self, client: usize) {
        if !self.world.clients[client].can_talk() {
            return;
        }
        for _ in 0..1 + self.world.random.below(10) {
            let topic = self.world.pick(&TOPICS);
            let World { clients, links, random, truth, .. } = &mut self.world;
            let (client, pad) = (&mut clients[client], pick_pad(random));
            let by = client.peer.as_ref().expect("it talks").link as u64;
            let text = match &mut client.speaks {
                Speaks::V1(reader) => {
                    let topic = Topic::parse(topic).expect(topic);
                    let number = truth.borrow_mut().say(&topic, pick_key(random), DataKind::Json, by, pad);
                    reader.publish(number, random.below(4) > 0, &truth.borrow())
                }
                Speaks::Raw(reader) => {
                    let Some(topic) = reader.only_topic() else { return };
                    let topic = Topic::parse(topic).expect(topic);
                    let number = truth.borrow_mut().say(&topic, None, DataKind::Text, by, pad);
                    truth.borrow().said(number).text.clone()
                }
                Speaks::Stream(_) | Speaks::Member { .. } => return,
            };
            client.say(&text, links);
        }
    }

    fn publish_from_outside(&mut self) {
        let name = self.world.pick(&TOPICS);
        let topic = Topic::parse(name).expect(name);
        for _ in 0..1 + self.world.random.below(4) {
            let kind = self.world.pick(&[DataKind::Json, DataKind::Text]);
            let reply = self.world.pick(&[Reply::Nothing, Reply::Accepted, Reply::Counted]);
            let World { random, truth, .. } = &mut self.world;
            let key = pick_key(random);
            let number = truth.borrow_mut().say(&topic, key, kind, u64::MAX, pick_pad(random));
            let draft = truth.borrow().draft(number);
            self.tickets_given += 1;
            let ticket = Ticket(self.tickets_given);
            // Now and then something is said twice.
            let is_doubled = self.world.one_in(4);
            let idempotency_key = is_doubled.then(|| Arc::from(format!("{number}")));
            let publish = Publish { topic: topic.clone(), draft, idempotency_key, ticket, reply };
            let times = if is_doubled { 2 } else { 1 };
            let message = || ToHome::Publish(Box::new(publish.clone()));
            let times = (0..times).filter(|_| self.world.tell_home(&topic, message())).count() as u64;
            if times == 0 {
                self.world.truth.borrow_mut().refuse(number);
            } else {
                self.outside.insert(ticket, OutsideAsked { number, reply, times, firsts: 0 });
            }
        }
    }

    pub(super) fn take_answers(&mut self) {
        let answers = std::mem::take(&mut *self.world.listener.answers.lock().expect("one thread"));
        for (ticket, answer) in answers {
            let asked = self.outside.get_mut(&ticket).expect("somebody asked");
            asked.times = asked.times.checked_sub(1).expect("each is answered once");
            self.world.faults.outside_answers += 1;
            let mut truth = self.world.truth.borrow_mut();
            match answer {
                Answer::Published(receipt) => {
                    let topic = truth.said(asked.number).topic.clone();
                    let position = receipt.position;
                    truth.place(asked.number, topic.as_str(), position.epoch.number(), position.offset);
                    asked.firsts += u64::from(!receipt.is_repeat);
                    assert!(asked.firsts <= 1, "it was published twice: {receipt:?}");
                    self.world.faults.repeats += u64::from(receipt.is_repeat);
                    if let Some(counts) = receipt.counts {
                        let tally = counts.tally;
                        assert!(tally.delivered <= tally.subscribers, "{tally:?}");
                        self.world.faults.silent_cores += counts.silent.len() as u64;
                    }
                }
                // The other of two may have been accepted.
                Answer::Refused(refused) => {
                    assert_eq!(refused, Refused::Busy);
                    if asked.times == 0 && asked.firsts == 0 {
                        truth.refuse(asked.number);
                    }
                }
                answer => panic!("nobody asked for {answer:?}"),
            }
            if asked.times == 0 {
                self.outside.remove(&ticket);
            }
        }
    }

    /// A client subscribes to one of its topics, or unsubscribes, now and then before it knows what came of the last.
    fn toggle(&mut self, client: usize) {
        if !self.world.clients[client].can_talk() {
            return;
        }
        for _ in 0..1 + self.world.random.below(3) {
            let World { clients, links, random, faults, .. } = &mut self.world;
            let client = &mut clients[client];
            let Speaks::V1(reader) = &mut client.speaks else { return };
            let topics: Vec<_> = reader.topics.keys().cloned().collect();
            let Some(topic) = topics.get(random.below(topics.len() as u64) as usize) else { return };
            let text = if reader.topics[topic].is_wanted {
                reader.unsubscribe(topic, faults)
            } else {
                let listens = Kind::of(topic).knows_members() && random.below(2) == 0;
                reader.subscribe(topic, listens, random.below(4) == 0, faults)
            };
            client.say(&text, links);
        }
    }

    fn ask(&mut self, client: usize) {
        let World { clients, links, random, .. } = &mut self.world;
        let client = &mut clients[client];
        if !client.can_talk() {
            return;
        }
        let Speaks::V1(reader) = &mut client.speaks else { return };
        let text = if random.below(2) == 0 { reader.ping() } else { reader.ask_for_members("whole:a") };
        client.say(&text, links);
    }

    fn read_some(&mut self, client: usize) {
        let len = 1 + self.world.random.below(500) as usize;
        match self.world.clients[client].temper {
            Temper::Attentive => self.world.read(client, len * 10),
            Temper::Slow => self.world.read(client, len / 5),
            Temper::Deaf => {}
        }
    }

    fn come_or_go(&mut self, index: usize) {
        let World { clients, links, random, faults, now, .. } = &mut self.world;
        let client = &mut clients[index];
        let Some(peer) = &mut client.peer else { return self.world.connect(index) };
        let link = &mut links[peer.link];
        if peer.is_stream && random.below(8) == 0 {
            // What is said behind the request goes nowhere.
            return link.arrive(UNMASKED_FRAME);
        }
        if peer.is_open() && !peer.is_stream && random.below(8) == 0 {
            faults.violations += 1;
            client.is_leaving = true;
            return link.arrive(UNMASKED_FRAME);
        }
        let way = random.below(5);
        if way < 2 && peer.is_open() && !peer.is_stream && !client.is_leaving {
            faults.closes += 1;
            client.is_leaving = true;
            return peer.close(link, *now);
        }
        // What it has said last may not all have left.
        if random.below(2) == 0 {
            link.up.truncate(random.below(link.up.len() as u64 + 1) as usize);
        }
        match way {
            0..3 => {
                faults.fins += 1;
                link.close_by_client(End::Fin);
            }
            3 => {
                faults.resets += 1;
                link.close_by_client(End::Reset);
            }
            _ => {
                faults.vanishings += 1;
                link.vanish();
            }
        }
        client.lose();
    }

    /// All who are there to be present come or go, while the others stay and are told.
    fn churn(&mut self) {
        for client in 0..self.world.clients.len() {
            if matches!(self.world.clients[client].speaks, Speaks::Member { .. }) {
                self.come_or_go(client);
            }
        }
    }

    fn stall(&mut self, core: usize) {
        let core = &mut self.world.cores[core];
        core.is_stalled = !core.is_stalled;
        self.world.faults.stalls += u64::from(core.is_stalled);
    }

    /// Time passes; whoever is attentive reads, and cores that do not stand still take their turns.
    pub(super) fn pass(&mut self, ticks_max: u32) {
        let until = Tick(self.world.now.0 + 1 + self.world.random.below(u64::from(ticks_max)) as u32);
        while self.world.now < until {
            let first = self.world.now.0 + 1;
            let timers = self.world.cores.iter().filter(|core| !core.is_stalled).filter_map(|core| core.timer());
            let next = timers.map(|at| at.0.max(first)).min().unwrap_or(u32::MAX);
            self.world.now = Tick(next.min(self.world.now.0 + TICKS_MAX).min(until.0));
            self.breathe();
            self.take_answers();
        }
    }

    /// Everybody gets a chance to do something.
    pub(super) fn breathe(&mut self) {
        let now = self.world.now;
        for client in 0..self.world.clients.len() {
            if self.world.clients[client].temper == Temper::Attentive {
                self.world.read(client, usize::MAX);
            }
            let World { clients, links, .. } = &mut self.world;
            if let Some(peer) = &mut clients[client].peer {
                let link = peer.link;
                peer.time_out(&mut links[link], now);
                if peer.is_over() {
                    clients[client].lose();
                }
            }
        }
        for core in 0..self.world.plan.core_count {
            self.world.turn(core);
        }
    }
}

/// A client's frames must be masked (RFC 6455 §5.1).
const UNMASKED_FRAME: &[u8] = &[0x81, 0x02, b'h', b'i'];
/// Between two looks at the clients: an eighth of a ping interval.
const TICKS_MAX: u32 = 8;
