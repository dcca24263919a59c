//! Compiles the wire definitions in `proto/` without protoc, twice.
//!
//! `server`: what the services use. `KeyValue` and `Event` are replaced by types that hold bytes which are
//! already encoded, so that a list or a watch passes on what the store has.
//! `plain`: the ordinary messages with clients, for tests and measurements.

use prost::Message;
use std::path::{Path, PathBuf};

const FILES: [&str; 11] = [
    "mvccpb/kv.proto",
    "authpb/auth.proto",
    "etcdserverpb/header.proto",
    "etcdserverpb/kv.proto",
    "etcdserverpb/watch.proto",
    "etcdserverpb/lease.proto",
    "etcdserverpb/cluster.proto",
    "etcdserverpb/maintenance.proto",
    "etcdserverpb/auth.proto",
    "v3lockpb/v3lock.proto",
    "v3electionpb/v3election.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=build.rs");
    let root = Path::new("proto");
    let files: Vec<PathBuf> = FILES.iter().map(|file| root.join(file)).collect();
    let set = protox::compile(&files, [root])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), set.encode_to_vec())?;

    let server = out.join("server");
    std::fs::create_dir_all(&server)?;
    tonic_prost_build::configure()
        .bytes(".")
        .build_client(false)
        .codec_path("crate::proto::codec::Codec")
        .extern_path(".mvccpb.KeyValue", "crate::proto::EncodedKeyValue")
        .extern_path(".mvccpb.Event", "crate::proto::EncodedEvent")
        .out_dir(server)
        .compile_fds(set.clone())?;

    let plain = out.join("plain");
    std::fs::create_dir_all(&plain)?;
    tonic_prost_build::configure().bytes(".").build_server(false).out_dir(plain).compile_fds(set)?;
    Ok(())
}
