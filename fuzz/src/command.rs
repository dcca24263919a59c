//! Bytes of a raft entry.

use super::state::State;
use bytes::Bytes;
use kvstore::command::{Batch, CodecError, Command, decode_batch, encode_batch, validate};

/// Applying hostile commands is bounded: a lease or key more or less does not matter after this many.
const COMMANDS_APPLIED_MAX: usize = 200;
/// etcd's default.
const OPERATIONS_MAX: usize = 128;

/// Decodes a batch, which must read back, and applies it without any of the checks that proposals pass.
pub fn command(data: &[u8]) {
    let batch = match decode_batch(Bytes::copy_from_slice(data)) {
        Ok(batch) => batch,
        Err(CodecError::Malformed { offset, .. }) => {
            assert!(offset <= data.len(), "{offset} of {}", data.len());
            return;
        }
        Err(CodecError::UnknownVersion { found }) => {
            assert_eq!(Some(&found), data.first());
            return;
        }
    };
    let bytes = encode_batch(&batch);
    assert!(bytes.len() <= data.len(), "the shortest form is written");
    assert_eq!(decode_batch(bytes).as_ref(), Ok(&batch), "what was encoded decodes to the same");
    for (_, command) in &batch.commands {
        if let Command::Transaction(transaction) = command {
            let _ = validate(transaction, OPERATIONS_MAX);
        }
    }
    if batch.commands.len() <= COMMANDS_APPLIED_MAX {
        apply(batch);
    }
}

fn apply(batch: Batch) {
    let mut state = State::with_history();
    state.apply_batch(batch);
    state.check_reload();
}
