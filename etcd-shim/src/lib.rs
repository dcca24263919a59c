//! The etcd v3 server over `kvstore`.
//!
//! The modules in the order a process lives through them:

/// etcd's flags, variables and configuration file.
pub mod config;
/// The versions this build answers with.
pub mod version;
