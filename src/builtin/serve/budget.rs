//! How fast one client may do things.

use std::time::Duration;

use super::access::Failure;
use crate::handler::Tick;
use crate::rate::{Rate, TokenBucket};
use crate::topics::Namespace;
use crate::wire::ErrorCode;

/// What is left to a client. Empty until something is limited, and bounded by the number of namespaces.
#[derive(Debug, Default)]
pub(super) struct Budget {
    messages: Option<TokenBucket>,
    /// By the name of the namespace.
    publications: Vec<(Box<str>, TokenBucket)>,
    /// How many messages in a row were too many.
    excess_count: u32,
}

/// Something is too much now.
#[derive(Debug)]
pub(super) struct Exceeded {
    rate: Rate,
    retry: Duration,
    what: &'static str,
}

impl Budget {
    /// A message has come.
    pub(super) fn message(&mut self, rate: Option<Rate>, now: Tick) -> Result<(), Exceeded> {
        let Some(rate) = rate else { return Ok(()) };
        let bucket = self.messages.get_or_insert_with(|| TokenBucket::full(&rate, now));
        let outcome = take(bucket, rate, now, "messages");
        self.excess_count = if outcome.is_err() { self.excess_count + 1 } else { 0 };
        outcome
    }

    /// Whether it goes on and on: time to close the connection.
    pub(super) fn is_overdrawn(&self) -> bool {
        self.excess_count >= EXCESS_MAX
    }

    /// A message is to be published.
    pub(super) fn publication(&mut self, namespace: &Namespace, now: Tick) -> Result<(), Exceeded> {
        let Some(rate) = namespace.publish_rate else { return Ok(()) };
        let name = namespace.name.as_str();
        let place = self.publications.iter().position(|(other, _)| **other == *name).unwrap_or_else(|| {
            self.publications.push((name.into(), TokenBucket::full(&rate, now)));
            self.publications.len() - 1
        });
        take(&mut self.publications[place].1, rate, now, "publications")
    }
}

impl From<Exceeded> for Failure {
    fn from(Exceeded { rate, retry, what }: Exceeded) -> Self {
        let count = rate.count();
        // As in "more than 20 messages per second".
        let per = rate.to_string().replacen(&count.to_string(), "", 1);
        Self {
            retry_ms: Some(u32::try_from(retry.as_millis()).unwrap_or(u32::MAX)),
            ..Self::new(ErrorCode::RateLimited, format!("more than {count} {what}{per}"))
        }
    }
}

fn take(bucket: &mut TokenBucket, rate: Rate, now: Tick, what: &'static str) -> Result<(), Exceeded> {
    bucket.take(&rate, now).map_err(|at| {
        let retry = at.since_start().saturating_sub(now.since_start());
        Exceeded { rate, retry, what }
    })
}

/// Messages that were too many, one after the other, until the connection is closed.
const EXCESS_MAX: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(name: &str, per_second: u32) -> Namespace {
        Namespace { name: name.into(), publish_rate: Rate::per_second(per_second).ok(), ..Namespace::default() }
    }

    #[test]
    fn each_namespace_has_a_budget_of_its_own() {
        let mut budget = Budget::default();
        let (a, b) = (namespace("a", 2), namespace("b", 1));
        for (namespace, is_ok) in [(&a, true), (&a, true), (&b, true), (&a, false), (&b, false)] {
            assert_eq!(budget.publication(namespace, Tick(0)).is_ok(), is_ok, "{}", namespace.name);
        }
        assert!(budget.publication(&Namespace::default(), Tick(0)).is_ok(), "no limit");
        // Half a second is sixteen ticks.
        assert!(budget.publication(&a, Tick(16)).is_ok());
        assert!(budget.publication(&b, Tick(16)).is_err());
        assert_eq!(budget.publications.len(), 2);
    }

    #[test]
    fn what_is_too_much_says_when_to_try_again() {
        let rate = Rate::new(2, Duration::from_secs(60), 1).ok();
        let mut budget = Budget::default();
        assert!(budget.message(rate, Tick(0)).is_ok());
        let failure = Failure::from(budget.message(rate, Tick(0)).expect_err("too much"));
        assert_eq!((&*failure.message, failure.retry_ms), ("more than 2 messages per minute", Some(30_016)));
        let ticks = 30_016 / 32;
        assert!(budget.message(rate, Tick(ticks - 1)).is_err());
        assert!(budget.message(rate, Tick(ticks)).is_ok());
    }

    #[test]
    fn who_goes_on_and_on_is_overdrawn_and_who_pauses_is_not() {
        let rate = Rate::per_second(1).ok();
        let mut budget = Budget::default();
        for second in 0..3 {
            let now = Tick::at(Duration::from_secs(second * 2));
            assert!(budget.message(rate, now).is_ok());
            for _ in 0..99 {
                assert!(budget.message(rate, now).is_err() && !budget.is_overdrawn());
            }
        }
        let now = Tick::at(Duration::from_secs(4));
        assert!(budget.message(rate, now).is_err() && budget.is_overdrawn());
    }
}
