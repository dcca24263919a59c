//! What is served beside gRPC: health, version and metrics; and the front that tells the two apart.
//!
//! [`front`] is the service every listener runs: a request with `content-type: application/grpc` over HTTP/2
//! goes to the services, everything else to [`router`]. On its way to the services a call is counted by
//! [`calls`], under the names that go-grpc-prometheus made common. [`health`] answers /health as etcd always
//! did and /livez and /readyz as Kubernetes likes it; [`metrics`] writes Prometheus' text form with
//! [`exposition`] and looks after the process itself in [`process`].
//!
//! What these need of the store stands in one trait, [`Member`], so that they can be tested without one.
//!
//! Invariants:
//! - names, labels and types of metrics are etcd's wherever etcd has the thing: alerts and dashboards in use
//!   go on working. Where Holdfast has no such thing the name is absent instead of a made-up zero;
//! - the set of time series is fixed at start: nothing a client sends becomes a label;
//! - a scrape takes no lock that a request needs;
//! - a health check ends within its deadline, also when the store does not answer.
//!
//! Deliberately missing: the JSON gateway (/v3/ says so), /debug/*, peers' private paths, metrics of Go's
//! runtime, and OpenMetrics, whose rules for names forbid some of etcd's.

mod calls;
mod exposition;
mod front;
mod health;
mod metrics;
mod process;
mod router;

pub use calls::{CallKind, Calls, Method};
pub use exposition::Exposition;
pub use front::{Front, FrontBody, Role};
pub use health::{Answer, Facts, Member};
pub use process::descriptors_max;
pub use router::{Router, RouterSettings};

#[cfg(test)]
mod tests;
