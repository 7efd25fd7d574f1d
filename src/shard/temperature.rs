//! Cold or hot: when a receive of a connection's own is posted. The whole rule stands here.
//!
//! What a posted receive saves, it saves by completing together with others; alone it costs more than a plain read. So a
//! connection becomes hot only on a shard whose turns bring many reads, and only if it speaks often itself, for a flip
//! costs as much as some messages gain, and little at a time: many bytes share their system call anyway, and for a posted
//! receive they are cut into small buffers. A connection becomes cold again when it falls silent or sends much at a time,
//! or when its shard has become quiet, however much it speaks itself.

use super::ring::BUFFER_BYTES;
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
    /// It would have fitted into the buffer of a hot connection.
    Small,
    /// It would have filled that.
    Large,
}

impl ColdRead {
    /// A read of `len` bytes.
    pub fn of(len: usize) -> Self {
        if len < HOT_BUFFER_BYTES { Self::Small } else { Self::Large }
    }
}

/// What a hot connection can receive at once. With buffers of their own that grew to 64 KiB, 200 hot connections × 16 KiB
/// cost 1.25 of uWebSockets, and 1.01 cold.
const HOT_BUFFER_BYTES: usize = BUFFER_BYTES;

/// When connections change their temperature.
#[derive(Clone, Copy, Debug)]
pub struct Thermostat {
    /// Reads in a row after which a connection becomes hot; 0: at the first read, small or large; `u8::MAX`: never.
    pub promote_streak: u8,
    /// Reads further apart than this do not belong to one streak.
    pub streak_gap: Span,
    /// Reads in a turn, on average, from which on connections become hot.
    pub busy_reads: u16,
    /// Reads in a turn, on average, below which all connections become cold.
    pub quiet_reads: u16,
}

/// What a shard has to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// Reads in a turn, averaged over the last 64 or so, in parts of [`Load::UNIT`].
    reads: u32,
}

impl Load {
    /// Turns after which an old turn has lost two thirds of its weight.
    const TURNS: u32 = 64;
    const UNIT: u32 = 1024;
    /// More reads in one turn count as these: one crowded turn alone does not make a shard busy.
    const READS_MAX: usize = 64;

    /// A turn has ended that brought `reads` reads.
    pub fn note_turn(&mut self, reads: usize) {
        let reads = reads.min(Self::READS_MAX) as u32 * Self::UNIT;
        self.reads = self.reads - self.reads / Self::TURNS + reads / Self::TURNS;
    }

    /// Whether being hot pays here.
    pub fn favours_hot(self, thermostat: &Thermostat) -> bool {
        self.reads >= u32::from(thermostat.busy_reads) * Self::UNIT
    }

    /// Whether being hot costs more than it saves here. Between the two, everybody stays as they are.
    pub fn favours_cold(self, thermostat: &Thermostat) -> bool {
        self.reads < u32::from(thermostat.quiet_reads) * Self::UNIT
    }
}

impl Heat {
    /// A cold read was done on a shard with `load`. Answers whether the connection should become hot.
    pub fn cold_read(&mut self, read: ColdRead, load: Load, thermostat: &Thermostat, now: Tick) -> bool {
        let always = thermostat.promote_streak == 0;
        if read == ColdRead::Large && !always {
            self.streak = 0;
            return false;
        }
        let in_time = now <= self.last_read.plus(thermostat.streak_gap);
        self.streak = if in_time { self.streak.saturating_add(1) } else { 1 };
        self.last_read = now;
        let speaks_often = thermostat.promote_streak != u8::MAX && self.streak >= thermostat.promote_streak;
        speaks_often && load.favours_hot(thermostat)
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

    const THERMOSTAT: Thermostat =
        Thermostat { promote_streak: 8, streak_gap: Span::ENDLESS, busy_reads: 6, quiet_reads: 3 };

    fn thermostat() -> Thermostat {
        Thermostat { streak_gap: Span::of(Duration::from_millis(50)), ..THERMOSTAT }
    }

    fn load_of(reads: usize) -> Load {
        let mut load = Load::default();
        (0..1000).for_each(|_| load.note_turn(reads));
        load
    }

    #[test]
    fn on_a_busy_shard_eight_reads_close_together_make_it_hot_and_sparse_ones_never() {
        let busy = load_of(20);
        let mut heat = Heat::default();
        let hot_at = (1..).find(|_| heat.cold_read(ColdRead::Small, busy, &thermostat(), Tick(100)));
        assert_eq!(hot_at, Some(8));
        let mut heat = Heat::default();
        let hot = (0..1000).any(|n| heat.cold_read(ColdRead::Small, busy, &thermostat(), Tick(100 + 10 * n)));
        assert!(!hot);
    }

    #[test]
    fn on_a_quiet_shard_nothing_becomes_hot_however_much_it_speaks() {
        let mut heat = Heat::default();
        let hot = (0..1000).any(|_| heat.cold_read(ColdRead::Small, load_of(1), &thermostat(), Tick(100)));
        assert!(!hot);
    }

    #[test]
    fn who_sends_much_at_a_time_stays_cold() {
        let busy = load_of(20);
        let mut heat = Heat::default();
        let large_now_and_then = |n| if n % 5 == 0 { ColdRead::Large } else { ColdRead::Small };
        let hot = (0..1000).any(|n| heat.cold_read(large_now_and_then(n), busy, &thermostat(), Tick(100)));
        assert!(!hot);
        assert_eq!(ColdRead::of(HOT_BUFFER_BYTES - 1), ColdRead::Small);
        assert_eq!(ColdRead::of(HOT_BUFFER_BYTES), ColdRead::Large);
    }

    #[test]
    fn after_a_demotion_the_count_starts_anew() {
        let busy = load_of(20);
        let mut heat = Heat::default();
        (0..7).for_each(|_| assert!(!heat.cold_read(ColdRead::Small, busy, &thermostat(), Tick(1))));
        heat.demoted();
        let hot_at = (1..).find(|_| heat.cold_read(ColdRead::Small, busy, &thermostat(), Tick(1)));
        assert_eq!(hot_at, Some(8));
    }

    #[test]
    fn a_load_between_two_limits_changes_nobody() {
        for (reads, hot, cold) in [(1, false, true), (2, false, true), (4, false, false), (8, true, false)] {
            let load = load_of(reads);
            assert_eq!((load.favours_hot(&THERMOSTAT), load.favours_cold(&THERMOSTAT)), (hot, cold), "{reads} reads");
        }
    }

    #[test]
    fn one_crowded_turn_does_not_make_a_shard_busy_and_a_short_calm_not_a_quiet_one() {
        let mut load = load_of(1);
        load.note_turn(100_000);
        assert!(!load.favours_hot(&THERMOSTAT));
        let mut load = load_of(300);
        (0..64).for_each(|_| load.note_turn(1));
        assert!(!load.favours_cold(&THERMOSTAT));
        (0..256).for_each(|_| load.note_turn(1));
        assert!(load.favours_cold(&THERMOSTAT));
    }
}
