//! Lease requests.

use super::input::Input;
use super::state::{State, put};
use bytes::Bytes;
use etcd_shim::fuzzing;
use etcd_shim::proto::etcdserverpb as wire;
use etcd_shim::proto::plain::etcdserverpb as plain;
use kvstore::command::{Command, Outcome, Transaction};
use kvstore::store::lease_grant;
use kvstore::{ClockMillis, Error, InvalidRequest, KeyspaceId, LeaseId};
use prost::Message;

/// No more requests than this in one input.
const REQUESTS_MAX: usize = 64;
/// As many leases end in one proposal.
const EXPIRED_MAX: usize = 100;

/// The least time to live that a server with etcd's defaults grants, in seconds.
const TTL_MIN_S: i64 = 2;

/// Bytes: requests, each with a byte that says which and its length before it; behind a grant that leaves the id to the
/// server, the numbers that this one draws, a byte each. The clock goes on where a byte says so.
pub fn lease(data: &[u8]) {
    let mut input = Input::new(data);
    let mut state = State::with_history();
    for _ in 0..REQUESTS_MAX {
        if input.is_empty() {
            break;
        }
        let what = input.byte();
        state.now_ms = state.now_ms.saturating_add(u64::from(what >> 4) * 10_000);
        let message = Bytes::copy_from_slice(input.piece());
        match what & 7 {
            0 | 1 => grant(&mut state, message, &mut input),
            2 => revoke(&mut state, message),
            3 => keep_alive(&mut state, message),
            4 => time_to_live(&mut state, message),
            5 => expire(&mut state),
            6 => attach(&mut state, message),
            _ => state.check_reload(),
        }
    }
    state.check_reload();
}

fn contains(state: &mut State, id: LeaseId) -> bool {
    state
        .machine
        .leases(KeyspaceId::DEFAULT)
        .expect("an engine in memory does not fail")
        .get(id)
        .expect("the state works")
        .is_some()
}

/// As the edge does it, which raises the time to live, chooses ids and draws again when one is taken.
fn grant(state: &mut State, message: Bytes, input: &mut Input<'_>) {
    let Ok(request) = wire::LeaseGrantRequest::decode(message) else { return };
    let wanted = LeaseId::new(request.id);
    let ttl_max_s = kvstore::lease::MAX_TTL_S;
    let mut drawn = 0u64;
    loop {
        // Small numbers, so that some are taken; each time others, so that it ends.
        let random_number = || {
            drawn += 1 + u64::from(input.byte());
            drawn
        };
        let command = match lease_grant(wanted, request.ttl, TTL_MIN_S, random_number) {
            Ok(command) => command,
            Err(refused) => {
                assert_eq!(refused, InvalidRequest::LeaseTtlTooLarge);
                return assert!(request.ttl > ttl_max_s);
            }
        };
        let Command::LeaseGrant { id, ttl_s } = command else { panic!("{command:?}") };
        assert!(if wanted == LeaseId::NONE { id.get() > 0 } else { id == wanted }, "{id} for {wanted}");
        assert_eq!(ttl_s, request.ttl.max(TTL_MIN_S));
        let existed = contains(state, id);
        match state.command(Command::LeaseGrant { id, ttl_s }) {
            Ok(Outcome::LeaseGranted { id: granted, ttl_s: for_s, .. }) => {
                assert_eq!((granted, for_s, existed), (id, ttl_s, false));
                return assert!(contains(state, id));
            }
            Err(Error::Invalid(InvalidRequest::LeaseExists)) => {
                assert!(existed);
                if wanted != LeaseId::NONE {
                    return;
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

fn revoke(state: &mut State, message: Bytes) {
    let Ok(request) = wire::LeaseRevokeRequest::decode(message) else { return };
    let id = LeaseId::new(request.id);
    let existed = contains(state, id);
    let ended = state.command(Command::LeaseRevoke { id });
    assert_eq!(ended.is_ok(), existed, "{ended:?}");
    assert!(!contains(state, id));
}

fn keep_alive(state: &mut State, message: Bytes) {
    let Ok(request) = wire::LeaseKeepAliveRequest::decode(message) else { return };
    let id = LeaseId::new(request.id);
    let existed = contains(state, id);
    match state.command(Command::LeaseRenew { ids: vec![id, id] }) {
        Ok(Outcome::LeaseRenewed { ttls_s, .. }) => {
            assert_eq!(ttls_s.len(), 2);
            assert!(ttls_s.iter().all(|ttl_s| ttl_s.is_some() == existed));
        }
        other => panic!("{other:?}"),
    }
}

fn time_to_live(state: &mut State, message: Bytes) {
    let Ok(request) = wire::LeaseTimeToLiveRequest::decode(message) else { return };
    let id = LeaseId::new(request.id);
    let leases = state.machine.leases(KeyspaceId::DEFAULT).expect("an engine in memory does not fail");
    let info = leases.time_to_live(id, state.machine.clock(), request.keys).expect("the state works");
    let bytes = fuzzing::time_to_live(request.id, info.clone(), None).encode_to_vec();
    let response = plain::LeaseTimeToLiveResponse::decode(&bytes[..]).expect("a response is readable");
    assert_eq!(response.id, request.id);
    match info {
        Some(info) => {
            assert!(info.remaining_ttl_s <= info.granted_ttl_s.max(0), "{info:?}");
            assert!(info.keys.is_sorted() && (request.keys || info.keys.is_empty()));
            assert_eq!((response.ttl, response.granted_ttl), (info.remaining_ttl_s, info.granted_ttl_s));
        }
        None => assert_eq!(response.ttl, -1),
    }
}

/// What a leader does when time passes.
fn expire(state: &mut State) {
    let now = ClockMillis::new(state.now_ms);
    for (keyspace, leases) in state.machine.expired(now, EXPIRED_MAX) {
        assert!(!leases.is_empty());
        state.apply_to(vec![(keyspace, Command::LeaseExpire { leases: leases.clone() })]);
        for (id, _) in leases {
            assert!(!contains(state, id), "{id} has ended");
        }
    }
}

fn attach(state: &mut State, message: Bytes) {
    let Ok(request) = wire::PutRequest::decode(message) else { return };
    if request.key.is_empty() {
        return;
    }
    let lease = LeaseId::new(request.lease);
    let existed = lease == LeaseId::NONE || contains(state, lease);
    let success = vec![put(request.key, request.value, request.lease)];
    let outcome = state.transact(Transaction { success, ..Transaction::default() });
    assert_eq!(outcome.is_ok(), existed, "{outcome:?}");
}
