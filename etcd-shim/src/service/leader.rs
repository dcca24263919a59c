//! Calls that only want an answer from a member with a leader.

use super::Shared;
use crate::convert::status;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Sleep;
use tonic::Status;

/// Checks without a leader after which a stream ends. Reconnecting costs more than waiting, so it is not one.
const CHECKS_WITHOUT_LEADER_MAX: u32 = 3;

/// Whether the metadata says that the call needs a leader.
pub fn requires_leader(metadata: &http::HeaderMap) -> bool {
    metadata.get("hasleader").is_some_and(|value| value == "true")
}

/// Ends a stream that requires a leader once there has been none for three election timeouts.
pub struct LeaderWatch {
    shared: Arc<Shared>,
    check: Pin<Box<Sleep>>,
    missing: u32,
}

impl LeaderWatch {
    /// A watch for the stream with this metadata, if it wants one.
    pub fn for_stream(metadata: &http::HeaderMap, shared: &Arc<Shared>) -> Option<Self> {
        requires_leader(metadata).then(|| Self {
            check: Box::pin(tokio::time::sleep(interval(shared))),
            shared: Arc::clone(shared),
            missing: 0,
        })
    }

    /// Ready with the stream's end.
    pub fn poll_lost(&mut self, context: &mut Context<'_>) -> Poll<Status> {
        while self.check.as_mut().poll(context).is_ready() {
            let next = tokio::time::Instant::now() + interval(&self.shared);
            self.check.as_mut().reset(next);
            self.missing = if self.shared.store.leader().is_none() { self.missing + 1 } else { 0 };
            if self.missing >= CHECKS_WITHOUT_LEADER_MAX {
                return Poll::Ready(status::NO_LEADER.into());
            }
        }
        Poll::Pending
    }
}

fn interval(shared: &Shared) -> Duration {
    // A zero would make the loop above spin.
    shared.settings.election_timeout.max(Duration::from_millis(10))
}
