//! A lease that was acknowledged is there until its time has passed or somebody revokes it, and never again after that;
//! crashes change nothing about it.
//!
//! Its time runs from the moment at which it was granted or last renewed, which is not before the client asked for it. So
//! the moment of asking plus the time to live is a bound that holds for certain: no end may be seen before it.

use crate::history::{Answer, Call, Moment, Request, Witness};
use crate::linearizable::Known;
use crate::model::Past;
use std::collections::BTreeMap;
use std::time::Duration;

pub struct Leases(BTreeMap<i64, Lease>);

/// What the calls say of one lease.
#[derive(Default)]
struct Lease {
    granted: bool,
    /// Grants and renewals that were acknowledged: invoked, returned, whole time to live.
    renewals: Vec<(Moment, Moment, Duration)>,
    /// Revocations, acknowledged or not.
    revocations: Vec<Revocation>,
    /// Questions that found it alive: invoked.
    alive: Vec<Moment>,
}

struct Revocation {
    invoked: Moment,
    /// When it was acknowledged, and at which revision.
    done: Option<(Moment, i64)>,
}

impl Lease {
    /// The lease cannot have run out before; with `before`, as far as was acknowledged by then.
    fn runs_until(&self, before: Moment) -> Moment {
        let known = self.renewals.iter().filter(|(_, returned, _)| *returned < before);
        known.map(|(invoked, _, ttl)| *invoked + *ttl).max().unwrap_or_default()
    }

    /// The earliest moment at which it may have ended.
    fn may_end(&self) -> Moment {
        let revoked = self.revocations.iter().map(|revocation| revocation.invoked).min();
        self.runs_until(Moment::MAX).min(revoked.unwrap_or(Moment::MAX))
    }
}

impl Leases {
    pub fn of(calls: &[Call]) -> Leases {
        let mut leases = BTreeMap::<i64, Lease>::new();
        for call in calls {
            let answered = call.answered();
            match (&call.request, answered) {
                (
                    Request::Grant { lease, .. } | Request::Renew { lease },
                    Some((_, Answer::Lease { ttl_s })),
                ) => {
                    let of = leases.entry(*lease).or_default();
                    of.granted |= matches!(call.request, Request::Grant { .. });
                    let ttl = Duration::from_secs(ttl_s.unsigned_abs());
                    of.renewals.push((call.invoked, call.returned, ttl));
                    of.alive.push(call.invoked);
                }
                (Request::Revoke { lease }, _) => {
                    let done = answered.map(|(revision, _)| (call.returned, revision));
                    let revocation = Revocation { invoked: call.invoked, done };
                    leases.entry(*lease).or_default().revocations.push(revocation);
                }
                (Request::TimeToLive { lease }, Some(_)) => {
                    leases.entry(*lease).or_default().alive.push(call.invoked);
                }
                _ => {}
            }
        }
        Leases(leases)
    }

    /// Whether the lease may be gone at that moment.
    pub fn may_be_gone(&self, lease: i64, at: Moment) -> bool {
        // One whose grant was never acknowledged may never have been.
        self.0.get(&lease).is_none_or(|lease| !lease.granted || lease.may_end() <= at)
    }

    /// Checks an answer that says that the lease is alive.
    pub fn check_alive(&self, lease: i64, call: &Call, answer: &Answer) -> Result<(), String> {
        let Some(of) = self.0.get(&lease) else { return Ok(()) };
        let gone = |revocation: &Revocation| revocation.done.is_some_and(|(done, _)| done < call.invoked);
        if of.revocations.iter().any(gone) {
            return Err("alive after it was revoked".to_string());
        }
        let (Request::TimeToLive { .. }, Answer::Lease { ttl_s }) = (&call.request, answer) else {
            return Ok(());
        };
        // Whole seconds, rounded down.
        let left = Duration::from_secs(ttl_s.unsigned_abs() + 1);
        let due = of.runs_until(call.invoked).saturating_sub(call.returned);
        if due > left { Err(format!("has {due:?} left by what was acknowledged")) } else { Ok(()) }
    }

    /// Life after the end, of leases that ended at a revision for certain and of those that were revoked.
    pub fn faults(
        &self,
        past: &Past,
        witness: &Witness,
        known: &Known,
        ends: &BTreeMap<i64, i64>,
    ) -> Vec<String> {
        let mut faults = Vec::new();
        for event in &witness.events {
            let lease = event.record.lease;
            if ends.get(&lease).is_some_and(|end| *end < event.revision()) {
                faults.push(format!("lease {lease} is in use after its end: {event:?}"));
            }
        }
        for (id, lease) in &self.0 {
            if let Some(end) = ends.get(id)
                && let Some(alive) = lease.alive.iter().find(|invoked| known.before(**invoked) >= *end)
            {
                faults.push(format!("lease {id} ended at revision {end} and is alive at {alive:?}"));
            }
            for (_, revision) in lease.revocations.iter().filter_map(|revocation| revocation.done) {
                let keys = past.keys_of(*id, revision);
                if !keys.is_empty() {
                    faults.push(format!(
                        "lease {id} is revoked at revision {revision}, its keys {keys:?} stay"
                    ));
                }
                let late = witness.events[witness.place_of(revision + 1)..].iter();
                faults.extend(
                    late.filter(|event| event.record.lease == *id)
                        .map(|event| format!("lease {id} was revoked at revision {revision}: {event:?}")),
                );
            }
        }
        faults
    }
}
