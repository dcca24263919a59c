//! Why a long-lived stream ends although its client is still there.

use super::Shared;
use crate::convert::status;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Sleep;
use tonic::Status;

/// Checks without a leader after which a stream ends. Reconnecting costs more than waiting, so it is not one.
const CHECKS_WITHOUT_LEADER_MAX: u32 = 3;

/// Whether the metadata says that the call needs a leader.
pub fn requires_leader(metadata: &http::HeaderMap) -> bool {
    metadata.get("hasleader").is_some_and(|value| value == "true")
}

/// Tells all streams of the services that they must end.
pub struct StreamsEnd(watch::Sender<bool>);

impl StreamsEnd {
    pub fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Ends all streams, also those that are opened later.
    pub fn end(&self) {
        self.0.send_replace(true);
    }
}

/// One stream's ear for its end.
pub struct StreamEnd {
    stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
    leader: Option<LeaderWatch>,
}

impl StreamEnd {
    /// For the stream with this metadata.
    pub fn of(metadata: &http::HeaderMap, shared: &Arc<Shared>) -> Self {
        let mut end = shared.streams_end.0.subscribe();
        let stopped = Box::pin(async move {
            // An error means that the services are gone: the same.
            let _ = end.wait_for(|end| *end).await;
        });
        Self { stopped, leader: requires_leader(metadata).then(|| LeaderWatch::new(shared)) }
    }

    /// Ready with the status that the stream ends with.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Status> {
        if self.stopped.as_mut().poll(context).is_ready() {
            return Poll::Ready(status::STOPPED.into());
        }
        match &mut self.leader {
            Some(leader) => leader.poll_lost(context),
            None => Poll::Pending,
        }
    }
}

/// Notices that there has been no leader for three election timeouts.
struct LeaderWatch {
    shared: Arc<Shared>,
    check: Pin<Box<Sleep>>,
    missing: u32,
}

impl LeaderWatch {
    fn new(shared: &Arc<Shared>) -> Self {
        let check = Box::pin(tokio::time::sleep(interval(shared)));
        Self { check, shared: Arc::clone(shared), missing: 0 }
    }

    fn poll_lost(&mut self, context: &mut Context<'_>) -> Poll<Status> {
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
