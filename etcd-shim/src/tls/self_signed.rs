//! `--auto-tls`: a certificate that signs itself.
//!
//! It encrypts and proves nothing, as in etcd: clients cannot verify it. It lies in `fixtures/client` of the
//! data directory, so that a restart shows the same one.

use super::TlsError;
use crate::config::{Address, TlsSettings, Url};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long before its end a certificate is replaced at start.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Makes (or finds) the certificate for these URLs and returns the settings that use it.
pub fn self_signed(settings: &TlsSettings, data_dir: &Path, urls: &[Url]) -> Result<TlsSettings, TlsError> {
    let dir = data_dir.join("fixtures").join("client");
    let (cert_file, key_file) = (dir.join("cert.pem"), dir.join("key.pem"));
    let validity = YEAR * u32::try_from(settings.self_signed_validity_years).unwrap_or(u32::MAX);
    if !(key_file.exists() && is_fresh(&cert_file, validity)) {
        let refused = |path: &Path, reason: String| TlsError::File { path: path.to_owned(), reason };
        std::fs::create_dir_all(&dir).map_err(|error| refused(&dir, error.to_string()))?;
        let (certificate, key) =
            generate(urls, validity).map_err(|error| refused(&dir, error.to_string()))?;
        // The key first: a certificate on disk means that both are complete.
        for (path, text) in [(&key_file, key), (&cert_file, certificate)] {
            write_private(path, &text).map_err(|error| refused(path, error.to_string()))?;
        }
    }
    Ok(TlsSettings { cert_file: Some(cert_file), key_file: Some(key_file), ..settings.clone() })
}

fn is_fresh(path: &Path, validity: Duration) -> bool {
    let made = std::fs::metadata(path).and_then(|metadata| metadata.modified());
    // A file from the future is a clock that was set back; the certificate is no older for it.
    made.is_ok_and(|made| made.elapsed().unwrap_or(Duration::ZERO) + RENEW_BEFORE < validity)
}

fn generate(urls: &[Url], validity: Duration) -> Result<(String, String), rcgen::Error> {
    let mut names = vec!["localhost".to_owned()];
    for url in urls {
        if let Address::Tcp { host, .. } = &url.address
            && !names.contains(host)
        {
            names.push(host.clone());
        }
    }
    let mut parameters = CertificateParams::new(names)?;
    let now = SystemTime::now();
    parameters.not_before = now.into();
    parameters.not_after = (now + validity).into();
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    parameters.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate()?;
    let certificate = parameters.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    // A new file under another name, because the mode of an existing one would stay as it is.
    let fresh = path.with_extension("new");
    let _ = std::fs::remove_file(&fresh);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)
}
