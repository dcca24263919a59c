//! The etcd v3 server over `kvstore`.
//!
//! The modules in the order things flow: a process reads its [`config`], starts its [`server`], which binds
//! [`listener`]s; a request comes in through [`tls`] and is told apart in [`http`]; tonic calls a [`service`]
//! with a message of [`proto`], `convert` makes the store's types of it, the store answers, `convert` makes
//! the response.

// etcd's flags, variables and configuration file.
pub mod config;

// Log lines in etcd's form.
pub mod logging;

// The life of the process.
pub mod server;

// Sockets: accepting, HTTP/1 and HTTP/2 on one port, ending connections.
pub mod listener;

// Who waits until the runtime has asked what has arrived.
mod arrivals;

// What a connection may do in one turn.
mod turn;

// Certificates, and picking up changed ones.
pub mod tls;

// What is served beside gRPC: health, version, metrics; counting calls.
pub mod http;

// One file for each etcd service.
pub mod service;

// Wire messages to and from the store's types; errors to exact statuses.
mod convert;

/// What fuzzing needs of the conversions; no part of the crate's interface.
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;

// The wire: messages and services.
pub mod proto;

// The versions this build answers with.
pub mod version;
