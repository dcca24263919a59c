//! When dead versions are removed in the background, and who waits for it.

use super::core::Core;
use super::mailbox::RemovalWait;
use super::{Job, Metrics};
use crate::mvcc::Removal;
use crate::types::{Error, KeyspaceId, Result, Revision};
use std::collections::BTreeMap;

/// What is known of removals between turns.
#[derive(Default)]
pub(super) struct Removals {
    is_running: bool,
    pub(super) waits: Vec<RemovalWait>,
    /// Where the last one met what cannot be read.
    given_up: BTreeMap<KeyspaceId, GivenUp>,
}

struct GivenUp {
    /// The compaction floor when it did: until that moves on nobody tries again, since it would meet the same.
    floor: Revision,
    met: Error,
}

impl Core {
    /// Starts a removal that is due, and answers those who wait for one that has ended.
    pub(super) fn start_removal(&mut self) {
        let removals = &mut self.policy.removals;
        let is_wanted =
            |keyspace, floor| removals.given_up.get(&keyspace).is_none_or(|given_up| given_up.floor < floor);
        if !removals.is_running
            && let Some((keyspace, scan)) = self.machine.next_removal_of(is_wanted)
        {
            removals.is_running = true;
            self.jobs.push(Job::Removal { keyspace, scan });
        }
        let mut at = 0;
        while at < removals.waits.len() {
            let wait = &removals.waits[at];
            let given_up =
                removals.given_up.get(&wait.keyspace).filter(|given_up| given_up.floor >= wait.floor);
            let result = match given_up {
                _ if self.machine.removed_up_to(wait.keyspace) >= wait.floor => Ok(()),
                Some(given_up) => Err(given_up.met.clone()),
                None => {
                    at += 1;
                    continue;
                }
            };
            removals.waits.swap_remove(at).slot.complete(result, &mut self.wakes);
        }
    }

    /// Removes what a scan has found. One that met damage, or a disk that cannot be read, has found nothing: the dead stay
    /// where they are, and everything else goes on.
    pub(super) fn removal_done(&mut self, keyspace: KeyspaceId, result: Result<Removal>) -> Result<()> {
        self.policy.removals.is_running = false;
        match result {
            Ok(removal) => {
                let progress = self.machine.apply_removal(keyspace, removal)?;
                Metrics::add(&self.shared.metrics.versions_removed, progress.removed_versions as u64);
                self.policy.removals.given_up.remove(&keyspace);
                // The next command may be long in coming.
                self.publish_progress();
            }
            Err(met @ (Error::Damaged { .. } | Error::Unreadable(_))) => {
                tracing::error!(
                    error = %met,
                    %keyspace,
                    "old versions are not removed; that is tried again after the next compaction and at the next start"
                );
                Metrics::add(&self.shared.metrics.removals_failed, 1);
                let given_up = GivenUp { floor: self.machine.floor(keyspace), met };
                self.policy.removals.given_up.insert(keyspace, given_up);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// What the status says: how far the log is applied, and how much the state takes.
    pub(super) fn publish_progress(&self) {
        let (index, _) = self.machine.applied();
        self.shared.publish_progress(index, self.node.committed(), self.machine.live_bytes());
    }
}
