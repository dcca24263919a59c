//! Errors as etcd's codes and texts. Clients compare the text, so every letter counts.

use kvstore::{Error, InvalidRequest};
use tonic::{Code, Status};

/// An error that etcd's clients know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known(pub Code, pub &'static str);

macro_rules! known {
    ($($name:ident = $code:ident $text:literal;)*) => {
        $(
            #[doc = $text]
            pub const $name: Known = Known(Code::$code, concat!("etcdserver: ", $text));
        )*
        #[cfg(test)]
        const ALL: &[Known] = &[$($name),*];
    };
}

known! {
    EMPTY_KEY = InvalidArgument "key is not provided";
    KEY_NOT_FOUND = InvalidArgument "key not found";
    VALUE_PROVIDED = InvalidArgument "value is provided";
    LEASE_PROVIDED = InvalidArgument "lease is provided";
    TOO_MANY_OPERATIONS = InvalidArgument "too many operations in txn request";
    DUPLICATE_KEY = InvalidArgument "duplicate key given in txn request";
    INVALID_CLIENT_VERSION = InvalidArgument "invalid client api version";
    INVALID_SORT = InvalidArgument "invalid sort option";
    REQUEST_TOO_LARGE = InvalidArgument "request is too large";
    COMPACTED = OutOfRange "mvcc: required revision has been compacted";
    FUTURE_REVISION = OutOfRange "mvcc: required revision is a future revision";
    LEASE_TTL_TOO_LARGE = OutOfRange "too large lease TTL";
    NO_SPACE = ResourceExhausted "mvcc: database space exceeded";
    // etcd maps this one to an error without a status; it leaves as Unknown.
    TOO_MANY_REQUESTS = Unknown "too many requests";
    LEASE_NOT_FOUND = NotFound "requested lease not found";
    LEASE_EXISTS = FailedPrecondition "lease already exists";
    AUTH_NOT_ENABLED = FailedPrecondition "authentication is not enabled";
    NOT_LEADER = FailedPrecondition "not leader";
    NO_LEADER = Unavailable "no leader";
    STOPPED = Unavailable "server stopped";
    TIMEOUT = Unavailable "request timed out";
    TIMEOUT_LEADER_FAILED = Unavailable "request timed out, possibly due to previous leader failure";
    CORRUPT = DataLoss "corrupt cluster";
}

impl From<Known> for Status {
    fn from(known: Known) -> Status {
        Status::new(known.0, known.1)
    }
}

/// The status a client of etcd expects for `error`.
pub fn of(error: Error) -> Status {
    match error {
        Error::Invalid(reason) => of_invalid(reason),
        Error::Compacted { .. } => COMPACTED.into(),
        Error::FutureRevision { .. } => FUTURE_REVISION.into(),
        Error::NoSpace(_) => NO_SPACE.into(),
        Error::CorruptAlarm => CORRUPT.into(),
        Error::TooManyRequests => TOO_MANY_REQUESTS.into(),
        Error::NotLeader { .. } => NOT_LEADER.into(),
        Error::NoLeader => NO_LEADER.into(),
        Error::Timeout => TIMEOUT.into(),
        Error::OutcomeUnknown(_) => TIMEOUT_LEADER_FAILED.into(),
        // A store that stopped itself is, to a client, a server that is gone: try another one.
        Error::Stopped | Error::Poisoned(_) => STOPPED.into(),
        error @ Error::Damaged { .. } => damaged(&error.to_string()),
        // The code at which clients try again, here or at another member.
        error @ Error::Unreadable(_) => Status::unavailable(format!("etcdserver: {error}")),
        // As etcd does with what its clients have no word for.
        other => Status::unknown(format!("etcdserver: {other}")),
    }
}

/// Data of this member that is not what was written. No client can mend that: the text is for the operator, whom the
/// server's log tells the same.
pub fn damaged(what: &str) -> Status {
    Status::data_loss(format!("etcdserver: the data of this member is damaged (see its log): {what}"))
}

fn of_invalid(reason: InvalidRequest) -> Status {
    match reason {
        InvalidRequest::EmptyKey => EMPTY_KEY.into(),
        InvalidRequest::KeyNotFound => KEY_NOT_FOUND.into(),
        InvalidRequest::DuplicateKey => DUPLICATE_KEY.into(),
        InvalidRequest::TooManyOperations { .. } => TOO_MANY_OPERATIONS.into(),
        InvalidRequest::TooLarge { .. } => REQUEST_TOO_LARGE.into(),
        InvalidRequest::LeaseNotFound => LEASE_NOT_FOUND.into(),
        InvalidRequest::LeaseExists => LEASE_EXISTS.into(),
        InvalidRequest::LeaseTtlTooLarge => LEASE_TTL_TOO_LARGE.into(),
        other => Status::invalid_argument(format!("etcdserver: {other}")),
    }
}

/// A request that this server has no answer for yet.
pub fn not_yet(what: &str) -> Status {
    Status::unimplemented(format!("etcdserver: {what} is not supported yet by this server (Holdfast)"))
}

/// A message above the receive limit, in grpc-go's words.
pub fn message_too_large(size_bytes: u64, limit_bytes: u64) -> Status {
    Status::resource_exhausted(format!(
        "grpc: received message larger than max ({size_bytes} vs. {limit_bytes})"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvstore::Revision;

    #[test]
    fn every_text_is_different_and_prefixed() {
        for (at, known) in ALL.iter().enumerate() {
            assert!(known.1.starts_with("etcdserver: "), "{}", known.1);
            assert!(!ALL[..at].iter().any(|other| other.1 == known.1), "{}", known.1);
        }
    }

    #[test]
    fn codes_and_texts_are_etcds() {
        let cases: [(Error, i32, &str); 14] = [
            (InvalidRequest::EmptyKey.into(), 3, "etcdserver: key is not provided"),
            (InvalidRequest::KeyNotFound.into(), 3, "etcdserver: key not found"),
            (InvalidRequest::DuplicateKey.into(), 3, "etcdserver: duplicate key given in txn request"),
            (InvalidRequest::LeaseNotFound.into(), 5, "etcdserver: requested lease not found"),
            (InvalidRequest::LeaseExists.into(), 9, "etcdserver: lease already exists"),
            (InvalidRequest::LeaseTtlTooLarge.into(), 11, "etcdserver: too large lease TTL"),
            (
                Error::Compacted { floor: Revision::new(7) },
                11,
                "etcdserver: mvcc: required revision has been compacted",
            ),
            (
                Error::FutureRevision { current: Revision::new(7) },
                11,
                "etcdserver: mvcc: required revision is a future revision",
            ),
            (Error::NoSpace("quota".into()), 8, "etcdserver: mvcc: database space exceeded"),
            (Error::TooManyRequests, 2, "etcdserver: too many requests"),
            (Error::NoLeader, 14, "etcdserver: no leader"),
            (Error::Timeout, 14, "etcdserver: request timed out"),
            (Error::CorruptAlarm, 15, "etcdserver: corrupt cluster"),
            (Error::Stopped, 14, "etcdserver: server stopped"),
        ];
        for (error, code, text) in cases {
            let status = of(error);
            assert_eq!((status.code() as i32, status.message()), (code, text));
        }
    }
}
