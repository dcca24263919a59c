//! An authority, a certificate of the node and one of its client, as files and in memory.

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use std::fs;
use std::path::{Path, PathBuf};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// Everything that both ends of a mutually authenticated connection on this machine need.
pub struct Certificates {
    directory: PathBuf,
}

impl Certificates {
    /// Makes them in `directory`, which must exist.
    pub fn create(directory: &Path) -> Certificates {
        let authority_key = KeyPair::generate().expect("a key");
        let mut authority = CertificateParams::default();
        authority.distinguished_name.push(DnType::CommonName, "holdfast-test-authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = authority.self_signed(&authority_key).expect("a certificate of the authority");
        let issuer = Issuer::new(authority, authority_key);
        write(directory, "ca.crt", &root.pem());
        for name in ["server", "client"] {
            let key = KeyPair::generate().expect("a key");
            let names = ["localhost".to_string(), "127.0.0.1".to_string()];
            let mut params = CertificateParams::new(names).expect("names of this machine");
            params.distinguished_name.push(DnType::CommonName, name);
            params.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            let certificate = params.signed_by(&key, &issuer).expect("a signed certificate");
            write(directory, &format!("{name}.crt"), &certificate.pem());
            write(directory, &format!("{name}.key"), &key.serialize_pem());
        }
        Certificates { directory: directory.to_path_buf() }
    }

    /// `ca.crt`, `server.crt`, `server.key`, `client.crt` or `client.key`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// What a client of the node uses.
    pub fn client(&self) -> ClientTlsConfig {
        let identity = Identity::from_pem(self.read("client.crt"), self.read("client.key"));
        self.anonymous_client().identity(identity)
    }

    /// What a client uses that knows the node and does not say who it is itself.
    pub fn anonymous_client(&self) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.read("ca.crt")))
            .domain_name("localhost")
    }

    /// The flags that make a node show its certificate.
    pub(crate) fn server_flags(&self) -> Vec<String> {
        vec![self.flag("cert-file", "server.crt"), self.flag("key-file", "server.key")]
    }

    /// The flags that make it ask its clients for theirs too. With etcd the authority alone does that already.
    pub(crate) fn mutual_flags(&self) -> Vec<String> {
        vec![self.flag("trusted-ca-file", "ca.crt"), "--client-cert-auth=true".into()]
    }

    fn flag(&self, name: &str, file: &str) -> String {
        format!("--{name}={}", self.file(file).display())
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

fn write(directory: &Path, name: &str, text: &str) {
    fs::write(directory.join(name), text).unwrap_or_else(|error| panic!("{name}: {error}"));
}
