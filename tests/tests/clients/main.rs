//! Bad and busy clients: what one of them does to a node, and what the others notice.
//!
//! Each test attacks a real node over sockets while neighbours put and get. All of the neighbours' requests must
//! succeed; the attacker must be told etcd's errors and nothing else; memory stays within what LIMITS.md says; and when
//! the attacker is gone, so are its sockets and threads, and the node stops as fast as ever.
//!
//! How much slower the neighbours become is measured elsewhere, with larger attacks: `neighbours` of the benches.

mod attack;
mod connections;
mod limits;
mod reads;
mod threads;
mod watches;
mod writes;
