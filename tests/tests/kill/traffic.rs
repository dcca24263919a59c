//! Clients: each makes one request after the other, of every kind, on keys that they all share.

use crate::history::{
    Answer, Call, Compare, Delete, KEYS, Key, Operation, Outcome, Put, Read, Record, Refusal, Relation,
    Request, Target, Transaction,
};
use crate::run::{PATIENCE, Random, Run};
use crate::wire;
use holdfast_tests::wire::etcdserverpb::kv_client::KvClient;
use holdfast_tests::wire::etcdserverpb::lease_client::LeaseClient;
use holdfast_tests::wire::etcdserverpb::{
    CompactionRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest,
};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;
use tonic::transport::Channel;

/// No answer within this is as good as none.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// Short enough to end during the run.
const TTL_S: i64 = 2;
/// Leases that one client holds.
const LEASES_MAX: usize = 3;
/// How far behind the newest revision a compaction stays at most: past reads and watches need something to read.
const KEPT_REVISIONS: u64 = 600;

/// Requests of a client before it writes some large values, about.
const CALLS_BETWEEN_BURSTS: u64 = 400;
const BURST_PUTS: usize = 8;
/// Large values of which the previous versions together are longer than a message: 576 KiB, see `--max-request-bytes` of this
/// test and what a message may have beside.
const SWEPT_KEYS: Key = 12;

/// One client and all that it has done.
pub struct Client {
    number: usize,
    run: Arc<Run>,
    kv: KvClient<Channel>,
    lease: LeaseClient<Channel>,
    pub calls: Vec<Call>,
    /// Versions that it has read last; the guards of its transactions.
    known: BTreeMap<Key, Record>,
    leases: Vec<i64>,
}

impl Client {
    pub fn new(number: usize, channel: Channel, run: Arc<Run>) -> Client {
        let (kv, lease) = (KvClient::new(channel.clone()), LeaseClient::new(channel));
        Client { number, run, kv, lease, calls: Vec::new(), known: BTreeMap::new(), leases: Vec::new() }
    }

    /// Makes requests until the run stops.
    pub async fn work(mut self, mut random: Random) -> Vec<Call> {
        while !self.run.is_stopped() {
            self.run.going().await;
            let request = self.choose(&mut random);
            self.call(request).await;
            if random.one_in(CALLS_BETWEEN_BURSTS) {
                match random.one_in(2) {
                    true => self.burst(random.key(0..KEYS)).await,
                    false => self.sweep(random.key(0..KEYS - SWEPT_KEYS)).await,
                }
            }
        }
        self.calls
    }

    /// Writes large values to one key.
    async fn burst(&mut self, key: Key) {
        for _ in 0..BURST_PUTS {
            let value = wire::LARGE_FROM + self.run.next_value();
            self.call(Request::Keys(Operation::Put(Put { key, value, lease: 0, previous: false }))).await;
        }
    }

    /// The others rest meanwhile, or there would soon be small values among the large ones.
    async fn sweep(&mut self, first: Key) {
        let run = Arc::clone(&self.run);
        let _rest = run.pause();
        for request in sweep(&run, first) {
            self.call(request).await;
        }
    }

    /// Makes a request until it is answered; there is nobody to disturb it any more.
    pub async fn must(&mut self, request: Request) -> (i64, Answer) {
        let deadline = self.run.now() + PATIENCE;
        loop {
            if let Some((revision, answer)) = self.call(request.clone()).await.answered() {
                return (revision, answer.clone());
            }
            assert!(self.run.now() < deadline, "no answer: {request:?}");
        }
    }

    pub async fn call(&mut self, request: Request) -> &Call {
        let invoked = self.run.now();
        let result = tokio::time::timeout(REQUEST_LIMIT, self.send(&request)).await;
        let returned = self.run.now();
        let outcome = match result {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(status)) => wire::failed(&status, self.run.was_killed(invoked, returned)),
            Err(_) => Outcome::Unknown,
        };
        if matches!(outcome, Outcome::Unknown) {
            self.run.serving().await;
        }
        self.learn(&request, &outcome);
        self.calls.push(Call { client: self.number, request, invoked, returned, outcome });
        self.calls.last().expect("it was just pushed")
    }

    async fn send(&mut self, request: &Request) -> Result<Outcome, Status> {
        Ok(match request {
            Request::Keys(Operation::Put(put)) => {
                let response = self.kv.put(wire::put(put)).await?.into_inner();
                wire::answered(response.header, wire::put_answer(&response))
            }
            Request::Keys(Operation::Delete(delete)) => {
                let response = self.kv.delete_range(wire::delete(delete)).await?.into_inner();
                wire::answered(response.header, wire::delete_answer(&response))
            }
            Request::Keys(Operation::Read(read)) => {
                let response = self.kv.range(wire::range(read)).await?.into_inner();
                wire::answered(response.header, wire::range_answer(&response))
            }
            Request::Keys(Operation::Transaction(transaction)) => {
                let response = self.kv.txn(wire::transaction(transaction)).await?.into_inner();
                wire::answered(response.header, wire::transaction_answer(&response))
            }
            Request::Compact { revision } => {
                self.run.compact(*revision);
                let request = CompactionRequest { revision: *revision, ..Default::default() };
                wire::answered(self.kv.compact(request).await?.into_inner().header, Answer::Done)
            }
            Request::Grant { lease, ttl_s } => {
                let request = LeaseGrantRequest { id: *lease, ttl: *ttl_s };
                let response = self.lease.lease_grant(request).await?.into_inner();
                wire::answered(response.header, Answer::Lease { ttl_s: response.ttl })
            }
            Request::Revoke { lease } => {
                let response = self.lease.lease_revoke(LeaseRevokeRequest { id: *lease }).await?;
                wire::answered(response.into_inner().header, Answer::Done)
            }
            Request::TimeToLive { lease } => {
                let request = LeaseTimeToLiveRequest { id: *lease, keys: false };
                let response = self.lease.lease_time_to_live(request).await?.into_inner();
                let gone = response.ttl < 0;
                lease_answer(response.header, response.ttl, gone)
            }
            Request::Renew { lease } => self.renew(*lease).await?,
        })
    }

    async fn renew(&mut self, lease: i64) -> Result<Outcome, Status> {
        // The stream ends with this side's only request behind it; the answer comes all the same.
        let requests = tokio_stream::once(LeaseKeepAliveRequest { id: lease });
        let mut answers = self.lease.lease_keep_alive(requests).await?.into_inner();
        Ok(match answers.message().await? {
            Some(response) => lease_answer(response.header, response.ttl, response.ttl <= 0),
            None => return Err(Status::internal("a stream of renewals ended without an answer")),
        })
    }

    fn learn(&mut self, request: &Request, outcome: &Outcome) {
        match (request, outcome) {
            (Request::Keys(_), Outcome::Answered { answer, .. }) => self.learn_records(answer),
            (Request::Grant { lease, .. }, _) => {
                self.leases.push(*lease);
                if self.leases.len() > LEASES_MAX {
                    // Nobody renews it any more: it ends by itself.
                    self.leases.remove(0);
                }
            }
            (Request::Revoke { lease }, Outcome::Answered { .. })
            | (Request::Renew { lease }, Outcome::Refused(_)) => {
                self.leases.retain(|other| other != lease);
            }
            _ => {}
        }
    }

    fn learn_records(&mut self, answer: &Answer) {
        match answer {
            Answer::Read { records, .. } => {
                self.known.extend(records.iter().map(|record| (record.key, record.clone())));
            }
            Answer::Transaction { answers, .. } => {
                answers.iter().for_each(|answer| self.learn_records(answer));
            }
            _ => {}
        }
    }

    fn choose(&self, random: &mut Random) -> Request {
        let key = random.key(0..KEYS);
        let lease = self.leases.get(random.below(LEASES_MAX as u64) as usize).copied();
        match random.below(100) {
            0..20 => Request::Keys(Operation::Put(self.put(key, random))),
            20..28 => Request::Keys(self.create(key, random)),
            28..42 => Request::Keys(self.update(random)),
            42..48 => Request::Keys(self.guarded_delete(random)),
            48..58 => Request::Keys(Operation::Transaction(self.many(random))),
            58..63 => {
                let keys = key..KEYS.min(key + 1 + random.key(0..2));
                Request::Keys(Operation::Delete(Delete { keys, previous: random.one_in(2) }))
            }
            63..76 => Request::Keys(Operation::Read(read(some_keys(random), random, 0, false))),
            76..82 => Request::Keys(Operation::Read(read(some_keys(random), random, 0, true))),
            82..88 => {
                let behind = random.below(KEPT_REVISIONS + 100) as i64;
                let revision = (self.run.followed() - behind).max(1);
                let serializable = random.one_in(2);
                Request::Keys(Operation::Read(read(some_keys(random), random, revision, serializable)))
            }
            88..91 => Request::Grant { lease: self.run.next_lease(), ttl_s: TTL_S },
            91..97 if lease.is_some() => {
                let lease = lease.unwrap_or_default();
                match random.below(6) {
                    0 => Request::Revoke { lease },
                    1 | 2 => Request::TimeToLive { lease },
                    _ => Request::Renew { lease },
                }
            }
            97 => self.compact(random),
            _ => Request::Keys(Operation::Read(read(key..key + 1, random, 0, false))),
        }
    }

    fn put(&self, key: Key, random: &mut Random) -> Put {
        let lease = if random.one_in(5) { self.leases.last().copied() } else { None };
        Put {
            key,
            value: self.run.next_value(),
            lease: lease.unwrap_or_default(),
            previous: random.one_in(3),
        }
    }

    /// As kube-apiserver creates.
    fn create(&self, key: Key, random: &mut Random) -> Operation {
        let guard = compare(key, Relation::Equal, Target::Modified(0));
        guarded(guard, Operation::Put(self.put(key, random)), key)
    }

    /// As kube-apiserver updates, with what was read last.
    fn update(&self, random: &mut Random) -> Operation {
        let (key, modified) = self.known_version(random);
        let guard = compare(key, Relation::Equal, Target::Modified(modified));
        guarded(guard, Operation::Put(self.put(key, random)), key)
    }

    /// As kube-apiserver deletes.
    fn guarded_delete(&self, random: &mut Random) -> Operation {
        let (key, modified) = self.known_version(random);
        let guard = compare(key, Relation::Equal, Target::Modified(modified));
        guarded(guard, Operation::Delete(Delete { keys: key..key + 1, previous: true }), key)
    }

    fn known_version(&self, random: &mut Random) -> (Key, i64) {
        let place = random.below(self.known.len().max(1) as u64) as usize;
        let known = self.known.values().nth(place);
        known.map_or((0, 0), |record| (record.key, record.modified))
    }

    /// Some keys at once, with compares of every kind and a transaction within the transaction.
    fn many(&self, random: &mut Random) -> Transaction {
        let guard = |random: &mut Random| {
            let (key, modified) = self.known_version(random);
            let record = self.known.get(&key);
            let of = |field: fn(&Record) -> i64| record.map_or(0, field);
            match random.below(6) {
                0 => compare(key, Relation::Less, Target::Version(of(|record| record.version) + 1)),
                1 => compare(key, Relation::Greater, Target::Create(of(|record| record.create) - 1)),
                2 => compare(key, Relation::NotEqual, Target::Modified(modified)),
                3 => compare(
                    key,
                    Relation::Equal,
                    // One that fits beside what else is in the request.
                    Target::Value(record.map_or(1, |record| record.value).clamp(1, wire::LARGE_FROM - 1)),
                ),
                4 => compare(key, Relation::Equal, Target::Lease(0)),
                _ => compare(key, Relation::Greater, Target::Version(0)),
            }
        };
        // Each key is written once: etcd refuses more, but for nested transactions.
        let first = random.key(0..KEYS - 6);
        let nested = Transaction {
            compares: vec![guard(random)],
            success: vec![
                Operation::Put(self.put(first + 3, random)),
                Operation::Delete(Delete { keys: first + 4..first + 6, previous: random.one_in(2) }),
            ],
            failure: vec![Operation::Put(self.put(first + 4, random))],
        };
        Transaction {
            compares: (0..random.below(3)).map(|_| guard(random)).collect(),
            success: vec![
                Operation::Put(self.put(first + 1, random)),
                Operation::Read(Read { keys: first..first + 3, limit: 0, revision: 0, serializable: false }),
                Operation::Delete(Delete { keys: first..first + 1, previous: true }),
                Operation::Transaction(nested),
                Operation::Put(self.put(first + 2, random)),
            ],
            failure: vec![
                Operation::Read(Read { keys: first..first + 6, limit: 3, revision: 0, serializable: false }),
                Operation::Put(self.put(first, random)),
                Operation::Put(self.put(first + 5, random)),
            ],
        }
    }

    /// Never beyond what the follower has: its history would have a hole.
    fn compact(&self, random: &mut Random) -> Request {
        let behind = if random.one_in(4) { 0 } else { random.below(KEPT_REVISIONS) as i64 };
        Request::Compact { revision: (self.run.followed() - behind).max(1) }
    }
}

/// Puts large values to keys from `first` on and takes them all away in one transaction: with what was there before, its
/// events are more than a message may hold.
pub fn sweep(run: &Run, first: Key) -> Vec<Request> {
    let keys = first..first + SWEPT_KEYS;
    let put = |key, value| Operation::Put(Put { key, value, lease: 0, previous: false });
    let puts = keys.clone().map(|key| Request::Keys(put(key, wire::LARGE_FROM + run.next_value())));
    let mut requests = puts.collect::<Vec<_>>();
    let success = vec![put(keys.end, run.next_value()), Operation::Delete(Delete { keys, previous: false })];
    let transaction = Transaction { compares: Vec::new(), success, failure: Vec::new() };
    requests.push(Request::Keys(Operation::Transaction(transaction)));
    requests
}

fn lease_answer(
    header: Option<holdfast_tests::wire::etcdserverpb::ResponseHeader>,
    ttl_s: i64,
    gone: bool,
) -> Outcome {
    if gone {
        Outcome::Refused(Refusal::LeaseNotFound)
    } else {
        wire::answered(header, Answer::Lease { ttl_s })
    }
}

fn compare(key: Key, relation: Relation, target: Target) -> Compare {
    Compare { key, relation, target }
}

/// `then` if the guard holds; else what is there.
fn guarded(guard: Compare, then: Operation, key: Key) -> Operation {
    let get = Read { keys: key..key + 1, limit: 0, revision: 0, serializable: false };
    Operation::Transaction(Transaction {
        compares: vec![guard],
        success: vec![then],
        failure: vec![Operation::Read(get)],
    })
}

fn read(keys: Range<Key>, random: &mut Random, revision: i64, serializable: bool) -> Read {
    let limit = if random.one_in(3) { 1 + random.below(5) as i64 } else { 0 };
    Read { keys, limit, revision, serializable }
}

fn some_keys(random: &mut Random) -> Range<Key> {
    let start = random.key(0..KEYS);
    start..start + 1 + random.key(0..KEYS - start)
}

/// Waits until no lease holds a key any more; they all end by themselves.
pub async fn await_ends_of_leases(client: &mut Client) {
    let deadline = client.run.now() + PATIENCE;
    loop {
        let all = Read { keys: 0..KEYS, limit: 0, revision: 0, serializable: false };
        let (_, answer) = client.must(Request::Keys(Operation::Read(all))).await;
        let Answer::Read { records, .. } = answer else { unreachable!("the answer to a read") };
        if records.iter().all(|record| record.lease == 0) {
            return;
        }
        assert!(client.run.now() < deadline, "these leases do not end: {records:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
