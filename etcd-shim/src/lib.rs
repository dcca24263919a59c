//! The etcd v3 server over `kvstore`.
//!
//! A request's way: the edge accepts it, [`service`] is called by tonic with a message of [`proto`], `convert`
//! makes the store's types of it, the store answers, `convert` makes the response.

/// Wire messages to and from the store's types; errors to exact statuses.
mod convert;
/// The wire: messages and services.
pub mod proto;
/// One file for each etcd service.
pub mod service;
