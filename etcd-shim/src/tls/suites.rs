//! Go's names of cipher suites.

use rustls::crypto::ring::cipher_suite as ring;
use rustls::crypto::{CryptoProvider, ring::default_provider};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};

/// The suite that Go calls by this name.
fn suite(name: &str) -> Option<SupportedCipherSuite> {
    Some(match name {
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" => ring::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384" => ring::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256" => {
            ring::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
        }
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256" => ring::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384" => ring::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256" => ring::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        _ => return None,
    })
}

/// The cryptography to use: the named suites for TLS 1.2, or all; those of TLS 1.3 are always on.
pub fn provider(names: &[String]) -> Result<CryptoProvider, String> {
    let mut provider = default_provider();
    // Kubernetes always speaks TLS; AES-128 is the cheaper one where the processor has instructions for it.
    provider.cipher_suites.sort_by_key(|suite| !format!("{:?}", suite.suite()).contains("AES_128"));
    if names.is_empty() {
        return Ok(provider);
    }
    let tls13: &SupportedProtocolVersion = &rustls::version::TLS13;
    provider.cipher_suites.retain(|suite| suite.version() == tls13);
    for name in names {
        provider
            .cipher_suites
            .push(suite(name).ok_or_else(|| format!("unexpected TLS cipher suite {name:?}"))?);
    }
    Ok(provider)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_configuration_is_a_suite() {
        for name in crate::config::CIPHER_SUITES {
            assert_eq!(format!("{:?}", suite(name).unwrap().suite()), name);
        }
        assert_eq!(provider(&[]).unwrap().cipher_suites.len(), 9);
        let named = provider(&["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".to_owned()]).unwrap();
        assert_eq!(named.cipher_suites.len(), 4);
        assert!(provider(&["TLS_NOPE".to_owned()]).is_err());
    }
}
