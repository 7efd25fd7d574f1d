//! When a core gives memory back: after a wave, and never in the middle of load.
//!
//! A wave is many connections that finished their handshake, fell silent or left within a short time, or any large
//! messages. What they used lies in pools then, and in pages that the allocator keeps. Giving it back costs milliseconds
//! and has to be paid again when the next wave comes, so it is done once a wave has passed, when the core has little else
//! to do.

use std::time::Duration;

use crate::connection::Tick;

/// Watches for the end of a wave.
#[derive(Default)]
pub(super) struct Calm {
    /// Connections that gave something up since memory was last given back.
    given_up: u64,
    check: Option<Check>,
}

/// What to compare with at the next look.
#[derive(Clone, Copy)]
struct Check {
    at: Tick,
    given_up: u64,
    messages: u64,
}

impl Calm {
    /// A connection gave something up: its handshake ended, it became cold, or it left. `messages`: in and out so far.
    pub(super) fn note_given_up(&mut self, messages: u64, now: Tick) {
        self.given_up += 1;
        if self.given_up >= WAVE_MIN && self.check.is_none() {
            self.look_again(messages, now);
        }
    }

    /// The buffer of a large message was kept for the next one: that alone is a wave, for as long as they come.
    pub(super) fn note_kept(&mut self, messages: u64, now: Tick) {
        self.given_up += WAVE_MIN;
        if self.check.is_none() {
            self.look_again(messages, now);
        }
    }

    /// When [`Calm::has_come`] is worth calling; `None`: there was no wave.
    pub(super) fn next_at(&self) -> Option<Tick> {
        self.check.map(|check| check.at)
    }

    /// Whether a wave has passed: for a span of [`LOOK_INTERVAL`] little was given up and little was said.
    pub(super) fn has_come(&mut self, messages: u64, now: Tick) -> bool {
        let Some(check) = self.check.filter(|check| now >= check.at) else { return false };
        let is_over = self.given_up - check.given_up < WAVE_MIN;
        if is_over && messages - check.messages <= CALM_MESSAGES_MAX {
            *self = Self::default();
            return true;
        }
        self.look_again(messages, now);
        false
    }

    fn look_again(&mut self, messages: u64, now: Tick) {
        self.check = Some(Check { at: now.after(LOOK_INTERVAL), given_up: self.given_up, messages });
    }
}

/// Connections that make a wave.
const WAVE_MIN: u64 = 16;
/// From one look to the next, so memory is given back at most this often.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Messages between two looks that are still calm: some per cent of what a core can do.
const CALM_MESSAGES_MAX: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_that_leave_are_no_wave() {
        let mut calm = Calm::default();
        (1..WAVE_MIN).for_each(|n| calm.note_given_up(0, Tick(n as u32)));
        assert_eq!(calm.next_at(), None);
        calm.note_given_up(0, Tick(100));
        assert_eq!(calm.next_at(), Some(Tick(100).after(LOOK_INTERVAL)));
    }

    #[test]
    fn calm_comes_once_after_the_last_of_a_wave() {
        let mut calm = Calm::default();
        let mut came = Vec::new();
        let wave_end = 10 * LOOK_INTERVAL.as_millis() as u32 / 32;
        for tick in 0..4 * wave_end {
            if tick < wave_end {
                calm.note_given_up(0, Tick(tick));
            }
            if calm.has_come(0, Tick(tick)) {
                came.push(tick);
            }
        }
        let [only] = came[..] else { panic!("{came:?}") };
        let latest = Tick(wave_end).after(LOOK_INTERVAL).after(LOOK_INTERVAL).0;
        assert!((wave_end..=latest).contains(&only), "at {only}, the wave ended at {wave_end}");
    }

    #[test]
    fn it_waits_while_there_is_load() {
        let mut calm = Calm::default();
        (0..WAVE_MIN).for_each(|_| calm.note_given_up(0, Tick(0)));
        let mut messages = 0;
        for _ in 0..100 {
            let now = calm.next_at().expect("the wave is not forgotten");
            messages += CALM_MESSAGES_MAX + 1;
            assert!(!calm.has_come(messages, now));
        }
        let now = calm.next_at().expect("the wave is not forgotten");
        assert!(calm.has_come(messages + CALM_MESSAGES_MAX, now));
        assert_eq!(calm.next_at(), None);
    }

    #[test]
    fn one_large_message_is_a_wave_and_so_is_each_that_follows() {
        let mut calm = Calm::default();
        calm.note_kept(1, Tick(5));
        for n in 2..100 {
            let now = calm.next_at().expect("a buffer is kept");
            calm.note_kept(n, now);
            assert!(!calm.has_come(n, now), "they still come");
        }
        let now = calm.next_at().expect("a buffer is kept");
        assert!(calm.has_come(99, now));
        assert_eq!(calm.next_at(), None);
    }

    #[test]
    fn it_is_given_back_at_most_once_per_interval() {
        let mut calm = Calm::default();
        let mut last = None::<u32>;
        for tick in 0..10_000 {
            // Just too few within an interval to be a wave that goes on.
            if tick % 3 == 0 {
                calm.note_given_up(0, Tick(tick));
            }
            if calm.has_come(0, Tick(tick)) {
                assert!(last.is_none_or(|last| Tick(tick) >= Tick(last).after(LOOK_INTERVAL)), "{last:?} {tick}");
                last = Some(tick);
            }
        }
        assert!(last.is_some());
    }
}
