//! The server's entry point.

use etcd_shim::{config, server};
use std::io::Write;
use std::process::ExitCode;

/// RocksDB's too. With the system's allocator a quarter of a put's time was spent in it; mimalloc, as fast, kept large
/// requests' memory and made others wait for it. ARCHITECTURE.md has the figures.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Has what was freed given back to the system although nothing more is allocated, after a burst: jemalloc's own thread
/// does that, one for all processors.
fn start_purging() {
    use tikv_jemalloc_ctl::{background_thread, max_background_threads};
    // A system that refuses threads gets its memory back later.
    let _ = max_background_threads::write(1).and_then(|()| background_thread::write(true));
}

fn main() -> ExitCode {
    start_purging();
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
            eprintln!("etcd-shim: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
