//! Many patterns, asked with one name: the time it takes depends on the name, not on how many there are.

use std::collections::HashMap;

use super::name::{SEPARATOR, Topic};
use super::pattern::{Part, Pattern};

/// Values by pattern.
#[derive(Debug)]
pub(super) struct PatternTree<V> {
    root: Node<V>,
    len: usize,
}

/// What may follow after the segments that led here.
#[derive(Debug)]
struct Node<V> {
    literals: HashMap<Box<str>, Node<V>>,
    any: Option<Box<Node<V>>>,
    /// The value of the pattern that ends here.
    here: Option<V>,
    /// The value of the pattern that ends with `**` here.
    rest: Option<V>,
}

impl<V> Default for PatternTree<V> {
    fn default() -> Self {
        Self { root: Node::default(), len: 0 }
    }
}

impl<V> Default for Node<V> {
    fn default() -> Self {
        Self { literals: HashMap::new(), any: None, here: None, rest: None }
    }
}

impl<V> PatternTree<V> {
    /// Whether there is no pattern at all, as is most often the case.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of this pattern, made if there is none.
    pub(super) fn get_or_insert_with(&mut self, pattern: &Pattern, value: impl FnOnce() -> V) -> &mut V {
        let slot = self.root.slot(pattern);
        if slot.is_none() {
            self.len += 1;
        }
        slot.get_or_insert_with(value)
    }

    /// Takes a pattern out.
    pub(super) fn remove(&mut self, pattern: &Pattern) -> Option<V> {
        let removed = self.root.remove(&mut pattern.parts());
        self.len -= usize::from(removed.is_some());
        removed
    }

    /// Tells the value of each pattern that matches the topic's name.
    pub(super) fn for_each_match(&self, topic: &Topic, mut tell: impl FnMut(&V)) {
        if !self.is_empty() {
            self.root.find(Some(topic.as_str()), &mut tell);
        }
    }

    /// Shows every value, in no particular order; one for which `keep` answers `false` is taken out.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&mut V) -> bool) {
        self.len = self.root.retain(&mut keep);
    }
}

impl<V> Node<V> {
    fn slot(&mut self, pattern: &Pattern) -> &mut Option<V> {
        let mut node = self;
        for part in pattern.parts() {
            node = match part {
                Part::Literal(literal) => node.literals.entry(literal.into()).or_default(),
                Part::Any => node.any.get_or_insert_default(),
                Part::Rest => return &mut node.rest,
            };
        }
        &mut node.here
    }

    fn remove<'a>(&mut self, parts: &mut impl Iterator<Item = Part<'a>>) -> Option<V> {
        match parts.next() {
            None => self.here.take(),
            Some(Part::Rest) => self.rest.take(),
            Some(Part::Any) => {
                let removed = self.any.as_mut()?.remove(parts);
                self.any.take_if(|node| node.is_empty());
                removed
            }
            Some(Part::Literal(literal)) => {
                let node = self.literals.get_mut(literal)?;
                let removed = node.remove(parts);
                if node.is_empty() {
                    self.literals.remove(literal);
                }
                removed
            }
        }
    }

    /// `name` is what is left of it: `None` behind its last segment.
    fn find(&self, name: Option<&str>, tell: &mut impl FnMut(&V)) {
        let Some(name) = name else {
            self.here.iter().for_each(tell);
            return;
        };
        self.rest.iter().for_each(&mut *tell);
        let (segment, left) = match name.split_once(SEPARATOR) {
            Some((segment, left)) => (segment, Some(left)),
            None => (name, None),
        };
        if let Some(node) = &self.any {
            node.find(left, tell);
        }
        if let Some(node) = self.literals.get(segment) {
            node.find(left, tell);
        }
    }

    /// Answers how many are left.
    fn retain(&mut self, keep: &mut impl FnMut(&mut V) -> bool) -> usize {
        self.here.take_if(|value| !keep(value));
        self.rest.take_if(|value| !keep(value));
        let mut len = usize::from(self.here.is_some()) + usize::from(self.rest.is_some());
        len += self.any.as_mut().map_or(0, |node| node.retain(keep));
        self.any.take_if(|node| node.is_empty());
        self.literals.retain(|_, node| {
            len += node.retain(keep);
            !node.is_empty()
        });
        len
    }

    fn is_empty(&self) -> bool {
        self.literals.is_empty() && self.any.is_none() && self.here.is_none() && self.rest.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::random::Random;
    use super::*;

    #[test]
    fn against_a_list_that_is_searched() {
        let mut random = Random::new(0x7ee);
        let mut tree = PatternTree::default();
        let mut list: Vec<Pattern> = Vec::new();
        for _ in 0..5000 {
            let text = name(&mut random, &["a", "b", "*", "**"]);
            if let Ok(pattern) = Pattern::parse(&text) {
                let known = list.iter().position(|other| *other == pattern);
                match (known, random.below(2)) {
                    (Some(index), 0) => {
                        assert_eq!(tree.remove(&pattern), Some(pattern));
                        list.swap_remove(index);
                    }
                    (None, 0) => assert_eq!(tree.remove(&pattern), None),
                    (known, _) => {
                        tree.get_or_insert_with(&pattern, || pattern.clone());
                        if known.is_none() {
                            list.push(pattern);
                        }
                    }
                }
            }
            let topic = Topic::parse(&name(&mut random, &["a", "b", "c"])).expect("it is good");
            let mut want: Vec<_> = list.iter().filter(|pattern| pattern.matches(&topic)).cloned().collect();
            let mut got = Vec::new();
            tree.for_each_match(&topic, |pattern| got.push(pattern.clone()));
            want.sort();
            got.sort();
            assert_eq!(got, want, "{topic}");
            assert_eq!(tree.is_empty(), list.is_empty());
        }
        let half: Vec<_> = list.iter().filter(|pattern| pattern.as_str().len() > 3).cloned().collect();
        tree.retain(|pattern| pattern.as_str().len() > 3);
        assert_eq!(tree.len, half.len());
        for pattern in half {
            assert!(tree.remove(&pattern).is_some());
        }
        assert!(tree.is_empty() && tree.root.is_empty(), "nothing is left behind");
    }

    fn name(random: &mut Random, words: &[&str]) -> String {
        let segments: Vec<_> =
            (0..1 + random.below(4)).map(|_| words[random.below(words.len() as u64) as usize]).collect();
        segments.join(":")
    }
}
