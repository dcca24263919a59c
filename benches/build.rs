//! Finds out what benches say about themselves and cannot know when they run: the compiler and RocksDB's version.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=../Cargo.lock");
    let compiler = std::env::var_os("RUSTC").expect("cargo names the compiler");
    let version = Command::new(compiler).arg("--version").output().expect("the compiler runs");
    println!("cargo:rustc-env=BENCHES_RUSTC={}", String::from_utf8_lossy(&version.stdout).trim());
    println!("cargo:rustc-env=BENCHES_ROCKSDB={}", rocksdb());
    println!("cargo:rustc-env=BENCHES_OPTIMISATION={}", std::env::var("OPT_LEVEL").unwrap_or_default());
}

/// The version of RocksDB stands behind the `+` in the version of the crate that brings it.
fn rocksdb() -> String {
    let lock = std::fs::read_to_string("../Cargo.lock").expect("the workspace is locked");
    let version = lock
        .split("[[package]]")
        .find(|package| package.contains("name = \"librocksdb-sys\""))
        .and_then(|package| package.split("version = \"").nth(1)?.split('"').next())
        .expect("the store links RocksDB");
    version.split_once('+').map_or(version, |(_, rocksdb)| rocksdb).to_string()
}
