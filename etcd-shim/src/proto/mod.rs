//! The wire: etcd's messages and services as Rust types.
//!
//! The definitions lie in `proto/` at the crate's root, written for this project from etcd's public API: its
//! packages, names and numbers. `build.rs` compiles them without protoc.
//!
//! `KeyValue` and `Event` are not generated. They carry nearly all bytes that leave this server, and the store
//! already holds them in exactly this wire form; [`EncodedKeyValue`] and [`EncodedEvent`] pass those bytes on.
//! Everything around them (`RangeResponse`, `WatchResponse`, `ResponseOp`, …) is generated and therefore the
//! same bytes as any protobuf library would write.
//!
//! Invariants:
//! - these types never leave `proto`, `convert` and `service`; the store does not know them;
//! - a decoded request shares the buffer it was received in (`bytes` fields are slices of it);
//! - the bytes of a response are those that the plain messages would give (tested).
//!
//! Deliberately missing: `google.api.http` annotations and etcd's version annotations; nothing reads them here.

pub mod codec;
mod encoded;
#[cfg(test)]
mod facts;
pub(crate) mod operations;

pub use encoded::{EncodedEvent, EncodedKeyValue};
pub use operations::OPERATIONS_DECODED_MAX;

/// The compiled definitions, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

macro_rules! generated {
    ($(#[$doc:meta])* $folder:literal, $package:ident) => {
        $(#[$doc])*
        #[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all)]
        pub mod $package {
            include!(concat!(env!("OUT_DIR"), "/", $folder, "/", stringify!($package), ".rs"));
        }
    };
}

generated!(
    /// Users, roles and permissions.
    "server",
    authpb
);
generated!(
    /// KV, Watch, Lease, Cluster, Maintenance, Auth.
    "server",
    etcdserverpb
);
generated!(
    /// Lock.
    "server",
    v3lockpb
);
generated!(
    /// Election.
    "server",
    v3electionpb
);

/// The ordinary messages and clients for the same definitions, for tests and load generators.
#[cfg(any(test, feature = "client"))]
pub mod plain {
    generated!(
        /// Versions and events.
        "plain",
        mvccpb
    );
    generated!(
        /// Users, roles and permissions.
        "plain",
        authpb
    );
    generated!(
        /// KV, Watch, Lease, Cluster, Maintenance, Auth.
        "plain",
        etcdserverpb
    );
    generated!(
        /// Lock.
        "plain",
        v3lockpb
    );
    generated!(
        /// Election.
        "plain",
        v3electionpb
    );
}
