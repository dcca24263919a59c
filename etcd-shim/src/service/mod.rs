//! The services: one file for each of etcd's, and what they share.
//!
//! A call's way: [`guard`] looks at the metadata, the deadline and the size of what arrives ([`incoming`]), tonic
//! decodes the message, the method below hands it to `convert`, awaits the store, and gives the outcome back through
//! `convert`. Unary methods hold no state; the two long-lived streams (`watch`, the keep-alives of `lease`) are plain
//! state machines that the connection's task polls. No call spawns a task or locks anything of its own, but reads that
//! may be large and hashes: they run on threads beside ([`large_reads`]), and their replies leave in [`pieces`]; writes that
//! may answer much wait for each other and for room ([`large_writes`]).
//!
//! Invariants:
//! - the response stream is the only queue between a stream and its client: while the client does not read,
//!   nothing is taken from the store for it;
//! - every method of every registered service answers, if only with a clear "not yet";
//! - headers show the revision that the answer reflects, not a later one.
//!
//! Deliberately missing: counting of calls, listeners and TLS (the edge's), authentication.

mod auth;
mod beside;
mod cluster;
mod deadline;
mod election;
mod extent;
mod guard;
mod identity;
pub(crate) mod incoming;
mod kv;
pub(crate) mod large_reads;
pub(crate) mod large_writes;
mod lease;
mod lock;
mod maintenance;
mod pieces;
mod range_stream;
mod read_rest;
pub(crate) mod read_transaction;
mod room;
mod routes;
mod stream_end;
#[cfg(test)]
mod tests;
mod unknown;
pub(crate) mod watch;
mod wire;

pub use identity::{Identity, cluster_id, member_id};

use crate::convert::header::Headers;
use crate::convert::status;
use crate::proto::etcdserverpb::ResponseHeader;
use incoming::Incoming;
use kvstore::store::{Keyspace, Store};
use kvstore::{CallerId, KeyspaceId, Revision};
use large_reads::LargeReads;
use large_writes::LargeWrites;
use prost::Message;
use std::sync::Arc;
use std::time::Duration;
use stream_end::StreamsEnd;
use tonic::{Request, Status};

/// What a message may be larger than a request, in bytes (etcd's number): the frame around it.
pub const MESSAGE_OVERHEAD_BYTES: usize = 512 * 1024;

/// What the services can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Largest write request, in bytes.
    pub max_request_bytes: usize,
    /// Most operations in one list of a transaction.
    pub max_txn_ops: usize,
    /// Time between the progress notifications of an idle watch; a tenth is added at random.
    pub watch_progress_interval: Duration,
    /// The election timeout; streams that require a leader end after three of them without one.
    pub election_timeout: Duration,
}

impl Default for Settings {
    /// etcd's defaults.
    fn default() -> Self {
        Self {
            max_request_bytes: 3 * 512 * 1024,
            max_txn_ops: 128,
            watch_progress_interval: Duration::from_secs(10 * 60),
            election_timeout: Duration::from_secs(1),
        }
    }
}

impl Settings {
    /// Largest message that is received, in bytes, and the size from which on watch responses are split.
    pub fn max_message_bytes(&self) -> usize {
        self.max_request_bytes.saturating_add(MESSAGE_OVERHEAD_BYTES)
    }
}

/// All services of one member.
#[derive(Clone)]
pub struct Services {
    shared: Arc<Shared>,
}

impl Services {
    /// Serves keyspace `default` of `store`.
    pub fn new(store: Store, identity: Identity, settings: Settings) -> Self {
        let headers = Headers { cluster_id: identity.cluster_id, member_id: identity.member_id };
        let keyspace = store.keyspace(KeyspaceId::DEFAULT);
        let streams_end = StreamsEnd::new();
        let (large_reads, large_writes, incoming) = Default::default();
        Self {
            shared: Arc::new(Shared {
                store,
                keyspace,
                identity,
                settings,
                headers,
                streams_end,
                large_reads,
                large_writes,
                incoming,
            }),
        }
    }

    /// Ends all watch and keep-alive streams with "server stopped", so that connections can be closed without
    /// waiting for clients that never leave.
    pub fn end_streams(&self) {
        self.shared.streams_end.end();
    }
}

/// The connection that a request came on; tests call without one.
fn caller<T>(request: &Request<T>) -> CallerId {
    request.extensions().get().copied().unwrap_or_default()
}

/// What every service needs.
struct Shared {
    store: Store,
    keyspace: Keyspace,
    identity: Identity,
    settings: Settings,
    headers: Headers,
    streams_end: StreamsEnd,
    large_reads: LargeReads,
    large_writes: LargeWrites,
    incoming: Arc<Incoming>,
}

impl Shared {
    /// The header of a response that reflects `revision`.
    fn header(&self, revision: Revision) -> Option<ResponseHeader> {
        self.headers.at(revision, self.store.term())
    }

    /// The header of a response that reflects the present.
    fn header_now(&self) -> Option<ResponseHeader> {
        self.header(self.keyspace.revision())
    }

    /// The size of a write request; refuses one whose replicated form would be too large.
    fn check_size(&self, request: &impl Message) -> Result<usize, Status> {
        /// What etcd's envelope adds to a request near the limit: tag and length of the request, and a header
        /// with an id of nine bytes (ten for half of all member ids).
        const ENVELOPE_BYTES: usize = 17;
        let bytes = request.encoded_len();
        if bytes + ENVELOPE_BYTES > self.settings.max_request_bytes {
            return Err(status::REQUEST_TOO_LARGE.into());
        }
        Ok(bytes)
    }
}
