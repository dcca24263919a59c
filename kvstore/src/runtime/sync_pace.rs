//! How long a write of the log and its sync take these days. Pure: durations in, a verdict out.

use std::time::Duration;

/// A mean above this: whoever waits for the sync should not be whoever serves the readers.
const SLOW_SYNC: Duration = Duration::from_millis(1);

/// A mean below this again: handing writes to another thread costs as much as it saves.
const FAST_SYNC: Duration = Duration::from_micros(500);

/// A sync counts one part in so many of the mean: a single sync that waited behind a flush says little, a handful of
/// them, or one that took ten times as long, says that more will follow.
const WEIGHT: u32 = 8;

/// The verdict, which does not swing with each sync.
#[derive(Debug, Default)]
pub(super) struct SyncPace {
    mean: Duration,
    is_slow: bool,
}

impl SyncPace {
    pub(super) fn observe(&mut self, took: Duration) {
        self.mean = self.mean * (WEIGHT - 1) / WEIGHT + took / WEIGHT;
        self.is_slow = if self.is_slow { self.mean > FAST_SYNC } else { self.mean > SLOW_SYNC };
    }

    pub(super) fn is_slow(&self) -> bool {
        self.is_slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(pace: &mut SyncPace, syncs: u32, took_us: u64) -> bool {
        (0..syncs).for_each(|_| pace.observe(Duration::from_micros(took_us)));
        pace.is_slow()
    }

    #[test]
    fn one_slow_sync_is_none_and_several_are() {
        let mut pace = SyncPace::default();
        assert!(!after(&mut pace, 100, 150));
        assert!(!after(&mut pace, 1, 4_000));
        assert!(!after(&mut pace, 20, 150));
        assert!(after(&mut pace, 4, 4_000));
        assert!(after(&mut pace, 4, 150), "four fast ones are not enough");
        assert!(!after(&mut pace, 30, 150));
        assert!(after(&mut pace, 1, 60_000), "one that took that long is");
    }

    #[test]
    fn between_the_bounds_all_stays_as_it_is() {
        let mut pace = SyncPace::default();
        assert!(!after(&mut pace, 1_000, 750));
        assert!(after(&mut pace, 50, 2_000));
        assert!(after(&mut pace, 1_000, 750));
    }
}
