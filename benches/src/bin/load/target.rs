//! Who is measured.

use crate::Failure;
use crate::arguments::Arguments;
use holdfast_tests::{Node, Setup, Usage, disk_bytes};
use std::collections::BTreeSet;
use tonic::transport::{Channel, Endpoint};

pub struct Target {
    pub name: String,
    /// The server, if we started it.
    pub node: Option<Node>,
    url: String,
    /// What has been prepared on it: prefixes with keys below them.
    pub prepared: BTreeSet<String>,
}

/// Starts what is to be started.
pub fn open_all(arguments: &Arguments) -> Result<Vec<Target>, Failure> {
    let mut targets = Vec::new();
    for (name, program) in &arguments.starts {
        if !program.is_file() {
            return Err(format!("{}: no such program", program.display()).into());
        }
        let mut setup = Setup::program(program.clone()).transport(arguments.transport);
        if let Some(parent) = &arguments.parent {
            setup = setup.parent(parent.clone());
        }
        // No server may refuse what another takes.
        let node = setup.flag("--quota-backend-bytes=8589934592").start();
        targets.push(Target {
            name: name.clone(),
            url: node.url().into(),
            node: Some(node),
            prepared: BTreeSet::new(),
        });
    }
    for (name, url) in &arguments.targets {
        targets.push(Target { name: name.clone(), url: url.clone(), node: None, prepared: BTreeSet::new() });
    }
    Ok(targets)
}

impl Target {
    /// A connection of its own.
    pub async fn channel(&self) -> Result<Channel, Failure> {
        if let Some(node) = &self.node {
            return Ok(node.channel());
        }
        Ok(Endpoint::from_shared(self.url.clone())?.tcp_nodelay(true).connect().await?)
    }

    pub async fn channels(&self, count: usize) -> Result<Vec<Channel>, Failure> {
        let mut channels = Vec::new();
        for _ in 0..count {
            channels.push(self.channel().await?);
        }
        Ok(channels)
    }

    /// What the process takes; nothing is known of one that we did not start.
    pub fn usage(&self) -> Option<Usage> {
        self.node.as_ref().map(|node| Usage::of(node.process_id()))
    }

    /// What its data takes on the disk, in MiB.
    pub fn disk_mib(&self) -> Option<f64> {
        self.node.as_ref().map(|node| disk_bytes(&node.data_dir()) as f64 / f64::from(1 << 20))
    }
}
