//! Ending connections in order: no new ones, then the requests at hand, then everything.

use std::time::Duration;
use tokio::sync::watch;

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Connections are accepted.
    Running,
    /// No new connections and no new requests on the old ones.
    Draining,
    /// What is still open is dropped.
    Dropping,
}

/// Tells every listener and connection how far the end has come.
#[derive(Debug)]
pub struct Shutdown {
    phase: watch::Sender<Phase>,
}

/// What listeners and connections listen to.
#[derive(Clone, Debug)]
pub struct Signal {
    phase: watch::Receiver<Phase>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Shutdown { phase: watch::Sender::new(Phase::Running) }
    }
}

impl Shutdown {
    /// For one more listener.
    pub fn signal(&self) -> Signal {
        Signal { phase: self.phase.subscribe() }
    }

    /// Stops accepting connections and requests. What is being answered goes on.
    pub fn drain(&self) {
        self.phase.send_replace(Phase::Draining);
    }

    /// Waits until the last listener and connection is gone, then (or after `patience`) drops the rest.
    pub async fn finish(&self, patience: Duration) {
        self.drain();
        let gone = tokio::time::timeout(patience, self.phase.closed()).await;
        self.phase.send_replace(Phase::Dropping);
        if gone.is_err() {
            // Dropping takes one turn of the runtime, unless a task hangs in a system call.
            let _ = tokio::time::timeout(patience, self.phase.closed()).await;
        }
    }
}

impl Signal {
    /// Resolves when draining begins.
    pub async fn draining(&mut self) {
        self.reached(Phase::Draining).await;
    }

    /// Resolves when everything that is left must go.
    pub async fn dropping(&mut self) {
        self.reached(Phase::Dropping).await;
    }

    async fn reached(&mut self, wanted: Phase) {
        // A sender that is gone can say nothing more: the process is at its end.
        let _ = self.phase.wait_for(|phase| *phase >= wanted).await;
    }
}
