//! The cluster manager's place in the workspace.
//!
//! Nothing is here yet: bootstrap, join, status and features are later work, and the README's list of
//! limits says so. The crate exists so that the layering test already knows its arrow
//! (`k8sd-lite` → `etcd-shim` → `kvstore::store`).
