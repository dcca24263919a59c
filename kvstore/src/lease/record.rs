//! One lease and its bytes.

use crate::types::{ClockMillis, InvalidRequest};

/// The longest time to live, in seconds (285 years): etcd's limit.
pub const MAX_TTL_S: i64 = 9_000_000_000;

/// What a renewal gives beyond the time to live, as a part of that and at most: 10 % and one second. While it lasts,
/// further renewals promise nothing that is not stored already, so that they need no log entry. A lease whose client
/// has gone ends that much later, never earlier.
const SLACK_PART: u64 = 10;
const SLACK_MAX_MS: u64 = 1_000;

/// What is stored of a lease. Its id is in the key, its attachments follow from the versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The time to live that was granted, in seconds.
    pub ttl_s: i64,
    /// When it ends unless it is renewed.
    pub deadline: ClockMillis,
    /// The log index of the command that granted or last renewed it.
    pub epoch: u64,
}

impl Lease {
    const ENCODED_BYTES: usize = 24;

    /// A lease of `ttl_s` seconds from `now` on.
    pub(super) fn starting(now: ClockMillis, ttl_s: i64, epoch: u64) -> Result<Self, InvalidRequest> {
        if ttl_s > MAX_TTL_S {
            return Err(InvalidRequest::LeaseTtlTooLarge);
        }
        let mut lease = Self { ttl_s, deadline: now, epoch };
        lease.deadline = now.plus_ms(lease.ttl_ms());
        Ok(lease)
    }

    /// The full time to live from `now` on, and the slack.
    pub(super) fn renew(&mut self, now: ClockMillis, epoch: u64) {
        let slack_ms = (self.ttl_ms() / SLACK_PART).min(SLACK_MAX_MS);
        self.deadline = now.plus_ms(self.ttl_ms()).plus_ms(slack_ms);
        self.epoch = epoch;
    }

    /// Whether the lease has its full time to live from `now` on as it is, without being renewed.
    pub fn covers(&self, now: ClockMillis) -> bool {
        self.deadline >= now.plus_ms(self.ttl_ms())
    }

    /// What is left at `now`: never more than was granted.
    pub(super) fn remaining_ms(&self, now: ClockMillis) -> u64 {
        self.deadline.since_ms(now).min(self.ttl_ms())
    }

    fn ttl_ms(&self) -> u64 {
        u64::try_from(self.ttl_s).unwrap_or(0).saturating_mul(1000)
    }

    /// The stored form: three numbers of eight bytes, big endian.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::ENCODED_BYTES);
        out.extend_from_slice(&self.ttl_s.to_be_bytes());
        out.extend_from_slice(&self.deadline.get().to_be_bytes());
        out.extend_from_slice(&self.epoch.to_be_bytes());
        out
    }

    /// Reads [`Lease::encode`] back. `None` when the bytes are not a lease.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::ENCODED_BYTES] = bytes.try_into().ok()?;
        let number = |at: usize| {
            let mut eight = [0; 8];
            eight.copy_from_slice(&bytes[at..at + 8]);
            u64::from_be_bytes(eight)
        };
        Some(Self { ttl_s: number(0) as i64, deadline: ClockMillis::new(number(8)), epoch: number(16) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_reads_back() {
        let lease = Lease { ttl_s: -3, deadline: ClockMillis::new(77), epoch: u64::MAX };
        assert_eq!(Lease::decode(&lease.encode()), Some(lease));
        assert_eq!(Lease::decode(b"short"), None);
    }

    #[test]
    fn a_renewal_covers_those_that_follow_soon_and_promises_no_more() {
        let mut lease = Lease::starting(ClockMillis::new(0), 4, 1).unwrap();
        assert!(lease.covers(ClockMillis::new(0)) && !lease.covers(ClockMillis::new(1)));
        lease.renew(ClockMillis::new(1000), 2);
        assert!(lease.covers(ClockMillis::new(1400)) && !lease.covers(ClockMillis::new(1401)));
        assert_eq!(lease.remaining_ms(ClockMillis::new(1000)), 4000, "no more than was granted");
        assert_eq!(lease.remaining_ms(ClockMillis::new(3000)), 2400);
        let mut long = Lease::starting(ClockMillis::new(0), 3600, 1).unwrap();
        long.renew(ClockMillis::new(0), 2);
        assert!(long.covers(ClockMillis::new(1000)) && !long.covers(ClockMillis::new(1001)));
    }

    #[test]
    fn a_time_to_live_has_a_limit_and_never_runs_backwards() {
        let now = ClockMillis::new(500);
        assert_eq!(Lease::starting(now, MAX_TTL_S + 1, 1), Err(InvalidRequest::LeaseTtlTooLarge));
        let longest = Lease::starting(ClockMillis::new(u64::MAX - 1), MAX_TTL_S, 1).unwrap();
        assert_eq!(longest.deadline, ClockMillis::new(u64::MAX), "saturates");
        assert_eq!(Lease::starting(now, i64::MIN, 1).unwrap().deadline, now);
    }
}
