//! Whole command lines against what becomes of them.

use super::*;
use std::time::Duration;

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn load_line(line: &str, environment: &[(&str, &str)]) -> Result<Invocation, ConfigError> {
    load(&words(line), environment.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())))
}

fn config(line: &str) -> Config {
    config_with(line, &[])
}

fn config_with(line: &str, environment: &[(&str, &str)]) -> Config {
    match load_line(line, environment) {
        Ok(Invocation::Serve(config)) => *config,
        other => panic!("{line}: {other:?}"),
    }
}

fn refusal(line: &str) -> (u8, String) {
    refusal_with(line, &[])
}

fn refusal_with(line: &str, environment: &[(&str, &str)]) -> (u8, String) {
    let error = load_line(line, environment).expect_err(line);
    let text = error.to_string();
    (error.exit_code(), text.lines().next().unwrap_or_default().to_owned())
}

fn printed(line: &str) -> String {
    match load_line(line, &[]) {
        Ok(Invocation::Print(text)) => text,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn help_is_golden() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/golden/help.txt");
    let help = printed("--help");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden, &help).unwrap();
    }
    let golden = std::fs::read_to_string(golden).unwrap();
    for (line, wanted) in help.lines().zip(golden.lines()) {
        assert_eq!(line, wanted, "UPDATE_GOLDEN=1 writes the file anew");
    }
    assert_eq!(help.lines().count(), golden.lines().count(), "UPDATE_GOLDEN=1 writes the file anew");
    assert_eq!(help, printed("--name x -h"));
}

#[test]
fn version_is_etcds_form() {
    let version = printed("-version");
    let lines: Vec<&str> = version.lines().collect();
    assert_eq!(lines[0], format!("etcd Version: {}", crate::version::ETCD_VERSION));
    assert!(lines[1].starts_with("Git SHA: "));
    assert!(lines[2].starts_with("Go Version: "));
    assert!(lines[3].starts_with("Go OS/Arch: linux/"));
}

#[test]
fn the_table_is_sound() {
    let mut names = std::collections::BTreeSet::new();
    for flag in flags::SECTIONS.iter().flat_map(|section| section.flags) {
        assert!(names.insert(flag.name), "{} is there twice", flag.name);
        if flag.kind != flags::Kind::Text {
            assert_eq!(flag.kind.check(flag.default), Ok(()), "default of {}", flag.name);
        }
        if let flags::Class::Alias(target) = flag.class {
            let target = flags::find(target).unwrap();
            assert_eq!((flag.kind, flag.default), (target.kind, target.default), "{}", flag.name);
            assert!(!matches!(target.class, flags::Class::Alias(_)), "{}", flag.name);
        }
        assert!(!flag.help.ends_with(" ") && !flag.help.contains("  "), "{}", flag.name);
    }
    assert!(names.len() > 150);
}

#[test]
fn defaults_are_etcds() {
    let config = config("");
    assert_eq!(config.name, "default");
    assert_eq!(config.data_dir.to_str(), Some("default.etcd"));
    assert_eq!(config.listen.client, [Url::parse("http://localhost:2379").unwrap()]);
    assert_eq!(config.cluster.initial, [("default".to_owned(), "http://localhost:2380".to_owned())]);
    assert_eq!(config.cluster.token, "etcd-cluster");
    assert_eq!((config.cluster.heartbeat_ms, config.cluster.election_ms), (100, 1000));
    assert_eq!(
        config.limits,
        Limits {
            quota_bytes: Some(2 << 30),
            max_txn_ops: 128,
            max_request_bytes: 1_572_864,
            max_concurrent_streams: u32::MAX,
            max_connections: None,
        }
    );
    assert_eq!(config.keepalive.interval, Duration::from_secs(7200));
    assert_eq!(config.watch_progress_interval, Duration::from_secs(600));
    assert_eq!(config.auto_compaction, None);
    assert_eq!(config.log.outputs, [LogOutput::Stderr]);
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn flags_have_gos_syntax() {
    let config = config(
        "-name=a --name b --initial-cluster-token one --initial-cluster-token=two -pre-vote --client-cert-auth=F \
         --max-txn-ops=0x10 --heartbeat-interval 20",
    );
    assert_eq!(config.name, "b", "the last one wins");
    assert_eq!(config.cluster.token, "two");
    assert_eq!(config.data_dir.to_str(), Some("b.etcd"));
    assert_eq!(config.limits.max_txn_ops, 16);
    assert_eq!(config.cluster.initial[0].0, "b");

    for (line, reason) in [
        ("--nope", "flag provided but not defined: -nope"),
        ("-nope=1", "flag provided but not defined: -nope"),
        ("--name", "flag needs an argument: -name"),
        ("---name x", "bad flag syntax: ---name"),
        ("--=x", "bad flag syntax: --=x"),
        ("--pre-vote=maybe", "invalid boolean value \"maybe\" for -pre-vote: parse error"),
        ("--pre-vote false", "\"false\" is not a valid flag"),
        ("--max-txn-ops=-1", "invalid value \"-1\" for flag -max-txn-ops: parse error"),
        ("-- x", "\"x\" is not a valid flag"),
        ("-", "\"-\" is not a valid flag"),
        (
            "--listen-client-urls=localhost",
            "invalid value \"localhost\" for flag -listen-client-urls: URL scheme must be http, https, unix, or \
             unixs: localhost",
        ),
        (
            "--feature-gates=Nope=true",
            "invalid value \"Nope=true\" for flag -feature-gates: unrecognized feature gate: Nope",
        ),
        (
            "--grpc-keepalive-timeout=5",
            "invalid value \"5\" for flag -grpc-keepalive-timeout: time: missing unit in duration \"5\"",
        ),
    ] {
        assert_eq!(refusal(line), (2, reason.to_owned()), "{line}");
    }
}

#[test]
fn variables_fill_what_no_flag_gives() {
    let environment = [("ETCD_NAME", "env"), ("ETCD_DATA_DIR", ""), ("HOME", "/x"), ("ETCD_NOPE", "1")];
    let config = config_with("--heartbeat-interval=50", &environment);
    assert_eq!(config.name, "env");
    assert_eq!(config.data_dir.to_str(), Some("env.etcd"));
    assert_eq!(config.warnings, ["unrecognized environment variable ETCD_NOPE"]);
    let (code, reason) = refusal_with("--name=x", &[("ETCD_NAME", "env")]);
    assert_eq!(code, 1);
    assert!(
        reason.starts_with(
            "conflicting environment variable ETCD_NAME is shadowed by corresponding command-line flag"
        ),
        "{reason}"
    );
    let (code, reason) = refusal_with("", &[("ETCD_MAX_TXN_OPS", "x")]);
    assert_eq!((code, reason.contains("max-txn-ops")), (1, true), "{reason}");
}

#[test]
fn a_configuration_file_voids_everything_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("etcd.yaml");
    std::fs::write(
        &path,
        "name: filed\ngrpc-keepalive-interval: 5000000000\nquota-backend-bytes: 1024\n\
         log-outputs: [stdout, stderr]\nlisten-client-urls: https://127.0.0.1:1\n\
         advertise-client-urls: https://127.0.0.1:1\nmystery: 1\nwatch-progress-notify-interval: 7s\n\
         client-transport-security:\n  cert-file: /c\n  key-file: /k\n  trusted-ca-file: /a\n  client-cert-auth: true\n\
         peer-transport-security:\n  auto-tls: true\n  odd: 1\n",
    )
    .unwrap();
    let config = config_with(
        &format!("--name=flag --config-file={}", path.display()),
        &[("ETCD_HEARTBEAT_INTERVAL", "7")],
    );
    assert_eq!(config.name, "filed");
    assert_eq!(config.keepalive.interval, Duration::from_secs(5));
    assert_eq!(config.watch_progress_interval, Duration::from_secs(7));
    assert_eq!(config.limits.quota_bytes, Some(1024));
    assert_eq!(config.cluster.heartbeat_ms, 100);
    assert_eq!(config.log.outputs, [LogOutput::Stdout, LogOutput::Stderr]);
    assert_eq!(config.tls.cert_file, Some("/c".into()));
    assert!(config.tls.client_cert_auth);
    let warnings = config.warnings.join("\n");
    assert!(warnings.contains("--name is ignored"), "{warnings}");
    assert!(warnings.contains("mystery"), "{warnings}");
    assert!(warnings.contains("peer-transport-security.odd"), "{warnings}");
    assert!(warnings.contains("peer-auto-tls"), "{warnings}");

    std::fs::write(&path, "{\"name\": \"json\", \"max-txn-ops\": 5}").unwrap();
    let from_variable = [("ETCD_CONFIG_FILE", path.to_str().unwrap())];
    let config = config_with("", &from_variable);
    assert_eq!((config.name.as_str(), config.limits.max_txn_ops), ("json", 5));

    for (text, reason) in
        [("- a\n", "mapping"), ("name: {a: b}", "plain value"), ("max-txn-ops: x", "max-txn-ops")]
    {
        std::fs::write(&path, text).unwrap();
        let (code, refused) = refusal_with("", &from_variable);
        assert_eq!(code, 1);
        assert!(refused.contains(reason), "{refused}");
    }
    let (_, reason) = refusal("--config-file=/does/not/exist");
    assert!(reason.contains("/does/not/exist"), "{reason}");
}

#[test]
fn old_names_work_and_say_so() {
    let config = config(
        "--experimental-watch-progress-notify-interval=5s --experimental-initial-corrupt-check=true --max-wals=3 \
         --feature-gates=InitialCorruptCheck=true --snapshot-count=10000",
    );
    assert_eq!(config.watch_progress_interval, Duration::from_secs(5));
    let warnings = config.warnings.join("\n");
    assert_eq!(config.warnings.len(), 4, "{warnings}");
    assert!(warnings.contains(
        "flag experimental-watch-progress-notify-interval is deprecated: use --watch-progress-notify-interval"
    ));
    let both =
        self::config("--watch-progress-notify-interval=7s --experimental-watch-progress-notify-interval=5s");
    assert_eq!(both.watch_progress_interval, Duration::from_secs(7), "the new name wins");
    let (code, reason) = refusal("--experimental-enable-distributed-tracing");
    assert_eq!((code, reason.contains("not there yet")), (1, true), "an old name is no way around");
}

#[test]
fn what_is_not_there_yet_is_refused() {
    for line in [
        "gateway start",
        "grpc-proxy start --endpoints=x",
        "--force-new-cluster",
        "--initial-cluster-state=existing",
        "--initial-cluster=default=http://localhost:2380,b=http://localhost:3380",
        "--discovery-token=x",
        "--auth-token=jwt,pub-key=x",
        "--wal-dir=/x",
        "--unsafe-no-fsync",
        "--enable-log-rotation",
    ] {
        let error = load_line(line, &[]).expect_err(line);
        assert!(matches!(error, ConfigError::NotYet(_)), "{line}: {error}");
        assert_eq!(error.exit_code(), 1);
    }
    config("--force-new-cluster=false --initial-cluster-state=new --auth-token=simple --wal-dir=");
}

#[test]
fn contradictions_are_refused() {
    for (line, reason) in [
        ("--heartbeat-interval=0", "--heartbeat-interval must be >0 (set to 0ms)"),
        (
            "--heartbeat-interval=300",
            "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[300ms]",
        ),
        (
            "--election-timeout=50001",
            "--election-timeout[50001ms] is too long, and should be set less than 50000ms",
        ),
        (
            "--listen-client-urls=http://127.0.0.1:1",
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ),
        (
            "--listen-client-urls=http://example.com:1 --advertise-client-urls=http://x:1",
            "--listen-client-urls: expected IP in URL for binding (http://example.com:1)",
        ),
        ("--advertise-client-urls=http://:1", "--advertise-client-urls: unexpected empty host (http://:1)"),
        (
            "--listen-metrics-urls=http://localhost:2379",
            "--listen-metrics-urls: http://localhost:2379 is listened on twice (also by --listen-client-urls)",
        ),
        (
            "--initial-cluster=other=http://localhost:2380",
            "couldn't find local name \"default\" in the initial cluster configuration",
        ),
        (
            "--initial-cluster=default=http://localhost:99",
            "--initial-cluster=default=http://localhost:99 does not match \
             --initial-advertise-peer-urls=http://localhost:2380",
        ),
        ("--cert-file=/c", "--key-file and --cert-file must both be present [key: , cert: /c]"),
        (
            "--listen-client-urls=https://127.0.0.1:1 --advertise-client-urls=https://x:1",
            "--listen-client-urls: TLS key/cert (--cert-file, --key-file) must be provided for client url https://127.0.0.1:1 with HTTPS \
             scheme",
        ),
        (
            "--tls-min-version=TLS1.3 --tls-max-version=TLS1.2",
            "--tls-min-version is greater than --tls-max-version",
        ),
        (
            "--tls-min-version=TLS1.0",
            "--tls-min-version: unexpected TLS version \"TLS1.0\" (must be one of: TLS1.2, TLS1.3)",
        ),
        (
            "--auto-compaction-retention=5x",
            "error parsing --auto-compaction-retention: time: unknown unit \"x\" in duration \"5x\"",
        ),
        (
            "--auto-compaction-mode=revision --auto-compaction-retention=5m",
            "--auto-compaction-retention=5m: with --auto-compaction-mode=revision it is a number",
        ),
        ("--rpc-threads=0", "--rpc-threads must be at least 1"),
        (
            "--client-crl-file=/x",
            "--client-crl-file and --client-cert-allowed-hostname need --trusted-ca-file",
        ),
    ] {
        assert_eq!(refusal(line), (1, reason.to_owned()), "{line}");
    }
    let (_, reason) = refusal("--cipher-suites=TLS_RSA_WITH_RC4_128_SHA");
    assert!(
        reason.starts_with("--cipher-suites: unexpected TLS cipher suite \"TLS_RSA_WITH_RC4_128_SHA\""),
        "{reason}"
    );
}

#[test]
fn retention_is_hours_revisions_or_a_duration() {
    for (line, wanted) in [
        ("--auto-compaction-retention=1", Some(AutoCompaction::Periodic(Duration::from_secs(3600)))),
        ("--auto-compaction-retention=5m", Some(AutoCompaction::Periodic(Duration::from_secs(300)))),
        ("--auto-compaction-retention=0", None),
        ("--auto-compaction-retention=0s", None),
        (
            "--auto-compaction-mode=revision --auto-compaction-retention=1000",
            Some(AutoCompaction::Revisions(1000)),
        ),
        ("--auto-compaction-mode=revision --auto-compaction-retention=0", None),
    ] {
        assert_eq!(config(line).auto_compaction, wanted, "{line}");
    }
}

#[test]
fn kubeadms_command_line_is_accepted() {
    let config = config(
        "--name=node --data-dir=/var/lib/etcd --listen-client-urls=https://127.0.0.1:2379,https://10.0.0.1:2379 \
         --advertise-client-urls=https://10.0.0.1:2379 --listen-peer-urls=https://10.0.0.1:2380 \
         --initial-advertise-peer-urls=https://10.0.0.1:2380 --initial-cluster=node=https://10.0.0.1:2380 \
         --cert-file=/s.crt --key-file=/s.key --trusted-ca-file=/ca.crt --client-cert-auth=true \
         --peer-cert-file=/p.crt --peer-key-file=/p.key --peer-trusted-ca-file=/ca.crt --peer-client-cert-auth=true \
         --snapshot-count=10000 --listen-metrics-urls=http://127.0.0.1:2381 \
         --feature-gates=InitialCorruptCheck=true --watch-progress-notify-interval=5s",
    );
    assert_eq!(config.listen.client.len(), 2);
    assert_eq!(config.listen.metrics.len(), 1);
    assert_eq!(config.cluster.initial, [("node".to_owned(), "https://10.0.0.1:2380".to_owned())]);
    assert!(config.tls.client_cert_auth);
}
