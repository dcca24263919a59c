//! Real handshakes in memory against files that change.

use super::*;
use crate::config::{TlsVersion, Url};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection};
use std::path::Path;

/// An authority, and certificates it signed: PEM of certificate and key.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let mut parameters = CertificateParams::new(Vec::<String>::new()).unwrap();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = parameters.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(parameters, key), pem }
    }

    fn sign(&self, host: &str, serial: u64) -> (String, String) {
        let mut parameters = CertificateParams::new(vec![host.to_owned()]).unwrap();
        parameters.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn revoke(&self, serial: u64) -> String {
        let day = |day| rcgen::date_time_ymd(2020, 1, day);
        let list = CertificateRevocationListParams {
            this_update: day(1),
            next_update: day(2),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(serial),
                revocation_time: day(1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

fn write(dir: &Path, name: &str, text: &str) -> Option<PathBuf> {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    Some(path)
}

fn settings(dir: &Path, (certificate, key): &(String, String)) -> TlsSettings {
    TlsSettings {
        cert_file: write(dir, "server.crt", certificate),
        key_file: write(dir, "server.key", key),
        client_cert_auth: false,
        trusted_ca_file: None,
        crl_file: None,
        allowed_hostnames: Vec::new(),
        auto_tls: false,
        self_signed_validity_years: 1,
        cipher_suites: Vec::new(),
        min_version: TlsVersion::Tls12,
        max_version: TlsVersion::Tls13,
    }
}

/// A handshake without a network. Gives the server's certificate as the client saw it.
fn handshake(
    server: Arc<ServerConfig>,
    trusted: &str,
    client: Option<&(String, String)>,
) -> Result<Vec<u8>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = match client {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap(),
    };
    let mut client = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut unread = bytes.as_slice();
        while !unread.is_empty() {
            server.read_tls(&mut unread).unwrap();
            server.process_new_packets()?;
        }
        bytes.clear();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut unread = bytes.as_slice();
        while !unread.is_empty() {
            client.read_tls(&mut unread).unwrap();
            client.process_new_packets()?;
        }
    }
    Ok(client.peer_certificates().unwrap()[0].to_vec())
}

fn der((certificate, _): &(String, String)) -> Vec<u8> {
    CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap().to_vec()
}

#[test]
fn changed_files_are_picked_up_and_broken_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("ca");
    let (first, second) = (authority.sign("localhost", 1), authority.sign("localhost", 2));
    let settings = settings(dir.path(), &first);
    let source = TlsSource::with_interval(settings, Duration::ZERO).unwrap();
    let served = || handshake(source.current(), &authority.pem, None).unwrap();
    assert_eq!(served(), der(&first));

    write(dir.path(), "server.crt", &second.0);
    assert_eq!(served(), der(&first), "half a rotation: the pair does not fit yet");
    write(dir.path(), "server.key", &second.1);
    assert_eq!(served(), der(&second));

    write(dir.path(), "server.crt", "rubbish");
    assert_eq!(served(), der(&second));
    std::fs::remove_file(dir.path().join("server.key")).unwrap();
    assert_eq!(served(), der(&second));

    write(dir.path(), "server.crt", &first.0);
    write(dir.path(), "server.key", &first.1);
    assert_eq!(served(), der(&first));
}

#[test]
fn files_are_not_read_at_every_handshake() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("ca");
    let (first, second) = (authority.sign("localhost", 1), authority.sign("localhost", 2));
    let source = TlsSource::with_interval(settings(dir.path(), &first), Duration::from_secs(3600)).unwrap();
    write(dir.path(), "server.crt", &second.0);
    write(dir.path(), "server.key", &second.1);
    assert_eq!(handshake(source.current(), &authority.pem, None).unwrap(), der(&first));
}

#[test]
fn clients_are_judged_by_authority_list_and_name() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, other) = (Authority::new("ca"), Authority::new("other"));
    let server = authority.sign("localhost", 1);
    let mut settings = settings(dir.path(), &server);
    settings.client_cert_auth = true;
    settings.trusted_ca_file = write(dir.path(), "ca.crt", &authority.pem);
    let open = |settings: &TlsSettings| TlsSource::with_interval(settings.clone(), Duration::ZERO).unwrap();
    let source = open(&settings);
    let (good, revoked) = (authority.sign("client.example", 7), authority.sign("client.example", 8));
    let connect = |source: &TlsSource, client: Option<&(String, String)>| {
        handshake(source.current(), &authority.pem, client).map(drop)
    };
    assert_eq!(connect(&source, Some(&good)), Ok(()));
    assert!(connect(&source, None).is_err(), "no certificate");
    assert!(connect(&source, Some(&other.sign("client.example", 7))).is_err(), "another authority");

    settings.crl_file = write(dir.path(), "crl.pem", &authority.revoke(8));
    let source = open(&settings);
    assert_eq!(connect(&source, Some(&good)), Ok(()));
    assert!(connect(&source, Some(&revoked)).is_err(), "revoked");
    write(dir.path(), "crl.pem", &authority.revoke(7));
    assert!(connect(&source, Some(&good)).is_err(), "revoked while running");
    assert_eq!(connect(&source, Some(&revoked)), Ok(()));

    settings.crl_file = None;
    settings.allowed_hostnames = vec!["a.example".to_owned(), "client.example".to_owned()];
    assert_eq!(connect(&open(&settings), Some(&good)), Ok(()));
    settings.allowed_hostnames.pop();
    assert!(connect(&open(&settings), Some(&good)).is_err(), "another name");

    settings.allowed_hostnames.clear();
    settings.trusted_ca_file = write(dir.path(), "ca.crt", &other.pem);
    let source = open(&settings);
    assert!(connect(&source, Some(&good)).is_err());
    write(dir.path(), "ca.crt", &authority.pem);
    assert_eq!(connect(&source, Some(&good)), Ok(()), "a changed authority counts at once");
}

#[test]
fn the_start_names_the_file_that_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("ca");
    let (one, two) = (authority.sign("localhost", 1), authority.sign("localhost", 2));
    let good = settings(dir.path(), &one);
    let refused = |settings: &TlsSettings| TlsSource::open(settings.clone()).unwrap_err().to_string();

    let missing = TlsSettings { cert_file: Some("/does/not/exist".into()), ..good.clone() };
    assert!(refused(&missing).starts_with("/does/not/exist: No such file"), "{}", refused(&missing));
    let directory = TlsSettings { key_file: Some(dir.path().into()), ..good.clone() };
    assert!(refused(&directory).contains("directory"), "{}", refused(&directory));
    let empty = TlsSettings { cert_file: write(dir.path(), "empty", ""), ..good.clone() };
    assert!(refused(&empty).ends_with("empty: there is no certificate in it"), "{}", refused(&empty));
    let no_key = TlsSettings { key_file: good.cert_file.clone(), ..good.clone() };
    assert!(refused(&no_key).contains("server.crt: no usable private key"), "{}", refused(&no_key));
    let mismatched = TlsSettings { key_file: write(dir.path(), "two.key", &two.1), ..good.clone() };
    assert!(refused(&mismatched).contains("cannot be used together"), "{}", refused(&mismatched));
    let no_ca = TlsSettings { client_cert_auth: true, ..good };
    assert_eq!(refused(&no_ca), "--client-cert-auth needs --trusted-ca-file");
    let bad_ca = TlsSettings { trusted_ca_file: write(dir.path(), "bad-ca", "x"), ..no_ca.clone() };
    assert!(refused(&bad_ca).ends_with("bad-ca: there is no certificate in it"), "{}", refused(&bad_ca));
    let bad_list = TlsSettings {
        trusted_ca_file: write(dir.path(), "ca.crt", &authority.pem),
        crl_file: write(dir.path(), "bad-crl", "x"),
        ..no_ca
    };
    assert!(refused(&bad_list).contains("bad-crl"), "{}", refused(&bad_list));
}

#[test]
fn versions_and_suites_are_limited() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("ca");
    let mut settings = settings(dir.path(), &authority.sign("localhost", 1));
    settings.max_version = TlsVersion::Tls12;
    settings.cipher_suites = vec!["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".to_owned()];
    let source = TlsSource::open(settings.clone()).unwrap();
    assert!(handshake(source.current(), &authority.pem, None).is_err(), "an RSA suite with an ECDSA key");
    settings.cipher_suites = vec!["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256".to_owned()];
    let source = TlsSource::open(settings).unwrap();
    assert!(handshake(source.current(), &authority.pem, None).is_ok());
}

#[test]
fn auto_tls_makes_one_certificate_and_keeps_it() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let settings = TlsSettings {
        cert_file: None,
        key_file: None,
        auto_tls: true,
        ..settings(dir.path(), &(String::new(), String::new()))
    };
    let urls = [Url::parse("https://127.0.0.1:0").unwrap(), Url::parse("unixs:///x").unwrap()];
    let made = self_signed(&settings, dir.path(), &urls).unwrap();
    let read = || std::fs::read_to_string(made.cert_file.as_ref().unwrap()).unwrap();
    let certificate = read();
    assert_eq!(self_signed(&settings, dir.path(), &urls).unwrap(), made);
    assert_eq!(read(), certificate, "the second start finds it");
    let mode = std::fs::metadata(made.key_file.as_ref().unwrap()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let source = TlsSource::open(made.clone()).unwrap();
    assert!(handshake(source.current(), &certificate, None).is_ok());
}
