//! URLs that members listen on and tell others about.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

/// How a URL's peer is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// Plain TCP.
    Http,
    /// TLS over TCP.
    Https,
    /// A plain unix socket.
    Unix,
    /// TLS over a unix socket.
    Unixs,
}

impl Scheme {
    /// Whether TLS is spoken.
    pub fn is_secure(self) -> bool {
        matches!(self, Scheme::Https | Scheme::Unixs)
    }

    fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Unix => "unix",
            Scheme::Unixs => "unixs",
        }
    }
}

/// Where a URL leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// A host (name or address, IPv6 without brackets) and a port; port 0 lets the system choose.
    Tcp {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
    /// A socket file. etcd's `unix://localhost:2379` is the relative file `localhost:2379`.
    Path(PathBuf),
}

/// A URL without a path, as etcd allows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Url {
    /// How.
    pub scheme: Scheme,
    /// Where.
    pub address: Address,
}

impl Url {
    /// Parses one URL with etcd's rules and its words.
    pub fn parse(text: &str) -> Result<Url, String> {
        let text = text.trim();
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("URL scheme must be http, https, unix, or unixs: {text}"));
        };
        let scheme = match scheme {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "unix" => Scheme::Unix,
            "unixs" => Scheme::Unixs,
            _ => return Err(format!("URL scheme must be http, https, unix, or unixs: {text}")),
        };
        if matches!(scheme, Scheme::Unix | Scheme::Unixs) {
            if rest.is_empty() {
                return Err(format!("a unix URL names a socket file: {text}"));
            }
            return Ok(Url { scheme, address: Address::Path(PathBuf::from(rest)) });
        }
        if rest.contains('/') {
            return Err(format!("URL must not contain a path: {text}"));
        }
        let form = || format!("URL address does not have the form \"host:port\": {text}");
        let (host, port) = rest.rsplit_once(':').ok_or_else(form)?;
        let host = match host.strip_prefix('[') {
            Some(bracketed) => bracketed.strip_suffix(']').ok_or_else(form)?,
            None if host.contains(':') => return Err(form()),
            None => host,
        };
        let is_foreign = |letter: char| letter.is_whitespace() || letter.is_control();
        if host.contains(['[', ']', '@', '?', '#']) || host.contains(is_foreign) {
            return Err(form());
        }
        let port = port.parse().map_err(|_| form())?;
        Ok(Url { scheme, address: Address::Tcp { host: host.to_owned(), port } })
    }

    /// Parses a comma-separated list; etcd sorts it.
    pub fn parse_list(text: &str) -> Result<Vec<Url>, String> {
        let urls: Result<Vec<Url>, String> =
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(Url::parse).collect();
        let mut urls = urls?;
        urls.sort_by_key(Url::to_string);
        Ok(urls)
    }

    /// Whether one can bind it: an IP address, `localhost` or a socket file, never a DNS name.
    pub fn check_bindable(&self) -> Result<(), String> {
        match &self.address {
            Address::Tcp { host, .. } if host != "localhost" && host.parse::<IpAddr>().is_err() => {
                Err(format!("expected IP in URL for binding ({self})"))
            }
            _ => Ok(()),
        }
    }

    /// Whether others could reach it.
    pub fn check_advertisable(&self) -> Result<(), String> {
        match &self.address {
            Address::Tcp { host, .. } if host.is_empty() => Err(format!("unexpected empty host ({self})")),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Tcp { host, port } if host.contains(':') => {
                write!(f, "{}://[{host}]:{port}", self.scheme.name())
            }
            Address::Tcp { host, port } => write!(f, "{}://{host}:{port}", self.scheme.name()),
            Address::Path(path) => write!(f, "{}://{}", self.scheme.name(), path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_form() {
        for text in [
            "http://localhost:2379",
            "https://127.0.0.1:0",
            "http://[::1]:2379",
            "unix:///run/holdfast.sock",
            "unix://localhost:2379",
            "unixs:///run/holdfast.sock",
        ] {
            assert_eq!(Url::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(
            Url::parse("unix://localhost:2379").unwrap().address,
            Address::Path(PathBuf::from("localhost:2379"))
        );
        assert_eq!(
            Url::parse_list("http://b:1,http://a:1, ").unwrap(),
            [Url::parse("http://a:1").unwrap(), Url::parse("http://b:1").unwrap()]
        );
    }

    #[test]
    fn refuses_with_etcds_words() {
        for (text, reason) in [
            ("localhost:2379", "URL scheme must be http, https, unix, or unixs: localhost:2379"),
            ("ftp://a:1", "URL scheme must be http, https, unix, or unixs: ftp://a:1"),
            ("http://a:1/x", "URL must not contain a path: http://a:1/x"),
            ("http://a", "URL address does not have the form \"host:port\": http://a"),
            ("http://a:99999", "URL address does not have the form \"host:port\": http://a:99999"),
            ("http://::1:80", "URL address does not have the form \"host:port\": http://::1:80"),
            ("http://[@]:1", "URL address does not have the form \"host:port\": http://[@]:1"),
            ("http://[a]b]:1", "URL address does not have the form \"host:port\": http://[a]b]:1"),
            ("http://a b:1", "URL address does not have the form \"host:port\": http://a b:1"),
            ("unix://", "a unix URL names a socket file: unix://"),
        ] {
            assert_eq!(Url::parse(text), Err(reason.to_owned()));
        }
    }

    #[test]
    fn binds_addresses_and_advertises_names() {
        assert!(Url::parse("http://example.com:1").unwrap().check_bindable().is_err());
        assert!(Url::parse("http://localhost:1").unwrap().check_bindable().is_ok());
        assert!(Url::parse("http://[::]:1").unwrap().check_bindable().is_ok());
        assert!(Url::parse("http://example.com:1").unwrap().check_advertisable().is_ok());
        assert!(Url::parse("http://:1").unwrap().check_advertisable().is_err());
    }
}
