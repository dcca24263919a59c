//! The logical clock that lease deadlines are measured in.

use crate::types::ClockMillis;
use std::time::Instant;

/// Continues the state's clock from where it stopped: time in which no leader was at work does not count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogicalClock {
    base: ClockMillis,
    since: Instant,
}

impl LogicalClock {
    pub(crate) fn starting_at(base: ClockMillis) -> Self {
        Self { base, since: Instant::now() }
    }

    pub(crate) fn now(&self) -> ClockMillis {
        let elapsed_ms = self.since.elapsed().as_millis().min(u128::from(u64::MAX));
        self.base.plus_ms(elapsed_ms as u64)
    }
}
