//! The etcd v3 server over `kvstore`.
