//! What a client's wish for a lease becomes before it is replicated: whoever applies a command draws no numbers and raises
//! no times.

use super::config::LEASE_TTL_MAX_S;
use crate::command::Command;
use crate::types::{InvalidRequest, LeaseId};

/// The command that grants a lease for `ttl_s` seconds, at least `ttl_min_s`. With [`LeaseId::NONE`] its id is made of
/// `random_number`: positive, and most likely free; the state machine has the last word.
///
/// # Errors
/// [`InvalidRequest::LeaseTtlTooLarge`].
pub fn lease_grant(
    id: LeaseId,
    ttl_s: i64,
    ttl_min_s: i64,
    random_number: impl FnOnce() -> u64,
) -> Result<Command, InvalidRequest> {
    if ttl_s > LEASE_TTL_MAX_S {
        return Err(InvalidRequest::LeaseTtlTooLarge);
    }
    let chosen = if id == LeaseId::NONE { LeaseId::new(((random_number() >> 1) as i64).max(1)) } else { id };
    Ok(Command::LeaseGrant { id: chosen, ttl_s: ttl_s.max(ttl_min_s) })
}
