//! The requests of the golden scripts, encoded.

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Each request with its call (`KV.Put`; `Watch.Watch` for what is sent on a watch stream) and the script's name and line.
pub struct Requests(Vec<(String, String, Vec<u8>)>);

impl Requests {
    pub fn read(golden: &Path) -> Self {
        let pool = DescriptorPool::decode(etcd_shim::proto::DESCRIPTORS).unwrap();
        let mut found = Vec::new();
        for area in sorted(golden).iter().filter(|path| path.is_dir()) {
            for script in sorted(area) {
                let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
                let name = format!("{}-{}", name(area), name(&script));
                let text = fs::read_to_string(&script).unwrap();
                for (number, line) in text.lines().enumerate() {
                    if let Some((call, bytes)) = request(&pool, line) {
                        found.push((call, format!("{name}-{}", number + 1), bytes));
                    }
                }
            }
        }
        assert!(found.len() > 300, "only {} requests: has the language of the scripts changed?", found.len());
        Self(found)
    }

    /// Those of one call, each once.
    pub fn of(&self, call: &str) -> Vec<(String, Vec<u8>)> {
        let mut seen = BTreeSet::new();
        let all = self.0.iter().filter(|(of, _, bytes)| of == call && seen.insert(bytes.clone()));
        all.map(|(_, name, bytes)| (name.clone(), bytes.clone())).collect()
    }
}

fn sorted(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// The request of a line that has one, is whole, and names nothing that only a running script knows.
fn request(pool: &DescriptorPool, line: &str) -> Option<(String, Vec<u8>)> {
    if line.contains('$') || line.starts_with('|') {
        return None;
    }
    if let Some(inner) = line.strip_prefix("send w {") {
        let message = pool.get_message_by_name("etcdserverpb.WatchRequest")?;
        return Some(("Watch.Watch".to_owned(), encode(message, inner.trim_end().strip_suffix('}')?)?));
    }
    if let Some(inner) = line.strip_prefix("send k {") {
        let message = pool.get_message_by_name("etcdserverpb.LeaseKeepAliveRequest")?;
        return Some((
            "Lease.LeaseKeepAlive".to_owned(),
            encode(message, inner.trim_end().strip_suffix('}')?)?,
        ));
    }
    let (call, inner) = line.split_once(" {")?;
    let (service, method) = call.split_once('.')?;
    let service = pool.get_service_by_name(&format!("etcdserverpb.{service}"))?;
    let method = service.methods().find(|found| found.name() == method)?;
    Some((call.to_owned(), encode(method.input(), inner.trim_end().strip_suffix('}')?)?))
}

fn encode(message: MessageDescriptor, text: &str) -> Option<Vec<u8>> {
    DynamicMessage::parse_text_format(message, text).ok().map(|message| message.encode_to_vec())
}
