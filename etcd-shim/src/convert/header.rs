//! Response headers.

use crate::proto::etcdserverpb::ResponseHeader;
use kvstore::{Revision, Term};

/// Makes the headers of one member's responses.
#[derive(Clone, Copy, Debug)]
pub struct Headers {
    /// The cluster's id.
    pub cluster_id: u64,
    /// The answering member's id.
    pub member_id: u64,
}

impl Headers {
    /// The header of a response that reflects `revision`.
    pub fn at(&self, revision: Revision, term: Term) -> Option<ResponseHeader> {
        Some(ResponseHeader {
            cluster_id: self.cluster_id,
            member_id: self.member_id,
            revision: revision.get(),
            raft_term: term.get(),
        })
    }
}

/// The header of a response inside a transaction's response: it holds the revision and nothing else.
pub fn inner(revision: Revision) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision: revision.get(), ..Default::default() })
}
