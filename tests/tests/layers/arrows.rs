//! Which part may name which: DESIGN's arrows as data, and the check of one file against them.
//!
//! ```text
//! k8sd-lite → etcd-shim → kvstore::store → propose, read → runtime → consensus, log, apply, watch, transport
//!                                                                    apply → lease → mvcc → storage
//! ```
//! `types` and `command` are the vocabulary: everybody below may name them.

use crate::source::Source;

/// A module of kvstore and the modules that it may name besides itself: only such as stand above it here.
const KVSTORE: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("command", &["types"]),
    ("storage", &["types"]),
    ("log", &["types"]),
    // Files of an engine as bytes: it knows no engine.
    ("snapshot", &["types"]),
    ("mvcc", &["types", "command", "storage"]),
    ("lease", &["types", "command", "mvcc", "storage"]),
    ("apply", &["types", "command", "mvcc", "lease", "storage"]),
    ("watch", &["types", "command", "mvcc"]),
    ("consensus", &["types", "command"]),
    ("transport", &["types", "command", "consensus"]),
    // The state of what waits on the way in. The runtime turns it; it does not know the runtime.
    ("propose", &["types", "command"]),
    ("read", &["types", "command", "mvcc", "consensus", "propose"]),
    (
        "runtime",
        &[
            "types",
            "command",
            "storage",
            "log",
            "mvcc",
            "lease",
            "apply",
            "watch",
            "consensus",
            "transport",
            "propose",
            "read",
        ],
    ),
    (
        "store",
        &[
            "types",
            "command",
            "storage",
            "log",
            "mvcc",
            "lease",
            "apply",
            "watch",
            "consensus",
            "transport",
            "propose",
            "read",
            "runtime",
            "snapshot",
        ],
    ),
];

/// A foreign name and the places that may say it: crates (`etcd-shim`) or modules of kvstore (`kvstore::storage`).
const FOREIGN: &[(&[&str], &[&str])] = &[
    (&["rocksdb", "librocksdb_sys"], &["kvstore::storage"]),
    (&["raft", "raft_proto", "protobuf"], &["kvstore::consensus", "kvstore::transport"]),
    (
        &["tokio", "tokio_stream"],
        &["kvstore::runtime", "kvstore::transport", "etcd-shim", "k8sd-lite", "benches", "tests"],
    ),
    (
        &["tonic", "prost", "hyper", "axum"],
        &["kvstore::transport", "etcd-shim", "k8sd-lite", "benches", "tests", "fuzz"],
    ),
    // The wire's packages. Tests and benches are clients; fuzzing makes requests.
    (
        &["etcdserverpb", "mvccpb", "authpb", "v3lockpb", "v3electionpb"],
        &["etcd-shim", "benches", "tests", "fuzz"],
    ),
    (&["etcd_shim"], &["etcd-shim", "k8sd-lite", "benches", "tests", "fuzz"]),
    (&["k8sd_lite"], &["k8sd-lite", "tests"]),
];

/// What no pure part may do: it would not be the same twice.
const IMPURE: &[&str] = &["Instant", "SystemTime", "UdpSocket", "TcpStream", "thread_rng", "getrandom"];
const PURE: &[&str] = &["types", "command", "consensus", "apply", "lease", "mvcc", "watch"];

/// What other crates may name of kvstore: the door, and the words that go through it.
const DOOR: &[&str] = &["store", "types", "command"];
/// Crates that are held to the door. Tests, benches and fuzzing look inside.
const OUTSIDE: &[&str] = &["etcd-shim", "k8sd-lite"];

/// Where a file belongs.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    pub crate_name: String,
    /// The file's module path in its crate.
    pub modules: Vec<String>,
}

impl Place {
    /// From a path like `kvstore/src/mvcc/index.rs`; none for files that are no part of a crate's program.
    pub fn of(path: &str) -> Option<Place> {
        let (crate_name, rest) = path.split_once("/src/")?;
        let rest = rest.strip_suffix(".rs")?;
        let mut modules = rest.split('/').map(str::to_string).collect::<Vec<_>>();
        if matches!(modules.last().map(String::as_str), Some("mod" | "lib" | "main")) {
            modules.pop();
        }
        Some(Place { crate_name: crate_name.to_string(), modules })
    }

    /// `kvstore::mvcc`, `etcd-shim`.
    fn name(&self) -> String {
        match self.modules.first() {
            Some(module) if self.crate_name == "kvstore" => format!("kvstore::{module}"),
            _ => self.crate_name.clone(),
        }
    }
}

/// What is wrong with the file, one line each.
pub fn check(path: &str, place: &Place, source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |line: usize, text: String| faults.push(format!("{path}:{line}: {text}"));
    for named in source.paths() {
        let first = named.segments[0].as_str();
        if let Some((_, places)) = FOREIGN.iter().find(|(names, _)| names.contains(&first))
            && !allowed(place, places)
        {
            fault(
                named.line,
                format!("{} may not name {first}; only {} may", place.name(), places.join(", ")),
            );
        }
        match (place.crate_name.as_str(), first) {
            ("kvstore", "crate" | "super" | "self") => {
                let mut inside = place.modules.clone();
                inside.extend(named.inside.iter().cloned());
                if let Some(target) = resolve(&inside, &named.segments)
                    && let Some(text) = arrow(place, &target)
                {
                    fault(named.line, text);
                }
            }
            (crate_name, "kvstore") if OUTSIDE.contains(&crate_name) => {
                let target = named.segments[1].as_str();
                if is_module(target) && !DOOR.contains(&target) {
                    fault(
                        named.line,
                        format!("{crate_name} may not name kvstore::{target}; the door is kvstore::store"),
                    );
                }
            }
            _ => {}
        }
    }
    for (line, word) in source.words() {
        // A package of the wire may also be a module that includes generated code.
        if let Some((names, places)) = FOREIGN.iter().find(|(names, _)| names.contains(&word))
            && names.contains(&"mvccpb")
            && !allowed(place, places)
        {
            fault(line, format!("{} may not name the wire's {word}", place.name()));
        }
        let pure = place.crate_name == "kvstore"
            && place.modules.first().is_some_and(|m| PURE.contains(&m.as_str()));
        if pure && IMPURE.contains(&word) {
            fault(line, format!("{} is pure: no clock, no network, no chance: {word}", place.name()));
        }
    }
    faults.sort();
    faults.dedup();
    faults
}

/// The place in kvstore that a path in module `inside` means, from the root of the crate.
fn resolve(inside: &[String], segments: &[String]) -> Option<Vec<String>> {
    let mut base = if segments[0] == "crate" { Vec::new() } else { inside.to_vec() };
    for (number, segment) in segments.iter().enumerate() {
        match segment.as_str() {
            "crate" | "self" => {}
            "super" => {
                base.pop()?;
            }
            _ => {
                base.extend(segments[number..].iter().cloned());
                break;
            }
        }
    }
    Some(base)
}

/// What is wrong with naming `target`, a path from kvstore's root, in `place`.
fn arrow(place: &Place, target: &[String]) -> Option<String> {
    // lib.rs declares the modules and hands out the vocabulary.
    let own = place.modules.first()?;
    let target = target.first()?;
    if own == target || !is_module(target) {
        return None;
    }
    let Some((_, allowed)) = KVSTORE.iter().find(|(name, _)| name == own) else {
        return Some(format!(
            "kvstore::{own} has no place in the design: give it one in tests/tests/layers/arrows.rs"
        ));
    };
    (!allowed.contains(&target.as_str()))
        .then(|| format!("kvstore::{own} may not name kvstore::{target}; it may name {}", allowed.join(", ")))
}

fn is_module(name: &str) -> bool {
    KVSTORE.iter().any(|(module, _)| *module == name)
}

fn allowed(place: &Place, places: &[&str]) -> bool {
    let name = place.name();
    places.iter().any(|one| *one == name || *one == place.crate_name)
}

/// Which of our crates and which engines a manifest may not depend on; `test` dependencies may be anything.
pub fn check_manifest(crate_name: &str, text: &str) -> Vec<String> {
    let forbidden: &[&str] = match crate_name {
        "kvstore" => &["etcd-shim", "k8sd-lite", "axum", "clap"],
        "etcd-shim" => &["k8sd-lite", "rocksdb", "raft", "protobuf"],
        "k8sd-lite" => &["rocksdb", "raft", "protobuf"],
        _ => &[],
    };
    let mut section = "";
    let mut faults = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        } else if section == "[dependencies]" {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            if forbidden.contains(&name) {
                faults.push(format!("{crate_name}/Cargo.toml: {crate_name} may not depend on {name}"));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(path: &str, text: &str) -> Vec<String> {
        check(path, &Place::of(path).unwrap(), &Source::parse(text))
    }

    #[track_caller]
    fn refused(path: &str, text: &str, why: &str) {
        let found = faults(path, text);
        assert!(found.iter().any(|fault| fault.contains(why)), "{path}: {text}: {found:?}");
    }

    #[track_caller]
    fn accepted(path: &str, text: &str) {
        assert_eq!(faults(path, text), [""; 0], "{path}: {text}");
    }

    #[test]
    fn places() {
        let place = |path| Place::of(path).map(|place| (place.crate_name, place.modules.join("::")));
        assert_eq!(
            place("kvstore/src/mvcc/index/node.rs"),
            Some(("kvstore".into(), "mvcc::index::node".into()))
        );
        assert_eq!(place("kvstore/src/mvcc/mod.rs"), Some(("kvstore".into(), "mvcc".into())));
        assert_eq!(place("kvstore/src/lib.rs"), Some(("kvstore".into(), "".into())));
        assert_eq!(place("kvstore/build.rs"), None);
    }

    #[test]
    fn arrows_of_the_design() {
        accepted(
            "kvstore/src/mvcc/reader.rs",
            "use crate::{storage::Engine, types::Revision}; use super::entry::Head;",
        );
        accepted("kvstore/src/runtime/core.rs", "use crate::consensus::Node; use crate::Error;");
        accepted("kvstore/src/lib.rs", "pub use types::*; use crate::runtime::X;");
        refused(
            "kvstore/src/mvcc/reader.rs",
            "use crate::{types::Revision, consensus::Node};",
            "kvstore::consensus",
        );
        refused("kvstore/src/mvcc/reader.rs", "fn f() { super::super::runtime::go() }", "kvstore::runtime");
        refused("kvstore/src/mvcc/mod.rs", "mod inner { use super::super::log::Log; }", "kvstore::log");
        refused("kvstore/src/consensus/node.rs", "use crate::mvcc::Head;", "it may name types, command");
        refused("kvstore/src/apply/machine.rs", "use crate::runtime::Core;", "kvstore::runtime");
        refused("kvstore/src/log/mod.rs", "use crate::storage::Engine;", "kvstore::storage");
        refused("kvstore/src/storage/sim.rs", "use crate::mvcc::Head;", "kvstore::mvcc");
        refused("kvstore/src/watch/hub.rs", "use crate::apply::Applied;", "kvstore::apply");
        refused("kvstore/src/propose/mod.rs", "use crate::store::Store;", "kvstore::store");
        refused("kvstore/src/elsewhere/mod.rs", "use crate::types::X;", "has no place");
    }

    #[test]
    fn arrows_make_no_circle() {
        for (number, (module, allowed)) in KVSTORE.iter().enumerate() {
            for target in *allowed {
                assert!(KVSTORE[..number].iter().any(|(above, _)| above == target), "{module} → {target}");
            }
        }
    }

    #[test]
    fn foreign_names() {
        accepted("kvstore/src/storage/rocks/mod.rs", "use rocksdb::DB;");
        accepted("kvstore/src/transport/mod.rs", "use tokio::net::X; use tonic::Y; use raft::Z;");
        accepted("etcd-shim/src/main.rs", "use tokio::net::X; use crate::proto::etcdserverpb::Y;");
        refused("kvstore/src/mvcc/reader.rs", "use rocksdb::DB;", "rocksdb");
        refused("etcd-shim/src/main.rs", "fn f(x: rocksdb::DB) {}", "rocksdb");
        refused("kvstore/src/watch/hub.rs", "async fn f() { tokio::task::yield_now().await }", "tokio");
        refused("kvstore/src/apply/mod.rs", "use raft::eraftpb::Entry;", "raft");
        refused("kvstore/src/store/mod.rs", "mod etcdserverpb {}", "etcdserverpb");
        refused("kvstore/src/store/mod.rs", "use etcd_shim::convert::X;", "etcd_shim");
        refused("etcd-shim/src/main.rs", "use k8sd_lite::cli::X;", "k8sd_lite");
    }

    #[test]
    fn one_door() {
        accepted("etcd-shim/src/service/kv.rs", "use kvstore::{Error, store::Keyspace, command::Put};");
        accepted("benches/src/lib.rs", "use kvstore::mvcc::Index;");
        refused("etcd-shim/src/service/kv.rs", "use kvstore::{Error, mvcc::Reader};", "kvstore::mvcc");
        refused("k8sd-lite/src/cluster.rs", "fn f() { kvstore::log::open() }", "kvstore::log");
    }

    #[test]
    fn purity() {
        accepted("kvstore/src/runtime/clock.rs", "use std::time::Instant;");
        refused("kvstore/src/apply/mod.rs", "use std::time::Instant;", "pure");
        refused("kvstore/src/consensus/node.rs", "fn f() { SystemTime::now() }", "pure");
    }

    #[test]
    fn manifests() {
        let text = "[dependencies]\nbytes.workspace = true\netcd-shim = { path = \"..\" }\n[dev-dependencies]\nk8sd-lite = 1";
        assert_eq!(
            check_manifest("kvstore", text),
            ["kvstore/Cargo.toml: kvstore may not depend on etcd-shim"]
        );
    }
}
