//! How long large commands wait after one of them, while others write small ones. Pure: moments in, a verdict out.
//!
//! A command of 1.5 MiB occupies the log, the disk and this thread for two milliseconds, and sixty-four clients with such
//! commands always have the next one ready: whoever writes a hundred bytes would wait for one of them nearly each time.

use std::time::{Duration, Instant};

/// After a turn with large commands others have the store for so many times as long as it took: large ones get a quarter
/// of its time, some hundred megabytes a second.
const REST_TURNS: u32 = 3;

/// No rest is longer: one write that met a slow disk says little about the next.
pub(super) const LARGE_REST_MAX: Duration = Duration::from_millis(20);

/// Others write if they have written within this time. Beyond it the large ones have everything for themselves.
pub(super) const OTHERS_PATIENCE: Duration = Duration::from_millis(100);

/// When a large command may go next.
#[derive(Debug, Default)]
pub(super) struct LargeRest {
    until: Option<Instant>,
    small_came: Option<Instant>,
}

impl LargeRest {
    /// Somebody has written something small.
    pub(super) fn small_came(&mut self, now: Instant) {
        self.small_came = Some(now);
    }

    /// A turn with large commands has ended.
    pub(super) fn large_done(&mut self, now: Instant, took: Duration) {
        self.until = Some(now + (took * REST_TURNS).min(LARGE_REST_MAX));
    }

    /// Until when large commands have to wait; `None` if they may go now.
    pub(super) fn lasts_until(&self, now: Instant) -> Option<Instant> {
        let others_write = self.small_came.is_some_and(|came| now < came + OTHERS_PATIENCE);
        self.until.filter(|until| others_write && now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn large_ones_rest_in_proportion_while_others_write() {
        let start = Instant::now();
        let mut rest = LargeRest::default();
        assert_eq!(rest.lasts_until(start), None);
        rest.large_done(start, 2 * MS);
        assert_eq!(rest.lasts_until(start), None, "nobody else is there");
        rest.small_came(start + MS);
        assert_eq!(rest.lasts_until(start + MS), Some(start + 6 * MS));
        assert_eq!(rest.lasts_until(start + 6 * MS), None);
        rest.large_done(start + 10 * MS, 500 * MS);
        assert_eq!(rest.lasts_until(start + 11 * MS), Some(start + 10 * MS + LARGE_REST_MAX));
        rest.large_done(start + 101 * MS, MS);
        assert_eq!(rest.lasts_until(start + 101 * MS), None, "they have gone");
    }
}
