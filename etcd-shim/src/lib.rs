//! The etcd v3 server over `kvstore`.
//!
//! A request's way: [`listener`] accepts it, [`service`] is called by tonic with a message of [`proto`], `convert`
//! makes the store's types of it, the store answers, `convert` makes the response. The modules in the order a
//! process lives through them:

/// etcd's flags, variables and configuration file.
pub mod config;
/// Log lines in etcd's form.
pub mod logging;
/// Certificates, and picking up changed ones.
pub mod tls;
/// Sockets: accepting, HTTP/1 and HTTP/2 on one port, ending connections.
pub mod listener;
/// One file for each etcd service.
pub mod service;
/// The wire: messages and services.
pub mod proto;
/// Wire messages to and from the store's types; errors to exact statuses.
mod convert;
/// Health, version and metrics.
pub mod http;
/// The versions this build answers with.
pub mod version;
