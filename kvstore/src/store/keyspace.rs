//! One keyspace: write, read, watch, lease.

use super::lease_grant::lease_grant;
use super::open::{Inner, KeyspaceParts, random_number};
use crate::command::{
    Command, DeleteRange, Operation, OperationOutcome, Outcome, Put, PutLease, PutValue, RangeQuery,
    RangeResult, Transaction, TransactionOutcome, validate,
};
use crate::lease::LeaseInfo;
use crate::mvcc::{HashKv, Reader};
use crate::propose::ticket;
use crate::runtime::RemovalWait;
use crate::runtime::core::unexpected;
use crate::types::{
    CallerId, Error, InvalidRequest, KeyRange, KeyValue, KeyspaceId, LeaseId, Result, Revision,
};
use crate::watch::Session;
use bytes::Bytes;
use std::sync::Arc;

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// Sees everything acknowledged anywhere before the read began.
    Linearizable,
    /// Sees this member's present state, which may lag behind the group.
    Serializable,
}

/// Answer to a read.
#[derive(Clone, Debug, PartialEq)]
pub struct RangeReply {
    /// What was found.
    pub result: RangeResult,
    /// The keyspace's revision at the time of the read (also for a read in the past).
    pub revision: Revision,
}

/// Answer to a simple put or delete.
#[derive(Clone, Debug, PartialEq)]
pub struct WriteReply {
    /// The keyspace's revision after it.
    pub revision: Revision,
    /// How many keys existed before and were overwritten or deleted.
    pub previous: Vec<KeyValue>,
}

/// Answer to a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseGranted {
    /// The lease.
    pub id: LeaseId,
    /// Its time to live in seconds, raised to the floor.
    pub ttl_s: i64,
    /// The keyspace's revision.
    pub revision: Revision,
}

/// A handle to one keyspace of a store.
#[derive(Clone)]
pub struct Keyspace {
    inner: Arc<Inner>,
    id: KeyspaceId,
    caller: CallerId,
}

impl Keyspace {
    pub(super) fn new(inner: Arc<Inner>, id: KeyspaceId) -> Self {
        Self { inner, id, caller: CallerId::NONE }
    }

    /// The same for one of several callers. While more commands wait than the store takes at once, callers take turns:
    /// one with a single command does not wait for all of another's thousands.
    pub fn of_caller(&self, caller: CallerId) -> Self {
        Self { caller, ..self.clone() }
    }

    fn parts(&self) -> &KeyspaceParts {
        &self.inner.keyspaces[&self.id]
    }

    /// The newest published revision.
    pub fn revision(&self) -> Revision {
        self.parts().reader.revision()
    }

    /// Reads of the published state without any promise of freshness; pages through large ranges.
    pub fn reader(&self) -> &Reader {
        &self.parts().reader
    }

    /// Sets a key; gives the new revision.
    ///
    /// # Errors
    /// As [`Keyspace::transact`].
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # use kvstore::{store::*, KeyspaceId};
    /// let store = Store::open(Config::new(directory.path())).unwrap();
    /// let kv = store.keyspace(KeyspaceId::DEFAULT);
    /// let first = kv.put("a", "1").await.unwrap();
    /// assert_eq!(first.revision.get(), 2, "a fresh keyspace is at revision 1");
    /// assert_eq!(kv.put("a", "2").await.unwrap().previous[0].value(), b"1");
    /// # store.stop().await; });
    /// ```
    pub async fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<WriteReply> {
        let put = Put {
            key: key.into(),
            value: PutValue::Set(value.into()),
            lease: PutLease::Set(LeaseId::NONE),
            want_previous: true,
        };
        self.single(Operation::Put(put)).await
    }

    /// Deletes every key of `range`.
    ///
    /// # Errors
    /// As [`Keyspace::transact`].
    pub async fn delete(&self, range: KeyRange) -> Result<WriteReply> {
        self.single(Operation::Delete(DeleteRange { range, want_previous: true })).await
    }

    async fn single(&self, operation: Operation) -> Result<WriteReply> {
        let transaction = Transaction { success: vec![operation], ..Default::default() };
        let outcome = self.transact(transaction).await?;
        let previous = match outcome.results.into_iter().next() {
            Some(OperationOutcome::Put { previous }) => previous.into_iter().collect(),
            Some(OperationOutcome::Delete { previous, .. }) => previous,
            _ => Vec::new(),
        };
        Ok(WriteReply { revision: outcome.revision, previous })
    }

    /// Executes a transaction: atomic, durable when this returns.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it can never succeed; [`Error::Compacted`], [`Error::FutureRevision`] for a read
    /// inside it; [`Error::NoSpace`], [`Error::TooManyRequests`]; [`Error::Damaged`], [`Error::Unreadable`] when it
    /// needs a value that cannot be read, and was not done; [`Error::OutcomeUnknown`] when it may or may not have happened.
    pub async fn transact(&self, transaction: Transaction) -> Result<TransactionOutcome> {
        validate(&transaction, self.inner.config.max_txn_ops)?;
        match self.command(Command::Transaction(transaction)).await? {
            Outcome::Transaction(outcome) => Ok(outcome),
            other => Err(unexpected(&other)),
        }
    }

    async fn command(&self, command: Command) -> Result<Outcome> {
        let size_bytes = crate::command::request_size(&command);
        let limit_bytes = self.inner.config.max_request_bytes;
        if size_bytes > limit_bytes {
            return Err(InvalidRequest::TooLarge { size_bytes, limit_bytes }.into());
        }
        self.inner.submit(self.id, self.caller, command).await
    }

    /// Returns once the published state holds everything that was acknowledged anywhere before the call.
    ///
    /// # Errors
    /// [`Error::Timeout`] without a leader, [`Error::Stopped`].
    pub async fn read_barrier(&self) -> Result<()> {
        if self.inner.shared.reads_are_local() {
            return Ok(());
        }
        let (slot, ticket) = ticket();
        self.inner.shared.mailbox.read(slot)?;
        ticket.await
    }

    /// Reads keys.
    ///
    /// # Errors
    /// [`Error::Compacted`], [`Error::FutureRevision`], and those of [`Keyspace::read_barrier`].
    pub async fn range(&self, query: RangeQuery, consistency: Consistency) -> Result<RangeReply> {
        if consistency == Consistency::Linearizable {
            self.read_barrier().await?;
        } else if let Some(error) = self.inner.shared.ended() {
            return Err(error);
        }
        let (result, revision) = self.parts().reader.range(&query)?;
        Ok(RangeReply { result, revision })
    }

    /// Makes everything before `revision` unreadable, at once, and lets the space be freed in the background;
    /// with `wait_physical` returns when it is freed. Gives the keyspace's revision.
    ///
    /// # Errors
    /// [`Error::Compacted`] when the floor is there already, [`Error::FutureRevision`]; with `wait_physical`
    /// [`Error::Damaged`], [`Error::Unreadable`] when nothing more can be freed: the floor has moved all the same.
    pub async fn compact(&self, revision: Revision, wait_physical: bool) -> Result<Revision> {
        let current = match self.command(Command::Compact { revision }).await? {
            Outcome::Compacted { revision } => revision,
            other => return Err(unexpected(&other)),
        };
        if wait_physical {
            let (slot, ticket) = ticket();
            let wait = RemovalWait { keyspace: self.id, floor: revision, slot };
            self.inner.shared.mailbox.wait_for_removal(wait)?;
            ticket.await?;
        }
        Ok(current)
    }

    /// A new stream of watches.
    pub fn watch(&self) -> Session {
        self.parts().hub.session()
    }

    /// Watchers of all sessions, and how they are doing.
    pub fn watch_stats(&self) -> crate::watch::HubStats {
        self.parts().hub.stats()
    }

    /// Creates a lease. `id` [`LeaseId::NONE`] lets the store choose one; `ttl_s` is raised to the floor.
    ///
    /// # Errors
    /// [`InvalidRequest::LeaseExists`], [`InvalidRequest::LeaseTtlTooLarge`], and those of every write.
    pub async fn lease_grant(&self, id: LeaseId, ttl_s: i64) -> Result<LeaseGranted> {
        let ttl_min_s = self.inner.config.lease_ttl_min_s();
        loop {
            match self.command(lease_grant(id, ttl_s, ttl_min_s, random_number)?).await {
                Ok(Outcome::LeaseGranted { id, ttl_s, revision }) => {
                    return Ok(LeaseGranted { id, ttl_s, revision });
                }
                Ok(other) => return Err(unexpected(&other)),
                // The id we drew was taken: draw another.
                Err(Error::Invalid(InvalidRequest::LeaseExists)) if id == LeaseId::NONE => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Ends a lease and deletes its keys in one revision. Gives the keyspace's revision.
    ///
    /// # Errors
    /// [`InvalidRequest::LeaseNotFound`], and those of every write.
    pub async fn lease_revoke(&self, id: LeaseId) -> Result<Revision> {
        match self.command(Command::LeaseRevoke { id }).await? {
            Outcome::LeaseRevoked { revision } => Ok(revision),
            other => Err(unexpected(&other)),
        }
    }

    /// Renews a lease; gives its time to live in seconds, or `None` when there is no such lease. The promise is durable
    /// when this returns; a renewal soon after another costs nothing, because that one covers it.
    ///
    /// # Errors
    /// Those of every write.
    pub async fn lease_keep_alive(&self, id: LeaseId) -> Result<Option<i64>> {
        match self.known_renewal(id)? {
            Some(known) => Ok(known),
            None => Ok(self.renew(vec![id]).await?.first().copied().flatten()),
        }
    }

    /// As [`Keyspace::lease_keep_alive`] for many leases, which wait for the disk once, and together; the answers are in
    /// the order of `ids`. An id may come twice.
    ///
    /// # Errors
    /// Those of every write; then no promise is made for any of them.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # use kvstore::{store::*, KeyspaceId, LeaseId};
    /// let store = Store::open(Config::new(directory.path())).unwrap();
    /// let kv = store.keyspace(KeyspaceId::DEFAULT);
    /// let one = kv.lease_grant(LeaseId::NONE, 60).await.unwrap().id;
    /// let other = kv.lease_grant(LeaseId::NONE, 90).await.unwrap().id;
    /// kv.lease_revoke(other).await.unwrap();
    /// assert_eq!(kv.lease_keep_alive_many(&[one, other, one]).await.unwrap(), [Some(60), None, Some(60)]);
    /// # store.stop().await; });
    /// ```
    pub async fn lease_keep_alive_many(&self, ids: &[LeaseId]) -> Result<Vec<Option<i64>>> {
        let known = ids.iter().map(|&id| self.known_renewal(id)).collect::<Result<Vec<_>>>()?;
        let open = ids.iter().zip(&known).filter(|(_, known)| known.is_none());
        let mut open: Vec<_> = open.map(|(&id, _)| id).collect();
        if open.is_empty() {
            return Ok(known.into_iter().flatten().collect());
        }
        open.sort_unstable();
        open.dedup();
        let ttls_s = self.renew(open.clone()).await?;
        let renewed = |id| open.binary_search(id).ok().and_then(|at| ttls_s.get(at).copied().flatten());
        Ok(ids.iter().zip(known).map(|(id, known)| known.unwrap_or_else(|| renewed(id))).collect())
    }

    /// The answer to a renewal that needs no log entry: the lease is not there, or an earlier renewal covers it.
    fn known_renewal(&self, id: LeaseId) -> Result<Option<Option<i64>>> {
        if !self.inner.shared.reads_are_local() {
            return Ok(None);
        }
        Ok(match self.parts().leases.get(id)? {
            None => Some(None),
            Some(lease) if lease.covers(self.inner.shared.clock_now()) => Some(Some(lease.ttl_s)),
            Some(_) => None,
        })
    }

    async fn renew(&self, ids: Vec<LeaseId>) -> Result<Vec<Option<i64>>> {
        match self.command(Command::LeaseRenew { ids }).await? {
            Outcome::LeaseRenewed { ttls_s, .. } => Ok(ttls_s),
            other => Err(unexpected(&other)),
        }
    }

    /// What is left of a lease in this member's present state; `None` when there is no such lease. When a lease is gone, so
    /// are its keys.
    ///
    /// # Errors
    /// [`Error::Poisoned`] when the store has failed while it changed its leases.
    pub fn lease_time_to_live(&self, id: LeaseId, with_keys: bool) -> Result<Option<LeaseInfo>> {
        self.parts().leases.time_to_live(id, self.inner.shared.clock_now(), with_keys)
    }

    /// All leases of one moment, nearly in the order of their ends: one that is renewed meanwhile may be in another place.
    ///
    /// # Errors
    /// As [`Keyspace::lease_time_to_live`].
    pub fn leases(&self) -> Result<Vec<LeaseId>> {
        self.parts().leases.ids()
    }

    /// How many leases there are.
    ///
    /// # Errors
    /// As [`Keyspace::lease_time_to_live`].
    pub fn lease_count(&self) -> Result<usize> {
        self.parts().leases.count()
    }

    /// Hash of the keyspace's history up to `at` (newest with `None`), equal on members with equal data.
    ///
    /// # Errors
    /// [`Error::Compacted`], [`Error::FutureRevision`].
    pub fn hash_kv(&self, at: Option<Revision>) -> Result<HashKv> {
        self.parts().reader.hash_kv(at)
    }
}
