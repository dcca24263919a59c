//! When requests are due, and a clock that is fine enough to keep to it.
//!
//! In open loop a request is due at a moment that was fixed before the round began, whatever became of the requests before
//! it; its latency counts from there. A server that stops for a second is thus shown with the second that everybody waited
//! who came meanwhile, and not only with the one request that happened to be under way (no coordinated omission).

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use tokio::net::unix::pipe::Receiver;

/// How long after it is planned a round begins: its clients are all there then.
const LEAD: Duration = Duration::from_millis(20);

/// The times of a round: a warm-up that is thrown away, and what counts.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub begins: Instant,
    pub counts_from: Instant,
    pub ends: Instant,
}

impl Window {
    pub fn new(warm_up_s: f64, seconds: f64) -> Self {
        let begins = Instant::now() + LEAD;
        let counts_from = begins + Duration::from_secs_f64(warm_up_s);
        Self { begins, counts_from, ends: counts_from + Duration::from_secs_f64(seconds) }
    }
}

/// When the requests of one client are due.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    window: Window,
    first: Instant,
    /// None: closed loop, the next one is due when the last one is answered.
    pause_s: Option<f64>,
}

impl Schedule {
    /// Each client has its share of the rate; together they are spread evenly.
    pub fn of_client(window: Window, rate: Option<f64>, clients: usize, number: usize) -> Self {
        let pause_s = rate.map(|rate| clients as f64 / rate);
        let first = Duration::from_secs_f64(pause_s.unwrap_or(0.0) * number as f64 / clients as f64);
        Self { window, first: window.begins + first, pause_s }
    }

    /// When the request with this number (from 0 on) is due; none after the end of the round. In closed loop there is one more
    /// if none has counted so far: what takes longer than a round is measured too.
    pub fn due(&self, number: u64, counted: usize, now: Instant) -> Option<Instant> {
        let due = match self.pause_s {
            // From the first one, not from the one before: nothing adds up.
            Some(pause_s) => self.first + Duration::from_secs_f64(pause_s * number as f64),
            None => now.max(self.first),
        };
        let one_more = self.pause_s.is_none() && counted == 0;
        (due < self.window.ends || one_more).then_some(due)
    }

    /// Whether a request that was due at this moment counts.
    pub fn counts(&self, due: Instant) -> bool {
        due >= self.window.counts_from
    }
}

/// A timer of the kernel: the runtime's own rounds up to milliseconds, which is more than most requests take.
/// For the runtime it is something that can be read from time to time, like a pipe.
pub struct Timer(Receiver);

impl Timer {
    pub fn new() -> io::Result<Self> {
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        Ok(Self(Receiver::from_owned_fd_unchecked(timer)?))
    }

    /// Returns at once if the moment has passed.
    pub async fn wait_until(&self, moment: Instant) -> io::Result<()> {
        let rest = moment.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            return Ok(());
        }
        let once = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec { tv_sec: rest.as_secs() as i64, tv_nsec: i64::from(rest.subsec_nanos()) },
        };
        timerfd_settime(self.0.as_fd(), TimerfdTimerFlags::empty(), &once)?;
        loop {
            self.0.readable().await?;
            match self.0.try_read(&mut [0; 8]) {
                // It was not ready after all; the runtime may say so once too often.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read.map(drop),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window() -> Window {
        Window::new(0.5, 2.0)
    }

    #[test]
    fn in_open_loop_all_clients_together_keep_the_rate_whatever_happens() {
        let window = window();
        let late = window.ends + Duration::from_secs(60);
        let mut due = Vec::new();
        for client in 0..4 {
            let schedule = Schedule::of_client(window, Some(100.0), 4, client);
            // Asked long after: it is late, and no request is left out.
            due.extend((0..).map_while(|number| schedule.due(number, 0, late)));
        }
        due.sort();
        assert_eq!(due.len(), 250);
        for (number, moment) in due.iter().enumerate() {
            let expected = window.begins + Duration::from_secs_f64(number as f64 / 100.0);
            let off = moment.max(&expected).duration_since(*moment.min(&expected));
            assert!(off < Duration::from_micros(1), "request {number} is {off:?} off");
        }
        let counted = Schedule::of_client(window, Some(100.0), 4, 0);
        assert_eq!(due.iter().filter(|due| counted.counts(**due)).count(), 200);
    }

    #[test]
    fn in_closed_loop_the_next_request_is_due_at_once() {
        let window = window();
        let schedule = Schedule::of_client(window, None, 64, 63);
        assert_eq!(schedule.due(0, 0, window.begins - Duration::from_millis(5)), Some(window.begins));
        let later = window.begins + Duration::from_millis(5);
        assert_eq!(schedule.due(1, 0, later), Some(later));
        assert_eq!(schedule.due(2, 1, window.ends), None);
        assert_eq!(schedule.due(2, 0, window.ends), Some(window.ends), "none has counted yet");
        assert!(!schedule.counts(later));
        assert!(schedule.counts(window.counts_from));
    }

    #[tokio::test]
    async fn the_timer_is_never_early_and_does_not_wait_for_the_past() {
        let timer = Timer::new().unwrap();
        let begun = Instant::now();
        timer.wait_until(begun).await.unwrap();
        for step in 1..20 {
            let moment = begun + Duration::from_micros(300 * step);
            timer.wait_until(moment).await.unwrap();
            assert!(Instant::now() >= moment);
        }
    }
}
