//! From the start of a stopped server to its first answer.

use crate::Failure;
use crate::client::prefix;
use crate::figures::Figures;
use crate::scenario::Scenario;
use crate::target::Target;
use etcd_shim::proto::plain::etcdserverpb as pb;
use holdfast_benches::requests::prefix_end;
use std::time::Instant;

/// One stop and one start. The latency is that of the start; what the server takes is shown as it is right afterwards.
pub async fn round(target: &mut Target, scenario: &Scenario) -> Result<Figures, Failure> {
    let node = target.node().ok_or("only a server that was started here can be started again")?;
    node.stop();
    let begun = Instant::now();
    node.launch();
    let prefix = prefix(scenario);
    let request = pb::RangeRequest {
        range_end: prefix_end(prefix.as_bytes()),
        key: prefix.into(),
        count_only: true,
        ..Default::default()
    };
    let found = target.first_answer(request).await?;
    let took = begun.elapsed();
    if found.count as usize != scenario.keys {
        return Err(format!("{} of {} keys after a start", found.count, scenario.keys).into());
    }
    let mut figures = Figures::new(vec![took.as_nanos() as f32 / 1e3], took.as_secs_f64());
    if let Some(usage) = target.usage() {
        figures.cpu_us = Some(usage.cpu_ms as f64 * 1e3);
        figures.memory_mib = Some(usage.memory_mib as f64);
        figures.memory_peak_mib = Some(usage.peak_mib as f64);
        figures.disk_mib = target.disk_mib();
    }
    Ok(figures)
}
