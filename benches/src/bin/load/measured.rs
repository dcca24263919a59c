//! What a server and its disk take during a round.

use crate::device::{Counters, Device};
use crate::figures::Figures;
use crate::target::Target;
use holdfast_tests::Usage;

/// From the moment that counts to the end.
#[derive(Default)]
pub struct Meter {
    usage: Option<Usage>,
    device: Option<Device>,
    counters: Option<Counters>,
}

impl Meter {
    /// Writes out what the page cache still holds: before the warm-up, since that takes a while.
    pub fn new(target: &Target) -> Self {
        let device = target.device();
        if let Some(device) = &device {
            device.settle();
        }
        Self { device, ..Self::default() }
    }

    /// From here on it counts.
    pub fn begin(self, target: &Target) -> Self {
        target.forget_peak();
        let counters = self.device.as_ref().and_then(Device::counters);
        Self { usage: target.usage(), counters, ..self }
    }

    /// Adds it to the figures, for each request or event where that makes sense.
    pub fn stop(self, target: &Target, mut figures: Figures) -> Figures {
        let count = figures.samples.max(1) as f64;
        if let (Some(before), Some(after)) = (self.usage, target.usage()) {
            figures.cpu_us = Some((after.cpu_ms - before.cpu_ms) as f64 * 1e3 / count);
            figures.memory_mib = Some(after.memory_mib as f64);
            figures.memory_peak_mib = Some(after.peak_mib as f64);
        }
        if let (Some(device), Some(before)) = (self.device, self.counters) {
            device.settle();
            let after = device.counters().unwrap_or(before);
            figures.written_bytes = Some((after.written_bytes - before.written_bytes) as f64 / count);
            figures.flushes = Some((after.flushes - before.flushes) as f64 / count);
        }
        figures.disk_mib = target.disk_mib();
        figures
    }
}
