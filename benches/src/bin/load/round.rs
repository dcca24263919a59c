//! One round of requests on one target, as fast as the answers come or at a given rate.

use crate::Failure;
use crate::arguments::Arguments;
use crate::client::{Client, prefix};
use crate::figures::Figures;
use crate::measured::Meter;
use crate::pauses;
use crate::scenario::{Kind, Scenario};
use crate::schedule::{Schedule, Timer, Window};
use crate::target::Target;
use crate::watching::watch_beside;
use std::time::Instant;
use tokio::task::JoinSet;

pub async fn round(
    target: &mut Target,
    scenario: &Scenario,
    arguments: &Arguments,
    number: usize,
) -> Result<Figures, Failure> {
    if matches!(scenario.kind, Kind::Pause(_)) {
        pauses::prepare(target, scenario, arguments).await?;
    }
    let clients = clients(target, scenario, arguments, number).await?;
    let mut watches = watch_beside(target, &prefix(scenario), scenario.watchers, scenario.stopped).await?;
    let meter = Meter::new(target);
    let window = Window::new(arguments.warm_up_s, arguments.seconds);
    let mut tasks = JoinSet::new();
    for (at, client) in clients.into_iter().enumerate() {
        let schedule = Schedule::of_client(window, scenario.rate, scenario.clients, at);
        tasks.spawn(drive(client, schedule));
    }
    tokio::time::sleep_until(window.counts_from.into()).await;
    let meter = meter.begin(target);
    let call = async {
        match scenario.kind {
            Kind::Pause(disturbance) => pauses::disturb(target, disturbance, arguments).await,
            _ => Ok(None),
        }
    };
    let load = async {
        let mut latencies_us = Vec::new();
        while let Some(done) = tasks.join_next().await {
            latencies_us.extend(done??);
        }
        Ok::<_, Failure>((latencies_us, window.counts_from.elapsed().as_secs_f64()))
    };
    let (call_ms, (latencies_us, seconds)) = tokio::try_join!(call, load)?;
    // A watch that had ended would have made it too easy.
    if let Some(reason) = watches.ended() {
        return Err(format!("a watch has ended during the round: {reason}").into());
    }
    let figures = meter.stop(target, Figures::new(latencies_us, seconds));
    Ok(Figures { call_ms, ..figures })
}

async fn clients(
    target: &Target,
    scenario: &Scenario,
    arguments: &Arguments,
    number: usize,
) -> Result<Vec<Client>, Failure> {
    let channels = target.channels(scenario.connections()).await?;
    let (scenario, value_bytes) = (*scenario, arguments.value_bytes);
    let mut tasks = JoinSet::new();
    for at in 0..scenario.clients {
        let channel = channels[at % channels.len()].clone();
        tasks.spawn(Client::new(channel, scenario, at, number, value_bytes));
    }
    let mut clients = Vec::new();
    while let Some(client) = tasks.join_next().await {
        clients.push(client??);
    }
    Ok(clients)
}

/// One client, from the warm-up to the end; what it returns is of the part that counts.
async fn drive(mut client: Client, schedule: Schedule) -> Result<Vec<f32>, Failure> {
    let timer = Timer::new()?;
    let mut latencies_us = Vec::new();
    for number in 0.. {
        let Some(due) = schedule.due(number, latencies_us.len(), Instant::now()) else { break };
        timer.wait_until(due).await?;
        client.request().await?;
        if schedule.counts(due) {
            latencies_us.push(due.elapsed().as_nanos() as f32 / 1e3);
        }
    }
    Ok(latencies_us)
}
