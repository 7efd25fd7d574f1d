//! All cores, the ways between them and to their clients, one clock, and whoever speaks from outside.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::super::super::{ShardOptions, State};
use super::client::{Client, Speaks};
use super::core::{Core, Flag, Outdoors};
use super::faults::Faults;
use super::handler::Watched;
use super::link::Link;
use super::plan::{NAMESPACES, Plan};
use super::reader::Ear;
use super::truth::Truth;
use crate::connection::{Random, Tick};
use crate::handler;
use crate::mesh::{Census, Mesh, Outside, Ringer};
use crate::metrics::ShardMetrics;
use crate::protocol::handshake::OriginPolicy;
use crate::shard::{AboutTopics, Envelope};
use crate::topics::{Answer, HomeEvent, Party, PresenceChange, Ticket, ToHome, Topic, home_of};

pub(super) struct World {
    pub(super) random: Random,
    pub(super) plan: Plan,
    pub(super) now: Tick,
    pub(super) cores: Vec<Core>,
    pub(super) metrics: Vec<Arc<ShardMetrics>>,
    pub(super) census: Arc<Census>,
    pub(super) links: Vec<Link>,
    pub(super) clients: Vec<Client>,
    pub(super) truth: Rc<RefCell<Truth>>,
    pub(super) faults: Faults,
    /// No more faults from here on.
    pub(super) is_calm: bool,
    /// A script says that something was lost.
    pub(super) had_losses: bool,
    pub(super) listener: Arc<Listener>,
    outside: Vec<Outside<Envelope>>,
    pub(super) outside_sent: u64,
}

/// A thread that is no core.
#[derive(Default)]
pub(super) struct Listener {
    pub(super) answers: Mutex<Vec<(Ticket, Answer)>>,
    topics: Mutex<BTreeMap<Topic, Watch>>,
}

/// What the events say of a topic.
#[derive(Default)]
pub(super) struct Watch {
    pub(super) is_occupied: bool,
    pub(super) members: std::collections::BTreeSet<String>,
}

impl handler::Outside for Listener {
    fn answered(&self, ticket: Ticket, answer: Answer) {
        self.answers.lock().expect("one thread").push((ticket, answer));
    }

    fn topic_event(&self, event: HomeEvent) {
        let mut topics = self.topics.lock().expect("one thread");
        match event {
            HomeEvent::Occupied(topic) => {
                let watch = topics.entry(topic).or_default();
                assert!(!std::mem::replace(&mut watch.is_occupied, true), "occupied twice");
            }
            HomeEvent::Vacated(topic) => {
                let watch = topics.entry(topic).or_default();
                assert!(std::mem::replace(&mut watch.is_occupied, false), "vacated twice");
            }
            HomeEvent::Presence(topic, PresenceChange::Joined(member)) => {
                let is_new = topics.entry(topic).or_default().members.insert(member.user.to_string());
                assert!(is_new, "{} joined twice", member.user);
            }
            HomeEvent::Presence(topic, PresenceChange::Left(user)) => {
                assert!(topics.entry(topic).or_default().members.remove(&*user), "{user} left twice");
            }
        }
    }
}

impl Listener {
    pub(super) fn watch<T>(&self, topic: &Topic, of: impl FnOnce(&Watch) -> T) -> T {
        of(self.topics.lock().expect("one thread").entry(topic.clone()).or_default())
    }
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let plan = Plan::new(&mut random);
        let all = (0..plan.client_count).map(|_| Speaks::draw(&mut random)).collect();
        Self::of(random, plan, all)
    }

    pub(super) fn of(mut random: Random, plan: Plan, all: Vec<Speaks>) -> Self {
        let truth = Rc::new(RefCell::new(Truth::default()));
        let listener = Arc::new(Listener::default());
        let census = Arc::new(Census::new(plan.connections_max));
        let bells: Vec<_> = (0..plan.core_count).map(|_| Arc::new(AtomicBool::new(false))).collect();
        let ringers = bells.iter().map(|bell| Box::new(Flag(bell.clone())) as Box<dyn Ringer>).collect();
        let mesh = Mesh::new(ringers, plan.ring_capacity);
        let metrics: Vec<_> = bells.iter().map(|_| Arc::new(ShardMetrics::default())).collect();
        let namespaces = Arc::new(NAMESPACES.clone());
        let parts = mesh.cores.into_iter().zip(&mesh.outside).zip(bells).enumerate();
        let cores = parts.map(|(core, (((post, mailbox), outside), bell))| {
            let options = ShardOptions {
                core: core as u16,
                limits: plan.limits.clone(),
                origin: OriginPolicy::Any,
                trusted_proxies: Arc::new([]),
                #[cfg(feature = "tls")]
                tls: None,
                census: census.clone(),
                namespaces: namespaces.clone(),
                listener: listener.clone(),
                metrics: metrics[core].clone(),
                seed: random.next_u64(),
            };
            let state = State::new(Watched::new(truth.clone()), options, post, outside.clone(), Tick(0));
            Core::new(state, mailbox, bell)
        });
        let cores = cores.collect();
        let clients = all.into_iter().map(Client::new).collect();
        Self {
            random,
            plan,
            now: Tick(0),
            cores,
            metrics,
            census,
            links: Vec::new(),
            clients,
            truth,
            faults: Faults::default(),
            is_calm: false,
            had_losses: false,
            listener,
            outside: mesh.outside,
            outside_sent: 0,
        }
    }

    pub(super) fn one_in(&mut self, times: u64) -> bool {
        self.random.below(times) == 0
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.random.below(from.len() as u64) as usize]
    }

    pub(super) fn sum(&self, of: impl Fn(&ShardMetrics) -> u64) -> u64 {
        self.metrics.iter().map(|metrics| of(metrics)).sum()
    }

    /// Whether anything between cores was lost so far.
    pub(super) fn has_losses(&self) -> bool {
        self.had_losses || self.sum(|metrics| metrics.mesh_refused.get()) > 0
    }

    /// The core takes a turn, if it is not kept from it and anything is ready.
    pub(super) fn turn(&mut self, core: usize) -> bool {
        let Self { cores, links, random, faults, is_calm, now, .. } = self;
        let core = &mut cores[core];
        if core.is_stalled {
            return false;
        }
        let has_turned = core.turn(*now, &mut Outdoors { links, random, faults, is_calm: *is_calm });
        core.check_rest(*now, links);
        has_turned
    }

    pub(super) fn connect(&mut self, client: usize) {
        let core = self.random.below(self.plan.core_count as u64) as usize;
        let mut link = Link::new(self.plan.link_bytes);
        if self.is_calm {
            link.widen();
        }
        let id = self.links.len();
        self.clients[client].connect(id, &mut link, self.now);
        self.links.push(link);
        self.cores[core].backlog.push_back(id);
    }

    pub(super) fn read(&mut self, client: usize, bytes_max: usize) {
        let has_losses = self.has_losses();
        let Self { clients, links, random, truth, faults, now, .. } = self;
        let mut ear = Ear { truth: &mut truth.borrow_mut(), faults, has_losses };
        clients[client].read(bytes_max, links, random, *now, &mut ear);
    }

    /// The namespaces are read again, and are the same. A core without room for that reads them another time.
    pub(super) fn configure(&mut self) {
        self.tell_all(|| Envelope::Configure(Arc::new(NAMESPACES.clone())));
    }

    /// The server ends.
    pub(super) fn drain(&mut self, within: Duration) {
        self.tell_all(|| Envelope::Drain(within));
    }

    fn tell_all(&mut self, envelope: impl Fn() -> Envelope) {
        let sent = self.outside.iter().filter(|outside| outside.send(envelope()).is_ok()).count();
        self.outside_sent += sent as u64;
    }

    /// A thread that is no core says something to a topic's home. Answers whether there was room.
    pub(super) fn tell_home(&mut self, topic: &Topic, message: ToHome) -> bool {
        let home = home_of(topic, self.plan.core_count);
        let message = Box::new(AboutTopics::ToHome(message));
        let is_sent = self.outside[home].send(Envelope::Topics { from: Party::Outside, message }).is_ok();
        self.outside_sent += u64::from(is_sent);
        is_sent
    }
}
