//! Compiles the calls that stand between the process and its C library.

fn main() {
    println!("cargo:rerun-if-changed=src/interpose.c");
    // A compiler newer than this file may warn of more; that is for .ci/run, which sets this, not for who only wants the tests.
    println!("cargo:rerun-if-env-changed=HOLDFAST_NEEDS_ETCD");
    let is_strict = std::env::var_os("HOLDFAST_NEEDS_ETCD").is_some();
    cc::Build::new()
        .file("src/interpose.c")
        .define("_GNU_SOURCE", None)
        .warnings_into_errors(is_strict)
        .compile("interpose");
}
