//! Refuses settings that contradict each other, in etcd's words where etcd has some.

use super::settings::{CIPHER_SUITES, Cluster, Config, Listen, TlsSettings, TlsVersion};
use super::values::Values;
use super::{Address, ConfigError, Url};

/// etcd's bound: with a longer one a cluster would look dead to its operators.
const ELECTION_MS_MAX: u64 = 50_000;

/// Checks everything that can be checked without touching disk or network.
pub fn validate(config: &Config, values: &Values, warnings: &mut Vec<String>) -> Result<(), ConfigError> {
    timing(&config.cluster)?;
    listening(&config.listen)?;
    advertising(config, values)?;
    membership(config)?;
    tls(&config.tls)?;
    tls_use(config, warnings)?;
    if config.watch_progress_interval.is_zero() {
        return Err(ConfigError::Invalid("--watch-progress-notify-interval must be more than 0".to_owned()));
    }
    Ok(())
}

fn refuse(reason: String) -> Result<(), ConfigError> {
    Err(ConfigError::Invalid(reason))
}

fn timing(cluster: &Cluster) -> Result<(), ConfigError> {
    let (heartbeat_ms, election_ms) = (cluster.heartbeat_ms, cluster.election_ms);
    if heartbeat_ms == 0 {
        return refuse("--heartbeat-interval must be >0 (set to 0ms)".to_owned());
    }
    if election_ms == 0 {
        return refuse("--election-timeout must be >0 (set to 0ms)".to_owned());
    }
    if heartbeat_ms.saturating_mul(5) > election_ms {
        return refuse(format!(
            "--election-timeout[{election_ms}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat_ms}ms]"
        ));
    }
    if election_ms > ELECTION_MS_MAX {
        return refuse(format!(
            "--election-timeout[{election_ms}ms] is too long, and should be set less than {ELECTION_MS_MAX}ms"
        ));
    }
    Ok(())
}

fn listening(listen: &Listen) -> Result<(), ConfigError> {
    if listen.client.is_empty() {
        return refuse("--listen-client-urls: no valid URLs given".to_owned());
    }
    let mut seen: Vec<(&str, &Address)> = Vec::new();
    let peers = listen.peer.iter().map(|url| ("listen-peer-urls", url));
    for (flag, url) in for_clients(listen).chain(peers) {
        url.check_bindable().or_else(|reason| refuse(format!("--{flag}: {reason}")))?;
        let chosen_by_system = matches!(url.address, Address::Tcp { port: 0, .. });
        // One of the two may be a default that nobody has written: both are named.
        let before = seen.iter().find(|(_, address)| !chosen_by_system && **address == url.address);
        if let Some((first, _)) = before {
            return refuse(format!("--{flag}: {url} is listened on twice (also by --{first})"));
        }
        seen.push((flag, &url.address));
    }
    Ok(())
}

/// Where clients are listened to, with the flag that says so.
fn for_clients(listen: &Listen) -> impl Iterator<Item = (&'static str, &Url)> {
    let client = listen.client.iter().map(|url| ("listen-client-urls", url));
    let http = listen.client_http.iter().map(|url| ("listen-client-http-urls", url));
    client.chain(http).chain(listen.metrics.iter().map(|url| ("listen-metrics-urls", url)))
}

fn advertising(config: &Config, values: &Values) -> Result<(), ConfigError> {
    let given = |name| values.given(name).is_some();
    if given("listen-client-urls") && !given("advertise-client-urls") {
        return refuse(
            "--advertise-client-urls is required when --listen-client-urls is set explicitly".to_owned(),
        );
    }
    for (flag, urls) in [
        ("advertise-client-urls", &config.cluster.advertise_client),
        ("initial-advertise-peer-urls", &config.cluster.advertise_peer),
    ] {
        if urls.is_empty() {
            return refuse(format!("--{flag}: no valid URLs given"));
        }
        for url in urls {
            let url = Url::parse(url).expect("it was formatted from a URL");
            url.check_advertisable().or_else(|reason| refuse(format!("--{flag}: {reason}")))?;
        }
    }
    Ok(())
}

fn membership(config: &Config) -> Result<(), ConfigError> {
    let initial = &config.cluster.initial;
    let mut names: Vec<&str> = initial.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let name = if config.name.is_empty() { "default" } else { &config.name };
    if !names.contains(&name) {
        return refuse(format!("couldn't find local name {name:?} in the initial cluster configuration"));
    }
    if names.len() > 1 {
        return Err(ConfigError::NotYet(format!(
            "clusters of several members are not there yet, and --initial-cluster names {}: {}",
            names.len(),
            names.join(", ")
        )));
    }
    let mut mine: Vec<String> = initial.iter().map(|(_, url)| numeric(url)).collect();
    let mut advertised: Vec<String> = config.cluster.advertise_peer.iter().map(|url| numeric(url)).collect();
    mine.sort();
    advertised.sort();
    if mine != advertised {
        let initial: Vec<String> = initial.iter().map(|(name, url)| format!("{name}={url}")).collect();
        return refuse(format!(
            "--initial-cluster={} does not match --initial-advertise-peer-urls={}",
            initial.join(","),
            config.cluster.advertise_peer.join(",")
        ));
    }
    Ok(())
}

/// etcd compares what the names resolve to; `localhost` is the name that matters.
fn numeric(url: &str) -> String {
    url.replace("://localhost:", "://127.0.0.1:")
}

fn tls(tls: &TlsSettings) -> Result<(), ConfigError> {
    if tls.cert_file.is_some() != tls.key_file.is_some() {
        let show = |file: &Option<std::path::PathBuf>| match file {
            Some(path) => path.display().to_string(),
            None => String::new(),
        };
        return refuse(format!(
            "--key-file and --cert-file must both be present [key: {}, cert: {}]",
            show(&tls.key_file),
            show(&tls.cert_file)
        ));
    }
    if tls.min_version > tls.max_version {
        return refuse("--tls-min-version is greater than --tls-max-version".to_owned());
    }
    if !tls.cipher_suites.is_empty() && tls.min_version == TlsVersion::Tls13 {
        return refuse("--cipher-suites cannot be configured when only TLS1.3 is enabled".to_owned());
    }
    for name in &tls.cipher_suites {
        if !CIPHER_SUITES.contains(&name.as_str()) {
            return refuse(format!(
                "--cipher-suites: unexpected TLS cipher suite {name:?} (must be one of: {})",
                CIPHER_SUITES.join(", ")
            ));
        }
    }
    if tls.self_signed_validity_years == 0 || tls.self_signed_validity_years > 100 {
        return refuse("--self-signed-cert-validity must be from 1 to 100 years".to_owned());
    }
    Ok(())
}

fn tls_use(config: &Config, warnings: &mut Vec<String>) -> Result<(), ConfigError> {
    let (tls, listen) = (&config.tls, &config.listen);
    let has_certificate = tls.cert_file.is_some();
    for (flag, url) in for_clients(listen) {
        if url.scheme.is_secure() && !has_certificate && !tls.auto_tls {
            return refuse(format!(
                "--{flag}: TLS key/cert (--cert-file, --key-file) must be provided for client url {url} with \
                 HTTPS scheme"
            ));
        }
    }
    let secure = for_clients(listen).any(|(_, url)| url.scheme.is_secure());
    if secure && tls.client_cert_auth && tls.trusted_ca_file.is_none() {
        return refuse(
            "--client-cert-auth needs --trusted-ca-file: it says who signs the clients' certificates"
                .to_owned(),
        );
    }
    let needs_authority = tls.crl_file.is_some() || !tls.allowed_hostnames.is_empty();
    if needs_authority && tls.trusted_ca_file.is_none() {
        return refuse(
            "--client-crl-file and --client-cert-allowed-hostname need --trusted-ca-file".to_owned(),
        );
    }
    for url in listen.client.iter().filter(|url| !url.scheme.is_secure()) {
        if has_certificate {
            warnings
                .push(format!("{url} is plain although certificate files are given: they are ignored there"));
        }
        if tls.client_cert_auth {
            warnings.push(format!(
                "{url} is plain although client certificates are required: they are not there"
            ));
        }
    }
    if tls.auto_tls && has_certificate {
        warnings.push("--auto-tls is ignored: --cert-file and --key-file are given".to_owned());
    }
    Ok(())
}
