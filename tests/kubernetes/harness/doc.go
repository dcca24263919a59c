// Package harness starts a store and a real kube-apiserver on it, and stops them again.
//
// It is what `make kubernetes` and the end-to-end test have in common. The store is any program that understands
// etcd's flags and says `ready to serve client requests` when it does; so the same test can be asked about Holdfast and
// about a real etcd.
//
// Invariants:
//   - every file lies in one directory that the caller owns; every port is asked from the system;
//   - a process that was started here is stopped here, and dies with the caller whatever ends that;
//   - nothing is killed but by the id of a process that was started here;
//   - a program that ends before it is ready is an error that carries the end of its log, never a hang.
//
// Deliberately missing: kubelets, controllers and schedulers (objects stay as they are written, which is what a test of
// the store wants), and any client library: kubectl and plain HTTP are what users have.
package harness
