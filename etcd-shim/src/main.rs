//! The server's entry point.

use etcd_shim::{config, server};
use std::io::Write;
use std::process::ExitCode;

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
            eprintln!("etcd-shim: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
