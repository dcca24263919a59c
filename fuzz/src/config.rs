//! Configurations: a command line, variables, a file.

use etcd_shim::config::{self, Address, Config, ConfigError, Invocation, Url, flags};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;

/// What separates the three parts, on a line of its own.
const NEXT_PART: &str = "\n%%\n";
/// The name by which arguments and variables reach the third part.
const FILE: &str = "holdfast.yaml";

/// Bytes: arguments by line, `NAME=value` by line, and the text of the configuration file. If there is a file and nobody
/// names it, an argument does.
pub fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut parts = text.splitn(3, NEXT_PART);
    let mut lines = || parts.next().unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
    let mut arguments = lines();
    let environment: Vec<(String, String)> =
        lines().iter().filter_map(|line| line.split_once('=')).map(owned).collect();
    let file = parts.next();
    let names_file = |text: &str| text.contains("config-file") || text.contains("CONFIG_FILE");
    if file.is_some() && !text.split(NEXT_PART).take(2).any(names_file) {
        arguments.insert(0, format!("--config-file={FILE}"));
    }
    let read = |path: &Path| match file {
        Some(text) if path == Path::new(FILE) => Ok(text.to_owned()),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    };
    match config::load_with(&arguments, environment.clone(), &read) {
        Ok(Invocation::Serve(config)) => check_config(&config),
        Ok(Invocation::Print(text)) => assert!(!text.is_empty()),
        Err(error) => check_refusal(&error, &Given::of(&arguments, &environment, file)),
    }
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// What exists is valid: bounded, listening somewhere, and its URLs say the same when they are read again.
fn check_config(config: &Config) {
    assert!(!config.listen.client.is_empty() && !config.cluster.initial.is_empty());
    assert!(config.limits.max_txn_ops > 0 && config.limits.max_request_bytes > 0 && config.rpc_threads > 0);
    assert!(config.cluster.heartbeat_ms > 0 && config.cluster.heartbeat_ms < config.cluster.election_ms);
    assert!(!config.log.outputs.is_empty() && !config.watch_progress_interval.is_zero());
    let Config { listen, cluster, .. } = config;
    for url in listen.client.iter().chain(&listen.client_http).chain(&listen.metrics).chain(&listen.peer) {
        let again = Url::parse(&url.to_string()).expect("a URL is read as it is written");
        // What is no UTF-8 in a path is written as such; arguments are text already.
        assert_eq!(&again, url, "{url}");
        assert!(matches!(&url.address, Address::Path(_)) || url.check_bindable().is_ok());
    }
    for text in cluster.advertise_client.iter().chain(&cluster.advertise_peer) {
        assert_eq!(Url::parse(text).map(|url| url.to_string()).as_ref(), Ok(text));
    }
}

/// The names of settings that were given, in one spelling, and every word of the command line.
struct Given {
    settings: BTreeSet<String>,
    words: Vec<String>,
    file: Option<String>,
}

impl Given {
    fn of(arguments: &[String], environment: &[(String, String)], file: Option<&str>) -> Self {
        let mut texts: Vec<&str> = arguments.iter().map(String::as_str).collect();
        texts.extend(environment.iter().map(|(name, _)| name.as_str()));
        texts.extend(file);
        let all = normal(&texts.join("\n"));
        let mut settings = BTreeSet::new();
        for flag in flags::SECTIONS.iter().flat_map(|section| section.flags) {
            if all.contains(&normal(flag.name)) {
                settings.insert(normal(flag.name));
                if let flags::Class::Alias(target) = flag.class {
                    settings.insert(normal(target));
                }
            }
        }
        Self { settings, words: arguments.to_vec(), file: file.map(str::to_owned) }
    }
}

/// One spelling for flags, variables and prose.
fn normal(text: &str) -> String {
    text.to_lowercase().replace(['-', '_'], " ")
}

/// The operator learns which of the settings that were given is wrong; or which word, or which place of the file, is none.
fn check_refusal(error: &ConfigError, given: &Given) {
    let text = error.to_string();
    let about = match error {
        ConfigError::Usage(text) | ConfigError::Invalid(text) | ConfigError::NotYet(text) => text,
    };
    assert!(!about.is_empty() && error.exit_code() > 0);
    let normal = normal(about);
    let names_setting = given.settings.iter().any(|name| normal.contains(name));
    let names_word = given.words.iter().any(|word| {
        let name = word.trim_start_matches('-').split('=').next().unwrap_or_default();
        about.contains(&format!("{word:?}"))
            || about.ends_with(&format!(": {word}"))
            || about.ends_with(&format!(": -{name}"))
    });
    // The parser of YAML tells lines and columns; what is no mapping of settings at all has no better place.
    let names_place = given.file.is_some() && about.starts_with("the configuration file");
    let is_file = matches!(error, ConfigError::Invalid(_)) && names_place;
    assert!(names_setting || names_word || is_file, "which setting is it? {text}");
}
