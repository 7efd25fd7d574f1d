//! Latencies in histograms of bounded size, and what is said of them.

use hdrhistogram::Histogram;
use serde::ser::{Serialize, SerializeMap, Serializer};

/// Latencies in nanoseconds, to three digits, up to an hour.
pub(crate) type Latencies = Histogram<u64>;

/// An empty histogram.
pub(crate) fn empty() -> Latencies {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("the bounds are constants that fit")
}

/// What is said of one kind of latency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Begins every name in JSON: `response`, `service`.
    pub(crate) name: &'static str,
    /// How many were counted.
    pub(crate) count: u64,
    /// Mean.
    pub(crate) mean_ns: u64,
    /// In the order of [`PERCENTILES`]; `None` where fewer than [`SAMPLES_BEYOND_MIN`] samples lie beyond.
    pub(crate) percentiles_ns: [Option<u64>; PERCENTILES.len()],
    /// The highest.
    pub(crate) max_ns: u64,
}

impl Summary {
    /// Of what was recorded.
    pub(crate) fn of(name: &'static str, latencies: &Latencies) -> Self {
        let count = latencies.len();
        let percentiles_ns = PERCENTILES.map(|(_, _, quantile)| {
            let beyond = count as f64 * (1.0 - quantile);
            // The tolerance makes 50,000 samples enough for p99.99 however the product is rounded.
            (beyond + 1e-6 >= SAMPLES_BEYOND_MIN).then(|| latencies.value_at_quantile(quantile))
        });
        Self { name, count, mean_ns: latencies.mean().round() as u64, percentiles_ns, max_ns: latencies.max() }
    }

    /// The percentile with this key of [`PERCENTILES`].
    pub(crate) fn get(&self, key: &str) -> Option<u64> {
        let at = PERCENTILES.iter().position(|&(known, _, _)| known == key)?;
        self.percentiles_ns[at]
    }
}

impl Serialize for Summary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let name = self.name;
        map.serialize_entry(&format!("{name}_count"), &self.count)?;
        map.serialize_entry(&format!("{name}_mean_ns"), &self.mean_ns)?;
        for ((key, _, _), value_ns) in PERCENTILES.iter().zip(self.percentiles_ns) {
            map.serialize_entry(&format!("{name}_{key}_ns"), &value_ns)?;
        }
        map.serialize_entry(&format!("{name}_max_ns"), &self.max_ns)?;
        map.end()
    }
}

/// Key, title and quantile of the percentiles that are reported.
pub(crate) const PERCENTILES: [(&str, &str, f64); 5] = [
    ("p50", "p50", 0.5),
    ("p90", "p90", 0.9),
    ("p99", "p99", 0.99),
    ("p99_9", "p99.9", 0.999),
    ("p99_99", "p99.99", 0.9999),
];

/// A percentile with fewer samples beyond it says more about chance than about the server.
pub(crate) const SAMPLES_BEYOND_MIN: f64 = 5.0;

/// An hour. What takes longer counts as an hour.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Arrival, Ledger, Sent};
    use crate::schedule::Schedule;

    /// A server that takes `work_ns` per message, one at a time, and freezes from `freeze.0` until `freeze.1`;
    /// a generator that keeps `inflight` messages under way and sends the next when an answer is there.
    fn simulate(rate: f64, span_ns: u64, work_ns: u64, freeze: (u64, u64)) -> (Latencies, Latencies) {
        let (mut response, mut service) = (empty(), empty());
        let mut schedule = Schedule::new(0, rate, 0, 1);
        let mut ledger = Ledger::default();
        let mut free_ns = 0;
        while schedule.next_ns() < span_ns {
            let intended_ns = schedule.next_ns();
            schedule.take_due(intended_ns).expect("its moment is now");
            // One under way at most: it goes out when the one before it has been answered.
            let sent_ns = intended_ns.max(free_ns);
            let number = ledger.send(Sent { intended_ns, sent_ns });
            let mut done_ns = sent_ns + work_ns;
            if done_ns > freeze.0 && sent_ns < freeze.1 {
                done_ns = freeze.1 + work_ns;
            }
            free_ns = done_ns;
            let Arrival::Answer { sent, .. } = ledger.arrive(number) else { panic!("{number} was sent") };
            response.saturating_record(done_ns - sent.intended_ns);
            service.saturating_record(done_ns - sent.sent_ns);
        }
        (response, service)
    }

    #[test]
    fn a_freeze_of_a_second_is_in_the_corrected_latency_and_hardly_in_the_uncorrected() {
        const SECOND: u64 = 1_000_000_000;
        let (response, service) = simulate(1000.0, 10 * SECOND, 100_000, (5 * SECOND, 6 * SECOND));
        assert_eq!((response.len(), service.len()), (10_000, 10_000));
        // A tenth of all messages were meant for the frozen second and waited half of it on average.
        assert!(response.value_at_quantile(0.99) > 800_000_000, "{}", response.value_at_quantile(0.99));
        assert!(response.value_at_quantile(0.999) > 950_000_000);
        // One message waited; whoever counts from the actual sending sees that one only.
        assert!(service.value_at_quantile(0.999) < 200_000, "{}", service.value_at_quantile(0.999));
        assert!(service.max() > 990_000_000);
    }

    #[test]
    fn sent_on_time_both_latencies_agree() {
        let (response, service) = simulate(1000.0, 1_000_000_000, 100_000, (u64::MAX - 1, u64::MAX));
        assert_eq!(response, service);
        let hundred_us = 100_000..=100_100;
        assert!(hundred_us.contains(&response.max()), "{}", response.max());
    }

    #[test]
    fn a_percentile_needs_samples_beyond_it() {
        let mut latencies = empty();
        for n in 1..=49_999 {
            latencies.saturating_record(n);
        }
        assert_eq!(Summary::of("x", &latencies).get("p99_99"), None);
        latencies.saturating_record(50_000);
        assert!(Summary::of("x", &latencies).get("p99_99").is_some());
        assert_eq!(Summary::of("x", &empty()).percentiles_ns, [None; PERCENTILES.len()]);
    }

    #[test]
    fn names_in_json_carry_their_unit() {
        let mut latencies = empty();
        latencies.saturating_record_n(1000, 100_000);
        let json = serde_json::to_value(Summary::of("response", &latencies)).unwrap();
        assert_eq!(json["response_p99_9_ns"], 1000);
        assert_eq!(json["response_count"], 100_000);
    }
}
