//! The page of /metrics.

use super::calls::Calls;
use super::exposition::Exposition;
use super::health::{Health, Member};
use super::process;
use super::router::RouterSettings;
use crate::config::feature_gates::GATES;
use crate::version::{CLUSTER_VERSION, ETCD_VERSION, HOLDFAST_VERSION};

/// Writes everything.
pub fn page(member: &dyn Member, calls: &Calls, health: &Health, settings: &RouterSettings) -> String {
    let mut out = Exposition::default();
    identity(&mut out, settings);
    member.expose(&mut out);
    health.expose(&mut out);
    calls.expose(&mut out);
    process::expose(&mut out);
    out.into_text()
}

fn identity(out: &mut Exposition, settings: &RouterSettings) {
    let (major_minor, _) = CLUSTER_VERSION.rsplit_once('.').unwrap_or((CLUSTER_VERSION, ""));
    let help = "Which version is running. 1 for 'cluster_version' label with current cluster version";
    out.family("etcd_cluster_version", help, "gauge").sample(&[("cluster_version", major_minor)], 1.0);
    let help = "Which version is running. 1 for 'server_version' label with current version.";
    out.family("etcd_server_version", help, "gauge").sample(&[("server_version", ETCD_VERSION)], 1.0);
    let help = "Which version of Holdfast is running.";
    out.family("holdfast_version", help, "gauge").sample(&[("version", HOLDFAST_VERSION)], 1.0);
    let id = format!("{:x}", settings.member_id);
    let help = "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID.";
    out.family("etcd_server_id", help, "gauge").sample(&[("server_id", &id)], 1.0);
    let help = "Whether or not a feature is enabled. 1 is enabled, 0 is not.";
    let mut family = out.family("etcd_server_feature_enabled", help, "gauge");
    for (name, default, _) in GATES {
        let asked = settings.feature_gates.iter().rev().find(|gate| gate.name == name);
        let enabled = asked.map_or(default, |gate| gate.enabled);
        let stage = match name {
            "FastLeaseKeepAlive" | "TxnModeWriteWithSharedBuffer" => "BETA",
            "AllAlpha" | "AllBeta" => "",
            _ => "ALPHA",
        };
        family.sample(&[("name", name), ("stage", stage)], f64::from(u8::from(enabled)));
    }
}
