//! TLS of the client port: certificates, who may connect, and picking up changed files.
//!
//! The files are named by etcd's flags. [`material`] reads them and builds what rustls needs, [`clients`]
//! judges the certificates of clients, [`suites`] knows Go's names of cipher suites, and [`mod@self_signed`] makes
//! a certificate for `--auto-tls`. [`TlsSource`] holds the configuration in use and looks at the files again
//! when somebody connects, so that a rotated certificate is served without a restart.
//!
//! Invariants:
//! - a server that starts has read every file it was given; a file that is missing, unreadable, empty or does
//!   not fit its neighbour stops the start with its name;
//! - later on a broken file never breaks the server: the last good material stays in use and a warning says
//!   why, once per state of the files;
//! - the files are read at most once per [`RECHECK_INTERVAL`], and only when somebody connects;
//! - a changed authority or revocation list counts for every handshake from then on: sessions with client
//!   certificates are never resumed, because a resumed one would skip that judgement;
//! - handshakes themselves have a deadline (in `listener`), and no key is ever logged.
//!
//! Connections that are already open stay, as in etcd: a certificate is judged when it is shown.
//!
//! Deliberately missing: the identity of a client for authentication (it comes with Auth), TLS for peers,
//! OCSP, and TLS below 1.2, which rustls does not speak and Go's defaults refuse as well.

mod clients;
mod material;
mod self_signed;
mod suites;

pub use self_signed::self_signed;

use crate::config::TlsSettings;
use material::Files;
use parking_lot::Mutex;
use rustls::ServerConfig;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long material is used before its files are looked at again.
pub const RECHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Why TLS cannot be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be used.
    #[error("{path}: {reason}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The files do not fit together, or the settings do not fit them.
    #[error("{0}")]
    Mismatch(String),
}

/// The configuration to shake hands with, always the newest good one.
#[derive(Debug)]
pub struct TlsSource {
    settings: TlsSettings,
    recheck_interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What `config` was built from, or, after a failure, what could not be used.
    seen: Result<Files, TlsError>,
    checked_at: Instant,
    config: Arc<ServerConfig>,
}

impl TlsSource {
    /// Reads the files for the first time.
    pub fn open(settings: TlsSettings) -> Result<TlsSource, TlsError> {
        TlsSource::with_interval(settings, RECHECK_INTERVAL)
    }

    fn with_interval(settings: TlsSettings, recheck_interval: Duration) -> Result<TlsSource, TlsError> {
        let files = Files::read(&settings)?;
        let config = Arc::new(material::build(&settings, &files)?);
        let state = Mutex::new(State { seen: Ok(files), checked_at: Instant::now(), config });
        Ok(TlsSource { settings, recheck_interval, state })
    }

    /// The configuration for one handshake.
    pub fn current(&self) -> Arc<ServerConfig> {
        let mut state = self.state.lock();
        if state.checked_at.elapsed() >= self.recheck_interval {
            self.recheck(&mut state);
            state.checked_at = Instant::now();
        }
        state.config.clone()
    }

    fn recheck(&self, state: &mut State) {
        // Content is compared, not times: a rotation by symbolic link or within one tick of the file
        // system's clock must not be missed, and the files are small.
        let seen = Files::read(&self.settings);
        if seen == state.seen {
            return;
        }
        match seen.as_ref().map_err(TlsError::clone).and_then(|files| material::build(&self.settings, files))
        {
            Ok(config) => {
                state.config = Arc::new(config);
                tracing::info!("changed TLS files are in use");
            }
            Err(error) => {
                tracing::warn!(%error, "changed TLS files cannot be used; the previous ones stay in use");
            }
        }
        state.seen = seen;
    }
}

#[cfg(test)]
mod tests;
