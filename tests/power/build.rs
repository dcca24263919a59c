//! Compiles the calls that stand between the process and its C library.

fn main() {
    println!("cargo:rerun-if-changed=src/interpose.c");
    cc::Build::new()
        .file("src/interpose.c")
        .define("_GNU_SOURCE", None)
        .warnings_into_errors(true)
        .compile("interpose");
}
