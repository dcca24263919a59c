//! From files to a rustls configuration.

use super::{TlsError, clients, suites};
use crate::config::{TlsSettings, TlsVersion};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest file read, in bytes. Chains and keys take kilobytes; a revocation list of a million
/// certificates takes some 40 MiB and is a case for another tool.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// What the server offers to speak, in its order of preference.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The bytes of every file that was named.
#[derive(Clone, PartialEq, Eq)]
pub struct Files {
    certificate: (PathBuf, Vec<u8>),
    key: (PathBuf, Vec<u8>),
    authority: Option<(PathBuf, Vec<u8>)>,
    revoked: Option<(PathBuf, Vec<u8>)>,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the bytes: one of them is the key.
        f.debug_struct("Files").field("certificate", &self.certificate.0).finish_non_exhaustive()
    }
}

impl Files {
    /// Reads them.
    pub fn read(settings: &TlsSettings) -> Result<Files, TlsError> {
        let (Some(certificate), Some(key)) = (&settings.cert_file, &settings.key_file) else {
            return Err(TlsError::Mismatch("--cert-file and --key-file are needed for TLS".to_owned()));
        };
        Ok(Files {
            certificate: read(certificate)?,
            key: read(key)?,
            authority: settings.trusted_ca_file.as_deref().map(read).transpose()?,
            revoked: settings.crl_file.as_deref().map(read).transpose()?,
        })
    }
}

fn read(path: &(impl AsRef<Path> + ?Sized)) -> Result<(PathBuf, Vec<u8>), TlsError> {
    let path = path.as_ref();
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| refused(path, error))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(refused(path, format!("larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok((path.to_owned(), bytes))
}

fn refused(path: &Path, reason: impl fmt::Display) -> TlsError {
    TlsError::File { path: path.to_owned(), reason: reason.to_string() }
}

/// Builds the configuration of the server.
pub fn build(settings: &TlsSettings, files: &Files) -> Result<ServerConfig, TlsError> {
    let provider = suites::provider(&settings.cipher_suites).map_err(TlsError::Mismatch)?;
    let provider = Arc::new(provider);
    let mut versions = Vec::new();
    for (wanted, version) in
        [(TlsVersion::Tls13, &rustls::version::TLS13), (TlsVersion::Tls12, &rustls::version::TLS12)]
    {
        if (settings.min_version..=settings.max_version).contains(&wanted) {
            versions.push(version);
        }
    }
    let verifier = match (settings.client_cert_auth, &files.authority) {
        (false, _) => None,
        (true, Some(authority)) => Some(verifier(settings, authority, files.revoked.as_ref(), &provider)?),
        (true, None) => {
            return Err(TlsError::Mismatch("--client-cert-auth needs --trusted-ca-file".to_owned()));
        }
    };
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(|error| TlsError::Mismatch(format!("the TLS versions and cipher suites: {error}")))?;
    let resumable = verifier.is_none();
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let (chain, key) = certified(files)?;
    let mut config = builder.with_single_cert(chain, key).map_err(|error| {
        let (certificate, key) = (files.certificate.0.display(), files.key.0.display());
        TlsError::Mismatch(format!("{certificate} and {key} cannot be used together: {error}"))
    })?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    if resumable {
        config.ticketer = rustls::crypto::ring::Ticketer::new()
            .map_err(|error| TlsError::Mismatch(format!("session tickets: {error}")))?;
    } else {
        // A resumed session would skip the authority, the revocation list and the expiry of the client's
        // certificate as they are now.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

type Certified = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn certified(files: &Files) -> Result<Certified, TlsError> {
    let chain = certificates(&files.certificate)?;
    let (path, bytes) = &files.key;
    let key = PrivateKeyDer::from_pem_slice(bytes)
        .map_err(|error| refused(path, format!("no usable private key: {error}")))?;
    Ok((chain, key))
}

fn certificates((path, bytes): &(PathBuf, Vec<u8>)) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let chain = chain.map_err(|error| refused(path, format!("not in PEM form: {error}")))?;
    if chain.is_empty() {
        return Err(refused(path, "there is no certificate in it"));
    }
    Ok(chain)
}

fn verifier(
    settings: &TlsSettings,
    authority: &(PathBuf, Vec<u8>),
    revoked: Option<&(PathBuf, Vec<u8>)>,
    provider: &Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(authority)? {
        roots
            .add(certificate)
            .map_err(|error| refused(&authority.0, format!("not usable as an authority: {error}")))?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    if let Some((path, bytes)) = revoked {
        let lists: Result<Vec<_>, _> = if bytes.starts_with(b"-----") {
            CertificateRevocationListDer::pem_slice_iter(bytes).collect()
        } else {
            Ok(vec![CertificateRevocationListDer::from(bytes.clone())])
        };
        let lists = lists.map_err(|error| refused(path, format!("not a revocation list: {error}")))?;
        if lists.is_empty() {
            return Err(refused(path, "there is no revocation list in it"));
        }
        // As in etcd a list speaks of the certificates in it; those of other authorities are not its matter.
        builder = builder.with_crls(lists).allow_unknown_revocation_status();
    }
    let verifier = builder.build().map_err(|error| match revoked {
        Some((path, _)) => refused(path, format!("cannot be used with {}: {error}", authority.0.display())),
        None => refused(&authority.0, error),
    })?;
    clients::allow(verifier, &settings.allowed_hostnames).map_err(TlsError::Mismatch)
}
