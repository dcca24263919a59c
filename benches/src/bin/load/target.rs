//! Who is measured.

use crate::Failure;
use crate::arguments::{Arguments, TlsFiles};
use crate::device::Device;
use etcd_shim::proto::plain::etcdserverpb as pb;
use holdfast_tests::{Node, Setup, Transport, Usage, disk_bytes, forget_peak};
use pb::kv_client::KvClient;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// No server may refuse what another takes; etcd warns above 8 GiB.
const QUOTA_FLAG: &str = "--quota-backend-bytes=8589934592";
/// A server of a million keys starts within this on a slow disk.
const START_LIMIT: Duration = Duration::from_secs(300);
const ASK_EVERY: Duration = Duration::from_millis(1);
/// How much of its log a server shows that does not start.
const LOG_TAIL_BYTES: usize = 4 << 10;

pub struct Target {
    pub name: String,
    /// It keeps no promise, and shows what the rest could reach at most.
    pub is_ceiling: bool,
    pub place: Place,
    /// What has been prepared on it: prefixes with keys below them.
    pub prepared: BTreeSet<String>,
}

/// Where it comes from.
pub enum Place {
    /// Started by us, afresh whenever a scenario needs it.
    Ours { program: PathBuf, parent: PathBuf, node: Option<Node> },
    /// Somebody else's.
    Remote { endpoint: Box<Endpoint> },
}

/// All targets in the order of the command line. Nothing is started yet.
pub fn open_all(arguments: &Arguments) -> Result<Vec<Target>, Failure> {
    let mut targets = Vec::new();
    let parent = arguments.parent.clone().unwrap_or_else(std::env::temp_dir);
    let starts = arguments.starts.iter().map(|start| (start, false));
    for ((name, program), is_ceiling) in starts.chain(arguments.ceilings.iter().map(|start| (start, true))) {
        if !program.is_file() {
            return Err(format!("{}: no such program", program.display()).into());
        }
        let place = Place::Ours { program: program.clone(), parent: parent.clone(), node: None };
        targets.push(Target::new(name, is_ceiling, place));
    }
    for (name, url) in &arguments.targets {
        let endpoint = endpoint(url, &arguments.tls).map_err(|error| format!("{name}: {error}"))?;
        targets.push(Target::new(name, false, Place::Remote { endpoint: Box::new(endpoint) }));
    }
    Ok(targets)
}

fn endpoint(url: &str, files: &TlsFiles) -> Result<Endpoint, Failure> {
    let mut endpoint = Endpoint::from_shared(url.to_string())?.tcp_nodelay(true);
    if url.starts_with("https:") {
        let read =
            |path: &PathBuf| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
        let authority = files.authority.as_ref().ok_or("https needs --cacert")?;
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(authority)?));
        if let (Some(certificate), Some(key)) = (&files.certificate, &files.key) {
            tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        if let Some(name) = &files.server_name {
            tls = tls.domain_name(name);
        }
        endpoint = endpoint.tls_config(tls)?;
    }
    Ok(endpoint)
}

impl Target {
    fn new(name: &str, is_ceiling: bool, place: Place) -> Self {
        Self { name: name.into(), is_ceiling, place, prepared: BTreeSet::new() }
    }

    /// An empty server, if it is ours to start; else it stays as it is.
    pub async fn refresh(&mut self, transport: Transport) -> Result<(), Failure> {
        let Place::Ours { program, parent, node } = &mut self.place else { return Ok(()) };
        // The old directory is gone before the new one is made: disks are small.
        *node = None;
        let mut setup = Setup::program(program.clone()).transport(transport).parent(parent.clone());
        if transport == Transport::Unix {
            // etcd 3.6 advertises no sockets. Nobody asks for this address.
            setup = setup.flag("--advertise-client-urls=http://127.0.0.1:2379");
        }
        *node = Some(setup.flag(QUOTA_FLAG).launch());
        self.prepared.clear();
        self.wait().await
    }

    /// Ends it, if it is ours, and removes its data.
    pub fn close(&mut self) {
        if let Place::Ours { node, .. } = &mut self.place {
            *node = None;
        }
        self.prepared.clear();
    }

    /// Until it answers a read.
    pub async fn wait(&mut self) -> Result<(), Failure> {
        let request = pb::RangeRequest { key: "/registry/ready".into(), ..Default::default() };
        self.first_answer(request).await.map(drop)
    }

    /// Asks until there is an answer: of a server that starts.
    pub async fn first_answer(&mut self, request: pb::RangeRequest) -> Result<pb::RangeResponse, Failure> {
        let begun = Instant::now();
        let mut kv = KvClient::new(self.channel().await?);
        loop {
            let status = match kv.range(request.clone()).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => status,
            };
            let name = &self.name;
            if let Place::Ours { node: Some(node), .. } = &mut self.place
                && let Some(ended) = node.exited()
            {
                let log = node.log();
                let tail = log.floor_char_boundary(log.len().saturating_sub(LOG_TAIL_BYTES));
                return Err(format!("{name} ended before it served ({ended}):\n{}", &log[tail..]).into());
            }
            // A server that is not there yet, or not ready yet; anything else will not change by itself.
            let passes = matches!(status.code(), Code::Unavailable | Code::Unknown | Code::DeadlineExceeded);
            if !passes || begun.elapsed() > START_LIMIT {
                return Err(format!("{name} does not serve: {status}").into());
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// A connection of its own.
    pub async fn channel(&self) -> Result<Channel, Failure> {
        match &self.place {
            Place::Ours { node, .. } => Ok(node.as_ref().ok_or("the server does not run")?.channel()),
            Place::Remote { endpoint } => Ok(endpoint.connect().await?),
        }
    }

    pub async fn channels(&self, count: usize) -> Result<Vec<Channel>, Failure> {
        let mut channels = Vec::new();
        for _ in 0..count {
            channels.push(self.channel().await?);
        }
        Ok(channels)
    }

    pub fn node(&mut self) -> Option<&mut Node> {
        match &mut self.place {
            Place::Ours { node, .. } => node.as_mut(),
            Place::Remote { .. } => None,
        }
    }

    fn running(&self) -> Option<&Node> {
        match &self.place {
            Place::Ours { node, .. } => node.as_ref(),
            Place::Remote { .. } => None,
        }
    }

    /// What the process takes; nothing is known of one that we did not start.
    pub fn usage(&self) -> Option<Usage> {
        self.running().map(|node| Usage::of(node.process_id()))
    }

    /// The peak of its memory begins anew.
    pub fn forget_peak(&self) {
        if let Some(node) = self.running() {
            forget_peak(node.process_id());
        }
    }

    /// What its data takes on the disk, in MiB.
    pub fn disk_mib(&self) -> Option<f64> {
        self.running().map(|node| disk_bytes(&node.data_dir()) as f64 / f64::from(1 << 20))
    }

    /// The disk that its data is on.
    pub fn device(&self) -> Option<Device> {
        self.running().and_then(|node| Device::below(&node.data_dir()))
    }
}
