//! `beat`: a sign of life that a worker was told is written down is a bit that anyone can see.

use std::time::Duration;

use anyhow::{Context, ensure};
use gangline_types::Minute;

use crate::demo::world::{World, until};

pub async fn run(world: &mut World) -> anyhow::Result<String> {
    let mut words = Vec::new();
    for machine in &world.machines {
        world.narrator.waiting(&format!("waiting for an acknowledged beat of {}'s machine", machine.owner));
        let minute = until(Duration::from_secs(75), || async {
            let status = world.status(machine).await?;
            let minute =
                status["status"]["beat_acknowledged"].as_u64().context("no beat was acknowledged yet")?;
            Ok(Minute(u32::try_from(minute)?))
        })
        .await?;
        for gpu in &machine.gpus {
            until(Duration::from_secs(15), || async {
                let seen = world.minutes(*gpu).await?;
                ensure!(
                    seen.contains(&minute),
                    "minute {minute} of {gpu} was acknowledged and is not public"
                );
                Ok(())
            })
            .await?;
        }
        let clock = format!("{:02}:{:02} UTC", minute.hour().0 % 24, minute.of_hour());
        words.push(format!(
            "{}'s beat of {clock} was acknowledged and is a bit of its GPU's public uptime",
            machine.owner
        ));
    }
    Ok(words.join("; "))
}
