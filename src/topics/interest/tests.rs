//! Against sets that are searched.

use std::collections::{BTreeMap, BTreeSet};

use super::super::namespace::{Namespace, Namespaces};
use super::super::tests::{random::Random, seeds};
use super::*;

fn subject(text: &str) -> Subject {
    Subject::parse(text).expect(text)
}

fn topic(text: &str) -> Topic {
    Topic::parse(text).expect(text)
}

#[test]
fn who_comes_first_and_who_leaves_last() {
    let mut interest = Interest::default();
    let (ann, bob) = (SubscriberId(3), SubscriberId(700));
    let index = interest.subscribe(ann, &subject("a"), 0, || "first").expect("new");
    assert_eq!(interest.subscribe(ann, &subject("a"), 0, || "again"), None);
    assert_eq!(interest.subscribe(bob, &subject("a"), 0, || "second"), Some(index));
    assert_eq!((interest.value(index), interest.subscription_count()), (Some(&"first"), 2));
    assert!(interest.recipients(&topic("a"), 0).is_empty(), "both wait");
    assert!(interest.is_heard(&topic("a"), 0) && !interest.is_heard(&topic("b"), 0));
    assert!(interest.join(bob, index) && !interest.join(bob, index));
    assert_eq!(interest.recipients(&topic("a"), 0), [bob]);
    assert_eq!(interest.unsubscribe(bob, "a"), Some(Ended { subject: subject("a"), last: None }));
    assert_eq!(interest.unsubscribe(bob, "a"), None);
    assert_eq!(interest.unsubscribe(ann, "a"), Some(Ended { subject: subject("a"), last: Some("first") }));
    assert_eq!((interest.subject_count(), interest.find("a"), interest.value(index)), (0, None, None));
}

#[test]
fn one_that_hears_a_topic_by_several_names_hears_it_once() {
    let mut interest = Interest::default();
    for (subscriber, text) in [(1, "a:b"), (1, "a:*"), (1, "**"), (2, "a:*"), (3, "a:b"), (4, "*:c")] {
        let index = interest.subscribe(SubscriberId(subscriber), &subject(text), 0, || ()).expect("new");
        interest.join(SubscriberId(subscriber), index);
    }
    assert_eq!(interest.recipients(&topic("a:b"), 0), [1, 2, 3].map(SubscriberId));
    assert_eq!(interest.recipients(&topic("a:b"), 1), [1, 3].map(SubscriberId), "patterns of another namespace");
    assert!(interest.is_heard(&topic("x"), 0) && !interest.is_heard(&topic("x"), 1));
}

#[test]
fn patterns_follow_when_namespaces_change() {
    let mut interest = Interest::default();
    let index = interest.subscribe(SubscriberId(1), &subject("a:*"), 0, || ()).expect("new");
    interest.join(SubscriberId(1), index);
    let named = Namespace { name: "a".to_owned(), ..Namespace::default() };
    let namespaces = Namespaces::new(Namespace::default(), [named]).expect("good");
    interest.rescope(|subject| match subject {
        Subject::Pattern(pattern) => namespaces.of_pattern(pattern).name.len(),
        Subject::Topic(topic) => namespaces.of(topic).name.len(),
    });
    assert!(interest.recipients(&topic("a:b"), 0).is_empty());
    assert_eq!(interest.recipients(&topic("a:b"), 1), [SubscriberId(1)]);
}

#[test]
fn against_a_model() {
    seeds(|seed| {
        let mut random = Random::new(seed);
        let mut interest = Interest::default();
        let mut model: BTreeMap<u32, BTreeMap<&str, bool>> = BTreeMap::new();
        for _ in 0..300 {
            let subscriber = random.below(12) as u32;
            let text = *random.pick(&["a", "a:b", "a:c", "b:b", "b", "a:*", "*:b", "**", "b:**", "*"]);
            let id = SubscriberId(subscriber);
            let has_others = |model: &BTreeMap<u32, BTreeMap<&str, bool>>| {
                model.values().any(|subjects| subjects.contains_key(text))
            };
            match random.below(10) {
                0..5 => {
                    let was_first = !has_others(&model);
                    let known = model.entry(subscriber).or_default().contains_key(text);
                    let mut made = false;
                    let index = interest.subscribe(id, &subject(text), 0, || {
                        made = true;
                        text.to_owned()
                    });
                    assert_eq!((index.is_none(), made), (known, was_first));
                    let joins = random.below(4) > 0;
                    if let Some(index) = index {
                        model.entry(subscriber).or_default().insert(text, joins);
                        assert_eq!(interest.value(index), Some(&text.to_owned()));
                        assert!(!joins || interest.join(id, index));
                    }
                }
                5..8 => {
                    let known = model.entry(subscriber).or_default().remove(text).is_some();
                    let ended = interest.unsubscribe(id, text);
                    assert_eq!(ended.is_some(), known);
                    let last = ended.and_then(|ended| ended.last);
                    assert_eq!(last.is_some(), known && !has_others(&model));
                }
                8 => {
                    let mut ended = BTreeSet::new();
                    interest.remove(id, |one| {
                        ended.insert(one.subject.to_string());
                    });
                    let known = model.remove(&subscriber).unwrap_or_default();
                    assert!(ended.iter().eq(known.keys()));
                }
                _ => {
                    if let Some(index) = interest.find(text) {
                        let joined = model.entry(subscriber).or_default().get_mut(text).filter(|joined| !**joined);
                        assert_eq!(interest.join(id, index), joined.is_some());
                        joined.into_iter().for_each(|joined| *joined = true);
                    }
                }
            }
            check(&mut interest, &model);
        }
    });
}

fn check(interest: &mut Interest<String>, model: &BTreeMap<u32, BTreeMap<&str, bool>>) {
    assert_eq!(interest.subscription_count(), model.values().map(BTreeMap::len).sum::<usize>());
    for name in ["a", "a:b", "b:b", "c:d", "a:b:c"] {
        let topic = topic(name);
        let hears = |text: &str| match subject(text) {
            Subject::Topic(other) => other == topic,
            Subject::Pattern(pattern) => pattern.matches(&topic),
        };
        let mut got = interest.recipients(&topic, 0).to_vec();
        got.sort_unstable();
        let joined = |subjects: &BTreeMap<&str, bool>| subjects.iter().any(|(text, joined)| *joined && hears(text));
        let want = model.iter().filter(|(_, subjects)| joined(subjects)).map(|(&id, _)| SubscriberId(id));
        assert!(got.iter().copied().eq(want), "{name}: {got:?}");
        let is_heard = model.values().flat_map(BTreeMap::keys).any(|text| hears(text));
        assert_eq!(interest.is_heard(&topic, 0), is_heard);
    }
    for (&id, subjects) in model {
        let mut got: Vec<_> = interest.subjects_of(SubscriberId(id)).map(|subject| subject.to_string()).collect();
        got.sort();
        assert!(got.iter().eq(subjects.keys()));
        assert!(subjects.keys().all(|text| interest.is_subscribed(SubscriberId(id), text)));
    }
}
