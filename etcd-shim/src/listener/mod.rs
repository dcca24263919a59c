//! Sockets: from a URL to requests, and back to quiet.
//!
//! One port speaks everything, as etcd's does: HTTP/1 and HTTP/2, the latter without an upgrade on plain
//! connections and by ALPN on TLS. [`mod@bind`] opens the socket of a URL, [`accept`] takes connections from it,
//! [`connection`] serves one of them, and [`shutdown`] ends them all in order. What a request means is none of
//! this folder's business: every listener gets a service.
//!
//! Why not tonic's own server: it ignores `tcp_nodelay` on foreign streams, cannot change certificates or
//! share the port with plain HTTP, and hides the size of the send buffer.
//!
//! Invariants:
//! - Nagle's algorithm is off on every TCP connection; with it a small reply waits for the client's delayed
//!   acknowledgement, 40 ms;
//! - a peer that says nothing costs a bounded time: the handshake and the first bytes have a deadline each,
//!   and so has the head of each HTTP/1 request;
//! - a connection with much to read, to do or to write does it in slices, and of those that want much only one for each
//!   thread is in line with the others, so that the others' turns come soon;
//! - the number of connections has a bound; beyond it they wait, and then the system's backlog;
//! - an error of `accept` never ends a listener: it is reported and tried again after a pause;
//! - a socket file is only replaced when nobody answers on it, and only removed while it is still ours.
//!
//! Deliberately missing: HTTP/1 upgrades (the JSON gateway's websockets), the PROXY protocol, listening on
//! DNS names (etcd refuses them too), and punishing clients that ping often.

mod accept;
mod bind;
mod connection;
mod fair;
mod first_bytes;
mod line;
mod requests;
mod shutdown;

pub use accept::{Bounds, serve};
pub use bind::{Bound, bind};
pub use connection::Http2Settings;
pub use shutdown::{Shutdown, Signal};

#[cfg(test)]
mod tests;
