//! A node with neighbours, and the judgement over an attack.

use holdfast_tests::wire::etcdserverpb::kv_client::KvClient;
use holdfast_tests::wire::etcdserverpb::{
    PutRequest, RangeRequest, RequestOp, TxnRequest, request_op::Request,
};
use holdfast_tests::{Node, Setup, Usage, forget_peak};
use prost::Message;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

/// An answer to a neighbour takes milliseconds; a machine that stands still for a while takes longer.
const NEIGHBOURS_PATIENCE: Duration = Duration::from_secs(60);
/// What an attack leaves must be gone within this.
const CLEANING_PATIENCE: Duration = Duration::from_secs(30);

/// A node that is used while it is attacked.
pub struct Attacked {
    pub node: Node,
    before: Usage,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    neighbours: JoinHandle<()>,
}

impl Attacked {
    pub async fn start(setup: Setup) -> Attacked {
        let node = setup.start();
        Attacked::with(node).await
    }

    /// A node that has been filled.
    pub async fn with(node: Node) -> Attacked {
        let stop = Arc::new(AtomicBool::new(false));
        let mut kv = KvClient::new(node.channel());
        once(&mut kv, 0).await;
        let answered = Arc::new(AtomicU64::new(0));
        let (its_stop, its_answered) = (stop.clone(), answered.clone());
        let neighbours = tokio::spawn(async move {
            while !its_stop.load(Ordering::Relaxed) {
                let number = its_answered.load(Ordering::Relaxed) + 1;
                once(&mut kv, number).await;
                its_answered.store(number, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        forget_peak(node.process_id());
        let before = Usage::of(node.process_id());
        Attacked { node, before, stop, answered, neighbours }
    }

    /// The most memory that was added since the start, in MiB.
    pub fn added_mib(&self) -> u64 {
        Usage::of(self.node.process_id()).peak_mib.saturating_sub(self.before.memory_mib)
    }

    pub fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.node.channel()).max_decoding_message_size(usize::MAX)
    }

    /// Sends the neighbours away, for a test that ends the node itself.
    pub async fn alone(self) -> Node {
        self.stop.store(true, Ordering::Relaxed);
        self.neighbours.await.expect("a request of a neighbour failed");
        self.node
    }

    /// To be called when the attacker has dropped all that it held.
    pub async fn check_unharmed(mut self) {
        self.before.comes_back(self.node.process_id(), CLEANING_PATIENCE).await;
        // They were served during it, and are served now.
        assert!(self.answered.load(Ordering::Relaxed) > 0, "no neighbour was served");
        let enough = self.answered.load(Ordering::Relaxed) + 10;
        while self.answered.load(Ordering::Relaxed) < enough && !self.neighbours.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.stop.store(true, Ordering::Relaxed);
        self.neighbours.await.expect("a request of a neighbour failed");
        assert!(!self.node.log().contains("panicked"), "something panicked");
        assert!(self.node.stop().success());
    }
}

async fn once(kv: &mut KvClient<Channel>, number: u64) {
    let key: tonic::codegen::Bytes = format!("neighbour/{}", number % 100).into();
    let value: tonic::codegen::Bytes = number.to_string().into();
    let put = kv.put(PutRequest { key: key.clone(), value: value.clone(), ..Default::default() });
    tokio::time::timeout(NEIGHBOURS_PATIENCE, put).await.expect("an answer in time").expect("a put");
    let get = kv.range(RangeRequest { key, ..Default::default() });
    let found = tokio::time::timeout(NEIGHBOURS_PATIENCE, get).await.expect("an answer in time");
    assert_eq!(found.expect("a get").into_inner().kvs[0].value, value);
}

/// Writes `count` keys below `prefix`, a hundred in a transaction.
pub async fn fill(node: &Node, prefix: &str, count: usize, value_bytes: usize) {
    let mut kv = KvClient::new(node.channel());
    for first in (0..count).step_by(100) {
        let put = |n: usize| PutRequest {
            key: format!("{prefix}{n:08}").into(),
            value: vec![n as u8; value_bytes].into(),
            ..Default::default()
        };
        let operation = |n| RequestOp { request: Some(Request::RequestPut(put(n))) };
        let success = (first..count.min(first + 100)).map(operation).collect();
        kv.txn(TxnRequest { success, ..Default::default() }).await.expect("the filling");
    }
}

/// Asks and reads nothing but the head of the answer: its message is left to the window.
pub async fn unread<Q, A>(channel: Channel, path: &'static str, request: Q) -> Result<Streaming<A>, Status>
where
    Q: Message + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
{
    let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(usize::MAX);
    grpc.ready().await.expect("a connection");
    let path = tonic::codegen::http::uri::PathAndQuery::from_static(path);
    let codec = tonic_prost::ProstCodec::<Q, A>::default();
    let call = grpc.server_streaming(tonic::Request::new(request), path, codec);
    let answer = tokio::time::timeout(Duration::from_secs(60), call).await.expect("in time");
    answer.map(tonic::Response::into_inner)
}
