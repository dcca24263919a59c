//! What alarms forbid.

use crate::command::{Alarm, AlarmKind, Command, Operation, Transaction};
use crate::types::{Error, Result};
use std::collections::BTreeSet;

/// Whether `command` may be applied while `alarms` are set, by etcd's rules.
///
/// Out of space: whatever may store something is refused, whichever branch it would take; everything that
/// frees something passes. Corrupt: nothing changes any more, but leases may be kept alive, so that an
/// operator who clears the alarm does not find them gone.
pub(super) fn admit(alarms: &BTreeSet<Alarm>, command: &Command) -> Result<()> {
    if alarms.is_empty() {
        return Ok(());
    }
    let is_set = |kind| alarms.iter().any(|alarm| alarm.kind == kind);
    if is_set(AlarmKind::Corrupt) && changes_data(command) {
        return Err(Error::CorruptAlarm);
    }
    if is_set(AlarmKind::NoSpace) && stores_something(command) {
        return Err(Error::NoSpace("the alarm of a full store is set".into()));
    }
    Ok(())
}

fn changes_data(command: &Command) -> bool {
    match command {
        Command::Transaction(_)
        | Command::Compact { .. }
        | Command::LeaseGrant { .. }
        | Command::LeaseRevoke { .. }
        | Command::LeaseExpire { .. } => true,
        Command::LeaseRenew { .. } | Command::AlarmActivate(_) | Command::AlarmDeactivate(_) => false,
    }
}

fn stores_something(command: &Command) -> bool {
    match command {
        Command::Transaction(transaction) => may_put(transaction),
        Command::LeaseGrant { .. } => true,
        Command::Compact { .. }
        | Command::LeaseRevoke { .. }
        | Command::LeaseRenew { .. }
        | Command::LeaseExpire { .. }
        | Command::AlarmActivate(_)
        | Command::AlarmDeactivate(_) => false,
    }
}

fn may_put(transaction: &Transaction) -> bool {
    transaction.success.iter().chain(&transaction.failure).any(|operation| match operation {
        Operation::Put(_) => true,
        Operation::Transaction(nested) => may_put(nested),
        Operation::Range(_) | Operation::Delete(_) => false,
    })
}
