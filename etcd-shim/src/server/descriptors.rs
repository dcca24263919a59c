//! Open files: how many the system allows, and who gets them.

use crate::http::descriptors_max;
use rustix::process::{Resource, getrlimit, setrlimit};

/// Files kept for what is not a connection of a client: the storage engine, the log, metrics, logging.
const RESERVED: u64 = 512;

/// Log, first tables, threads and a few clients need so many: with less a store starts and stops itself at some later write.
const FILES_MIN: u64 = 192;

/// When the system allows less than the reserve, connections get this many all the same: a server that
/// accepts nobody is no server.
const CONNECTIONS_MIN: u64 = 64;

/// What we assume when the system has no limit.
const UNLIMITED: u64 = 1 << 20;

/// Raises the soft limit to the hard one, as Go's runtime does for etcd, and gives what is allowed then.
pub fn raise() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let before = limit.current;
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, limit = before.unwrap_or(UNLIMITED), "cannot raise the limit of open files");
        }
    }
    descriptors_max().unwrap_or(UNLIMITED)
}

/// Whether a store can live with so many open files at all.
///
/// # Errors
/// What to do if it cannot.
pub fn check(descriptors: u64) -> Result<(), String> {
    let wanted = RESERVED + CONNECTIONS_MIN;
    if descriptors < FILES_MIN {
        return Err(format!(
            "the limit of open files is {descriptors}: a store that grows would stop in the middle of its work; raise it to \
             {wanted} or more (ulimit -n, LimitNOFILE= of systemd)"
        ));
    }
    if descriptors < wanted {
        tracing::warn!(
            limit = descriptors,
            wanted,
            "the limit of open files is low: a large store would not find enough"
        );
    }
    Ok(())
}

/// How many connections clients may have at a time.
pub fn connections_max(descriptors: u64, asked: Option<usize>) -> usize {
    let allowed = descriptors.saturating_sub(RESERVED).max(CONNECTIONS_MIN);
    let allowed = usize::try_from(allowed).unwrap_or(usize::MAX);
    match asked {
        Some(asked) if asked > allowed => {
            tracing::warn!(
                asked,
                allowed,
                "--max-client-connections is more than the limit of open files allows"
            );
            allowed
        }
        Some(asked) => asked,
        None => allowed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_files_are_refused_before_anything_is_written() {
        assert!(check(FILES_MIN - 1).unwrap_err().contains("ulimit -n"));
        assert_eq!(check(FILES_MIN), Ok(()));
    }

    #[test]
    fn connections_leave_room_for_files() {
        assert_eq!(connections_max(10_512, None), 10_000);
        assert_eq!(connections_max(10_512, Some(5)), 5);
        assert_eq!(connections_max(1_024, Some(100_000)), 512);
        assert_eq!(connections_max(100, None), 64);
    }
}
