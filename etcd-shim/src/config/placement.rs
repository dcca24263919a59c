//! The choice of the core's thread.

/// Where consensus, log and state machine run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CorePlacement {
    /// On a thread of their own: a slow disk holds up writes only.
    OwnThread,
    /// On the thread that serves clients: two hand-overs less for each write, but reads wait for syncs too.
    RpcThread,
    /// On the thread that serves clients; large writes, and those to a slow disk, are made and synced beside.
    Adaptive,
}

impl CorePlacement {
    /// The names that the flag takes, the default first.
    pub(super) const NAMES: &[&str] = &["adaptive", "own-thread", "rpc-thread"];

    /// What one of [`CorePlacement::NAMES`] stands for.
    pub(super) fn named(name: &str) -> Self {
        match name {
            "own-thread" => Self::OwnThread,
            "rpc-thread" => Self::RpcThread,
            _ => Self::Adaptive,
        }
    }
}
