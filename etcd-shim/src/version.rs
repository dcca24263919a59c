//! The versions this build answers with.
//!
//! Clients judge a server by etcd's version number: kube-apiserver asks for RangeStream from 3.7 on, tools
//! refuse what is too old. Holdfast therefore names the etcd release whose behaviour it follows, and its own
//! version beside it wherever the format has room.
//!
//! Invariants: the three numbers follow semantic versioning; the cluster's and the storage's version are
//! etcd's with the patch level set to 0, as etcd reports them.
//!
//! Deliberately missing: negotiation of a cluster version between members of different releases.

/// The etcd release whose behaviour is followed.
pub const ETCD_VERSION: &str = "3.7.3";

/// The version of the cluster and of the storage that clients are told.
pub const CLUSTER_VERSION: &str = "3.7.0";

/// Holdfast's own version.
pub const HOLDFAST_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The revision of the sources, if the build was told.
pub const GIT_REVISION: &str = match option_env!("HOLDFAST_GIT_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};
