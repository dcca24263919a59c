//! The logical clock that lease deadlines are measured in.
//!
//! It goes on from where the state's clock stopped, and only while the core is at work: time in which no leader was there
//! does not count, and neither does time in which it was and could do nothing, because the disk did not answer, or because
//! the whole process stood still. Otherwise the first thing it did afterwards would be to end leases whose renewals wait
//! behind the same disk, or whose grant it has just acknowledged.

use crate::types::ClockMillis;
use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// The clock goes on for so long without a sign of the core, at least: ordinary syncs and busy processors are no standstill.
const STEP_MIN: Duration = Duration::from_millis(500);
/// And for so many ticks: an idle core gives no other sign.
const STEP_TICKS: u32 = 2;

/// See the module's text. Never goes back.
#[derive(Debug)]
pub(crate) struct LogicalClock {
    last: Mutex<Sign>,
    step: Duration,
}

/// When the core was last seen at work.
#[derive(Clone, Copy, Debug)]
struct Sign {
    clock: Duration,
    at: Instant,
}

impl Sign {
    fn clock_at(&self, now: Instant, step: Duration) -> Duration {
        self.clock.saturating_add(now.saturating_duration_since(self.at).min(step))
    }
}

impl LogicalClock {
    /// `tick` is the longest time between two signs of an idle core.
    pub(crate) fn starting_at(clock: ClockMillis, tick: Duration) -> Self {
        let last = Sign { clock: Duration::from_millis(clock.get()), at: Instant::now() };
        Self { last: Mutex::new(last), step: STEP_MIN.max(tick.saturating_mul(STEP_TICKS)) }
    }

    pub(crate) fn now(&self) -> ClockMillis {
        let last = *self.last.lock();
        millis(last.clock_at(Instant::now(), self.step))
    }

    /// The core begins a turn. In the middle of one there is no sign: what a turn carries into the log and what it answers
    /// are not further apart than one step, however often the disk stands still in between.
    pub(crate) fn sign(&self) {
        let now = Instant::now();
        let mut last = self.last.lock();
        *last = Sign { clock: last.clock_at(now, self.step), at: now };
    }

    /// What `deadline <= overdue()` says is over for everybody: a client counts from the answer, and between the moment
    /// that a command carries and its answer the disk may have stood still, which is one step of this clock.
    pub(crate) fn overdue(&self) -> ClockMillis {
        ClockMillis::new(self.now().since_ms(millis(self.step)))
    }
}

fn millis(clock: Duration) -> ClockMillis {
    ClockMillis::new(u64::try_from(clock.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stands_still_when_the_core_does() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let sign = Sign { clock: Duration::from_secs(7), at: start };
        let step = Duration::from_millis(500);
        assert_eq!(sign.clock_at(start, step), Duration::from_secs(7));
        assert_eq!(sign.clock_at(after(499), step), Duration::from_millis(7_499));
        assert_eq!(sign.clock_at(after(10_000), step), Duration::from_millis(7_500));
    }

    #[test]
    fn it_goes_on_through_signs_and_keeps_what_is_less_than_a_millisecond() {
        let clock = LogicalClock::starting_at(ClockMillis::new(70), Duration::from_secs(60));
        let begun = Instant::now();
        let mut before = clock.now();
        while begun.elapsed() < Duration::from_millis(50) {
            clock.sign();
            assert!(clock.now() >= before);
            before = clock.now();
        }
        assert!(before >= ClockMillis::new(70 + 49), "{before:?}");
        assert_eq!(clock.overdue(), ClockMillis::new(0), "nothing is overdue yet");
    }

    #[test]
    fn a_clock_near_its_end_does_not_overflow() {
        let clock = LogicalClock::starting_at(ClockMillis::new(u64::MAX), Duration::MAX);
        clock.sign();
        assert_eq!(clock.now(), ClockMillis::new(u64::MAX));
    }
}
