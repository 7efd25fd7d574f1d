//! Topics over tiny rings: what is accepted arrives, once and in order, whatever was lost on the way.

use super::*;

const TOPICS: [&str; 4] = ["a", "b:c", "d", "e:f:g"];

impl World {
    fn sum(&self, of: impl Fn(&ShardMetrics) -> u64) -> u64 {
        (0..self.cores.len()).map(|core| of(self.metrics(core))).sum()
    }

    /// Time for everything that is tried again.
    fn settle_for(&mut self, seconds: u64) {
        let until = self.now.after(Duration::from_secs(seconds));
        while self.now < until {
            self.settle();
            self.now = self.now.after(Duration::from_millis(200));
        }
        self.settle();
    }
}

#[test]
fn every_subscriber_hears_what_was_accepted_in_one_order() {
    for seed in 0..100 {
        let mut world = World::new(3, 2, Limits::default(), 100, seed);
        let subscribers: Vec<_> = (0..9).map(|n| world.connect(n % 3, "/").expect("there is room")).collect();
        let publishers: Vec<_> = (0..3).map(|n| world.connect(n, "/").expect("there is room")).collect();
        world.settle();
        for &subscriber in &subscribers {
            TOPICS.iter().for_each(|topic| world.say(subscriber, &format!("subscribe {topic}")));
        }
        // Rings of two lose some of the questions; they are asked again.
        world.settle_for(3);
        assert_eq!(world.sum(|metrics| metrics.subscriptions.get()), 9 * 4, "seed {seed}");
        for n in 0..60 {
            for &publisher in &publishers {
                let topic = TOPICS[world.random.below(4) as usize];
                world.say(publisher, &format!("publish {topic} {topic}/{publisher}/{n}"));
            }
            if world.random.below(4) == 0 {
                world.settle();
            }
        }
        world.settle_for(3);
        let accepted = world.sum(|metrics| metrics.publications.get()) as usize;
        assert!(accepted > 0, "seed {seed}");
        let by_topic = |client: &Client, topic: &str| {
            let prefix = format!("{topic}/");
            client.received.iter().filter(|text| text.starts_with(&prefix)).cloned().collect::<Vec<_>>()
        };
        for topic in TOPICS {
            let order = by_topic(&world.clients[subscribers[0]], topic);
            for &subscriber in &subscribers {
                assert_eq!(by_topic(&world.clients[subscriber], topic), order, "seed {seed}");
            }
            for publisher in &publishers {
                let own = order.iter().filter(|text| text.split('/').nth(1) == Some(&publisher.to_string()));
                let numbers: Vec<u32> = own.map(|text| text.rsplit('/').next().unwrap().parse().unwrap()).collect();
                assert!(numbers.is_sorted_by(|a, b| a < b), "seed {seed}: {numbers:?}");
            }
        }
        assert_eq!(world.clients[subscribers[0]].received.len(), accepted, "seed {seed}");
    }
}

#[test]
fn an_index_that_is_used_again_hears_nothing_of_its_predecessor() {
    let mut world = World::new(2, 16, Limits::default(), 100, 5);
    let first = world.connect(0, "/").expect("there is room");
    let publisher = world.connect(1, "/").expect("there is room");
    world.settle();
    TOPICS.iter().for_each(|topic| world.say(first, &format!("subscribe {topic}")));
    world.settle();
    TOPICS.iter().for_each(|topic| world.say(publisher, &format!("publish {topic} one")));
    world.settle();
    assert_eq!(world.clients[first].received, ["one"; 4]);
    world.cores[0].0.handle_reset(world.clients[first].index);
    world.settle();
    assert!(world.clients[first].server_gone);
    let second = world.connect(0, "/").expect("there is room");
    assert_eq!(world.clients[second].index, world.clients[first].index);
    world.settle();
    TOPICS.iter().for_each(|topic| world.say(publisher, &format!("publish {topic} two")));
    world.settle();
    assert!(world.clients[second].received.is_empty());
    assert_eq!(world.sum(|metrics| metrics.subscriptions.get()), 0);
    assert_eq!(world.sum(|metrics| metrics.publications.get()), 8);
}

/// A core that has no subscriber is not woken.
#[test]
fn a_publication_that_nobody_hears_goes_to_its_home_and_no_further() {
    let mut world = World::new(3, 16, Limits::default(), 100, 6);
    let publisher = world.connect(0, "/").expect("there is room");
    world.settle();
    for n in 0..50 {
        world.say(publisher, &format!("publish topic:{n} x"));
    }
    world.settle();
    let at_others: u64 = (1..3).map(|core| world.metrics(core).publications.get()).sum();
    assert_eq!(world.sum(|metrics| metrics.publications.get()), 50);
    assert_eq!(world.sum(|metrics| metrics.mesh_sent.get()), at_others);
    assert!(at_others > 0 && world.metrics(0).publications.get() > 0);
}
