//! Newtypes for every counter and identifier.

use std::fmt;

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident($int:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name($int);

        impl $name {
            /// Wraps a raw number.
            pub const fn new(raw: $int) -> Self {
                Self(raw)
            }
            /// The raw number.
            pub const fn get(self) -> $int {
                self.0
            }
            /// The number after this one.
            ///
            /// # Panics
            /// When the counter is exhausted, which no real history reaches.
            pub const fn next(self) -> Self {
                match self.0.checked_add(1) {
                    Some(raw) => Self(raw),
                    None => panic!("counter exhausted"),
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter! {
    /// A keyspace's logical time: one number for each transaction that changed something.
    ///
    /// 0 means "none"; a fresh keyspace is at 1; the first write makes 2 (etcd's rule).
    Revision(i64)
}
counter! {
    /// The position of a change inside its revision, from 0.
    SubRevision(u32)
}
/// Tells a raft log from all others: a checksum of the random number that its segments and frames carry, which is to stay
/// unknown to clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogMark(pub u32);

counter! {
    /// A raft term.
    Term(u64)
}
counter! {
    /// A position in the raft log; the first entry has index 1, 0 means "none".
    LogIndex(u64)
}
counter! {
    /// A member of the raft group. Never 0.
    NodeId(u64)
}
counter! {
    /// A lease. 0 means "no lease".
    LeaseId(i64)
}
counter! {
    /// A keyspace: an independent key-value world with its own revisions inside one raft group.
    KeyspaceId(u32)
}
counter! {
    /// Who sent a command, as far as fairness goes: a connection, say. 0 is everybody who did not say.
    CallerId(u64)
}
counter! {
    /// Names one proposal of one process life: the waiter's key.
    RequestId(u64)
}
counter! {
    /// Milliseconds of the replicated logical clock that lease deadlines are measured in.
    /// It only moves while a leader is at work and never runs backwards.
    ClockMillis(u64)
}

impl Revision {
    /// No revision.
    pub const NONE: Self = Self(0);
    /// The revision of a keyspace that nothing was ever written to.
    pub const FIRST: Self = Self(1);

    /// The revision before this one, or [`Revision::NONE`].
    pub const fn previous(self) -> Self {
        Self(if self.0 > 0 { self.0 - 1 } else { 0 })
    }
}

impl LeaseId {
    /// No lease attached.
    pub const NONE: Self = Self(0);
}

impl CallerId {
    /// Nobody in particular.
    pub const NONE: Self = Self(0);
}

impl LogIndex {
    /// Before the first entry.
    pub const NONE: Self = Self(0);
}

impl KeyspaceId {
    /// The keyspace that `etcd-shim` serves.
    pub const DEFAULT: Self = Self(1);
    /// The keyspace in which `k8sd-lite` keeps its own state; invisible to etcd clients.
    pub const K8SD: Self = Self(2);
}

impl ClockMillis {
    /// The clock `ms` milliseconds later; saturates.
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
    /// Milliseconds from `earlier` to this; 0 when `earlier` is later.
    pub const fn since_ms(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Names one version of one key: the revision that wrote it and the position inside that revision.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct VersionId {
    /// The revision that wrote this version.
    pub revision: Revision,
    /// Its position in that revision.
    pub sub: SubRevision,
}

impl VersionId {
    /// No version.
    pub const NONE: Self = Self { revision: Revision::NONE, sub: SubRevision(0) };

    /// Names the version written at `revision`, position `sub`.
    pub const fn new(revision: Revision, sub: SubRevision) -> Self {
        Self { revision, sub }
    }
    /// Whether this names no version at all.
    pub const fn is_none(self) -> bool {
        self.revision.0 == 0
    }
}
