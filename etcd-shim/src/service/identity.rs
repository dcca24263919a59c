//! Who this server says it is.

use sha1::{Digest, Sha1};

/// A member as its clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's id.
    pub cluster_id: u64,
    /// This member's id.
    pub member_id: u64,
    /// Its name.
    pub name: String,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// The version of etcd whose protocol it speaks, `major.minor.patch`. Clients switch features by it.
    pub version: String,
}

impl Identity {
    /// The only member of a cluster: its ids follow from its peer URLs and the cluster's token, as in etcd.
    pub fn single(
        name: impl Into<String>,
        peer_urls: Vec<String>,
        client_urls: Vec<String>,
        cluster_token: &str,
        version: impl Into<String>,
    ) -> Self {
        let member_id = member_id(&peer_urls, cluster_token);
        Self {
            cluster_id: cluster_id(&[member_id]),
            member_id,
            name: name.into(),
            peer_urls,
            client_urls,
            version: version.into(),
        }
    }
}

/// The id of a founding member: SHA-1 over its sorted peer URLs and the cluster's token.
pub fn member_id(peer_urls: &[String], cluster_token: &str) -> u64 {
    let mut sorted: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    let mut hash = Sha1::new();
    for url in sorted {
        hash.update(url);
    }
    hash.update(cluster_token);
    first_eight(hash)
}

/// The id of a cluster: SHA-1 over the sorted ids of its founding members.
pub fn cluster_id(member_ids: &[u64]) -> u64 {
    let mut sorted = member_ids.to_vec();
    sorted.sort_unstable();
    let mut hash = Sha1::new();
    for id in sorted {
        hash.update(id.to_be_bytes());
    }
    first_eight(hash)
}

fn first_eight(hash: Sha1) -> u64 {
    let digest = hash.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_etcds_documentation() {
        let me = Identity::single("n", vec!["http://localhost:2380".into()], vec![], "etcd-cluster", "3.7.3");
        assert_eq!(format!("{:x}", me.member_id), "8e9e05c52164694d");
        assert_eq!(format!("{:x}", me.cluster_id), "cdf818194e3a8c32");
    }

    #[test]
    fn the_order_of_urls_does_not_matter() {
        let (a, b) = ("http://a:1".to_owned(), "http://b:1".to_owned());
        assert_eq!(member_id(&[a.clone(), b.clone()], "t"), member_id(&[b, a], "t"));
    }
}
