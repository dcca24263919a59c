//! What the host of a virtual machine took of its processors, so that it is not put down to the server.
//!
//! Linux counts the time in which a processor had work and the host ran somebody else's instead (`steal` in /proc/stat). A
//! request under way then waits for the host, whatever the server does; it does not count, before, during and after an
//! attack alike. On a machine of one's own the number is 0 and everything counts.

use std::fs;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two looks at the number. It counts in hundredths of a second.
const LOOK: Duration = Duration::from_millis(50);

/// Times in which the host took something: apart from one another, in order.
#[derive(Clone, Debug, Default)]
pub struct Taken(Vec<Range<Instant>>);

impl Taken {
    /// The host took something from `from` to `to`; no earlier than what was added before.
    fn add(&mut self, from: Instant, to: Instant) {
        match self.0.last_mut() {
            Some(last) if last.end >= from => last.end = last.end.max(to),
            _ => self.0.push(from..to),
        }
    }

    /// Whether it took anything from `from` to `to`.
    pub fn touches(&self, from: Instant, to: Instant) -> bool {
        let next = self.0.partition_point(|taken| taken.end < from);
        self.0.get(next).is_some_and(|taken| taken.start <= to)
    }

    /// How much of the time from `from` to `to` was left alone.
    pub fn quiet(&self, from: Instant, to: Instant) -> Duration {
        let within =
            |taken: &Range<Instant>| taken.end.min(to).saturating_duration_since(taken.start.max(from));
        to.saturating_duration_since(from).saturating_sub(self.0.iter().map(within).sum())
    }
}

/// Watches the host.
pub struct Host {
    taken: Arc<Mutex<Taken>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    pub fn watch() -> Host {
        let (taken, stop): (Arc<Mutex<Taken>>, Arc<AtomicBool>) = Default::default();
        let (its_taken, its_stop) = (taken.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let (mut before, mut looks) = (stolen_ticks(), [Instant::now(); 2]);
            while !its_stop.load(Ordering::Relaxed) {
                std::thread::sleep(LOOK);
                let (now, ticks) = (Instant::now(), stolen_ticks());
                if ticks > before {
                    // What is told now was begun to be taken a look before, and who waited for it has to catch up.
                    its_taken.lock().unwrap_or_else(PoisonError::into_inner).add(looks[0], now + LOOK);
                }
                (before, looks) = (ticks, [looks[1], now]);
            }
        });
        Host { taken, stop, thread: Some(thread) }
    }

    /// What it took so far.
    pub fn taken(&self) -> Taken {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sleeps until the host has left `quiet` in peace, or until `most` is over.
    pub fn sleep(&self, quiet: Duration, most: Duration) {
        let begun = Instant::now();
        loop {
            let now = Instant::now();
            if now - begun >= most || self.taken().quiet(begun, now) >= quiet {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It holds nothing that could panic.
            let _ = thread.join();
        }
    }
}

/// Hundredths of a second that the host took of all processors since the start; 0 where nobody counts them.
fn stolen_ticks() -> u64 {
    parse(&fs::read_to_string("/proc/stat").unwrap_or_default()).unwrap_or(0)
}

/// The eighth number of the first line: proc_stat(5).
fn parse(stat: &str) -> Option<u64> {
    stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().nth(7)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steal_is_the_eighth_number() {
        assert_eq!(parse("cpu  165617 5 24467 294590 5030 0 4343 13795 0 0\ncpu0 1 2\n"), Some(13_795));
        assert_eq!(parse("cpu  1 2 3 4 5 6 7\n"), None, "kernels before 2.6.11");
        assert_eq!(parse(""), None);
    }

    #[test]
    fn what_was_taken_is_neither_counted_twice_nor_forgotten() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut taken = Taken::default();
        assert!(!taken.touches(at(0), at(1_000)));
        taken.add(at(100), at(200));
        taken.add(at(150), at(250));
        taken.add(at(400), at(500));
        let touches = [(0, 99), (0, 100), (120, 130), (250, 260), (251, 399), (300, 450), (501, 600)];
        assert_eq!(
            touches.map(|(from, to)| taken.touches(at(from), at(to))),
            [false, true, true, true, false, true, false]
        );
        assert_eq!(taken.quiet(at(0), at(1_000)), Duration::from_millis(750));
        assert_eq!(taken.quiet(at(200), at(450)), Duration::from_millis(150));
        assert_eq!(taken.quiet(at(110), at(120)), Duration::ZERO);
    }
}
