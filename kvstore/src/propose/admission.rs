//! The bound on what is in flight.

use crate::types::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Commands that are admitted and not yet answered. At 50,000 commands a second this is a third of a second of
/// work: a client that waits longer is better told to slow down. etcd stops at 5,000 unapplied entries.
pub const COMMANDS_IN_FLIGHT_MAX: usize = 16_384;

/// Bytes of commands that are admitted and not yet answered: forty of the largest requests.
pub const COMMAND_BYTES_IN_FLIGHT_MAX: usize = 64 << 20;

/// Counts what is in flight.
#[derive(Debug, Default)]
pub struct Admission {
    commands: AtomicUsize,
    bytes: AtomicUsize,
}

/// One admitted command's share; gives it back when dropped.
#[derive(Debug)]
pub struct Permit {
    admission: Arc<Admission>,
    bytes: usize,
}

impl Admission {
    /// Admits a command of so many bytes.
    ///
    /// # Errors
    /// [`Error::TooManyRequests`] when a bound is reached; nothing was queued.
    pub fn admit(self: &Arc<Self>, bytes: usize) -> Result<Permit> {
        let commands = self.commands.fetch_add(1, Ordering::Relaxed) + 1;
        let total_bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let permit = Permit { admission: Arc::clone(self), bytes };
        if commands > COMMANDS_IN_FLIGHT_MAX || total_bytes > COMMAND_BYTES_IN_FLIGHT_MAX {
            return Err(Error::TooManyRequests);
        }
        Ok(permit)
    }

    /// How many commands are in flight.
    pub fn in_flight(&self) -> usize {
        self.commands.load(Ordering::Relaxed)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.commands.fetch_sub(1, Ordering::Relaxed);
        self.admission.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_refuses_and_recovers() {
        let admission = Arc::new(Admission::default());
        let half = COMMAND_BYTES_IN_FLIGHT_MAX / 2;
        let first = admission.admit(half).unwrap();
        let second = admission.admit(half).unwrap();
        assert_eq!(admission.admit(1).unwrap_err(), Error::TooManyRequests);
        assert_eq!(admission.in_flight(), 2, "a refusal leaves nothing behind");
        drop(first);
        assert!(admission.admit(1).is_ok());
        drop(second);
        let all: Vec<_> = (0..COMMANDS_IN_FLIGHT_MAX).map(|_| admission.admit(0).unwrap()).collect();
        assert!(admission.admit(0).is_err());
        drop(all);
        assert_eq!(admission.in_flight(), 0);
    }
}
