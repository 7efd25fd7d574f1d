//! Cold or hot: when a connection is worth a task and a buffer of its own. The whole rule stands here.
//!
//! A flip costs as much as five to eight messages gain by being hot, and at sparse traffic hot gains nothing.

use crate::connection::{Span, Tick};

/// How warm one connection is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heat {
    last_read: Tick,
    /// Reads in a row that came close upon each other.
    streak: u8,
}

/// What one cold read was like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColdRead {
    /// It ended with whole messages, and the buffer had room left.
    Whole,
    /// It ended within a message, or filled the buffer: more is there or bound to come.
    More,
}

/// When connections change their temperature.
#[derive(Clone, Copy, Debug)]
pub struct Thermostat {
    /// Reads in a row after which a connection becomes hot; 0: at the first read; `u8::MAX`: never for speed alone.
    pub promote_streak: u8,
    /// Reads further apart than this do not belong to one streak.
    pub streak_gap: Span,
    /// Whether [`ColdRead::More`] promotes at once.
    pub promote_on_more: bool,
}

impl Heat {
    /// A cold read was done. Answers whether the connection should become hot.
    pub fn cold_read(&mut self, read: ColdRead, thermostat: &Thermostat, now: Tick) -> bool {
        let in_time = now <= self.last_read.plus(thermostat.streak_gap);
        self.streak = if in_time { self.streak.saturating_add(1) } else { 1 };
        self.last_read = now;
        let for_speed = thermostat.promote_streak != u8::MAX && self.streak >= thermostat.promote_streak;
        for_speed || (read == ColdRead::More && thermostat.promote_on_more)
    }

    /// It has become cold again: the count starts anew, so that it does not flip back at its next message.
    pub fn demoted(&mut self) {
        self.streak = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn thermostat() -> Thermostat {
        Thermostat { promote_streak: 8, streak_gap: Span::of(Duration::from_millis(50)), promote_on_more: true }
    }

    #[test]
    fn eight_reads_close_together_make_it_hot_and_sparse_ones_never() {
        let mut heat = Heat::default();
        let hot_at = (1..).find(|_| heat.cold_read(ColdRead::Whole, &thermostat(), Tick(100)));
        assert_eq!(hot_at, Some(8));
        let mut heat = Heat::default();
        let hot = (0..1000).any(|n| heat.cold_read(ColdRead::Whole, &thermostat(), Tick(100 + 10 * n)));
        assert!(!hot);
    }

    #[test]
    fn a_cut_message_promotes_at_once_and_a_demotion_starts_anew() {
        let mut heat = Heat::default();
        assert!(heat.cold_read(ColdRead::More, &thermostat(), Tick(1)));
        heat.demoted();
        let hot_at = (1..).find(|_| heat.cold_read(ColdRead::Whole, &thermostat(), Tick(1)));
        assert_eq!(hot_at, Some(8));
    }
}
