//! The server's entry point.

use etcd_shim::{config, server};
use std::io::Write;
use std::process::ExitCode;

/// RocksDB's too. ARCHITECTURE.md says why it is not the system's.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What jemalloc reads at its start, under the name that it looks for. A list of a million keys leaves hundreds of megabytes
/// behind: they go back to the system after a second, not after ten, and by a thread of jemalloc's own, so that they go although
/// nothing more is asked for.
#[used]
#[unsafe(export_name = "malloc_conf")]
static ALLOCATOR_OPTIONS: AllocatorOptions = AllocatorOptions(
    c"background_thread:true,max_background_threads:1,dirty_decay_ms:1000,muzzy_decay_ms:0".as_ptr(),
);

/// C's `const char *`.
#[repr(transparent)]
struct AllocatorOptions(*const std::ffi::c_char);

// SAFETY: it points to a constant that ends with a zero and that nobody writes to; no other definition of the name is
// in this program, and jemalloc's own is a weak one of this very type.
unsafe impl Sync for AllocatorOptions {}

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let environment = std::env::vars_os()
        .map(|(name, text)| (name.to_string_lossy().into_owned(), text.to_string_lossy().into_owned()));
    match config::load(&arguments, environment) {
        Ok(config::Invocation::Serve(config)) => server::run(*config),
        Ok(config::Invocation::Print(text)) => {
            // A reader that left early (`| head`) is no failure.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "etcd-shim: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
