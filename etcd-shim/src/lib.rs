//! The etcd v3 server over `kvstore`.
//!
//! The modules in the order a process lives through them:

/// etcd's flags, variables and configuration file.
pub mod config;
/// Health, version and metrics.
pub mod http;
/// Sockets: accepting, HTTP/1 and HTTP/2 on one port, ending connections.
pub mod listener;
/// Log lines in etcd's form.
pub mod logging;
/// Certificates, and picking up changed ones.
pub mod tls;
/// The versions this build answers with.
pub mod version;
