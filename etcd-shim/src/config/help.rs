//! The texts of `--help` and `--version`.

use super::flags::{Class, Flag, Kind, SECTIONS};
use crate::version::{ETCD_VERSION, GIT_REVISION, HOLDFAST_VERSION};
use std::fmt::Write;

/// The hint under an error about the command line.
pub const USAGE: &str = "Usage:\n\n  etcd-shim [flags]\n    Start a Holdfast server that speaks etcd v3.\n\n  \
                         etcd-shim --version\n    Show the version.\n\n  etcd-shim -h | --help\n    Show the flags.\n";

/// `--version`: etcd's form, of which scripts read the first line.
pub fn version() -> String {
    let (system, machine) = (std::env::consts::OS, go_architecture(std::env::consts::ARCH));
    format!(
        "etcd Version: {ETCD_VERSION}\nGit SHA: {GIT_REVISION}\nGo Version: none (Rust)\nGo OS/Arch: {system}/{machine}\n\
         Holdfast Version: {HOLDFAST_VERSION}\n"
    )
}

/// Go's name of an architecture.
fn go_architecture(rust: &str) -> &str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `--help`: every flag with its default, in etcd's layout.
pub fn help() -> String {
    let mut text = USAGE.to_owned();
    text.push_str(
        "\nEach flag may be given as --flag value, --flag=value or -flag=value, or as the variable \
         ETCD_<FLAG>.\n",
    );
    for section in &SECTIONS {
        let _ = write!(text, "\n{}:\n", section.title);
        for flag in section.flags {
            text.push_str(&entry(flag));
        }
    }
    text
}

fn entry(flag: &Flag) -> String {
    let default = match flag.kind {
        Kind::Text | Kind::Urls | Kind::Gates | Kind::Choice(_) => format!("'{}'", flag.default),
        _ => flag.default.to_owned(),
    };
    let mut help = flag.help.to_owned();
    if let Kind::Choice(words) = flag.kind {
        let _ = write!(help, " One of: {}.", words.join(", "));
    }
    let note = match flag.class {
        Class::Used => String::new(),
        Class::Ignored(why) => format!("Ignored: {why}."),
        Class::Alias(target) => format!("Use --{target}."),
        Class::NotYet(what) => format!("Only the default is accepted: {what}."),
    };
    let mut text = format!("  --{} {default}\n", flag.name);
    for line in [help, note].iter().filter(|line| !line.is_empty()) {
        let _ = writeln!(text, "    {line}");
    }
    text
}
