//! PostgreSQL goes away and comes back, and gives its place to a standby: what was acknowledged is there, nothing is
//! acknowledged meanwhile, and servers go on by themselves.

use std::time::{Duration, Instant};

use gangline_wire::{Nothing, beat::Outcome, endpoints::Clusters};
use gangline_worker::client::ClientError;
use tokio::net::UdpSocket;

use crate::{
    live::{
        LIMIT,
        beater::{Beater, socket},
        network::call,
    },
    postgres,
    world::World,
};

/// Beats for the n-th minute a few times: each time it is put off, or not answered at all.
async fn is_put_off(beater: &mut Beater, udp: &UdpSocket, n: u32) {
    let beat = beater.beat(n);
    for _ in 0..6 {
        udp.send(&beat.seal(&beater.grant.beat_key())).await.unwrap();
        let mut bytes = [0; 100];
        let heard = tokio::time::timeout(Duration::from_millis(500), udp.recv(&mut bytes)).await;
        if let Ok(Ok(length)) = heard
            && let Some(answer) = beater.heard(&bytes[..length])
            && answer.answers(&beat)
        {
            assert_eq!(answer.outcome, Outcome::Busy, "acknowledged without a database");
        }
    }
}

/// A signed request is told clearly that it is not a no.
async fn is_unavailable(world: &World, renter: &gangline_wire::SigningKey) {
    let asked = call::<Clusters>(&world.client(0, renter), &Nothing {}).await;
    let Err(ClientError::Refused { status, body, .. }) = &asked else { panic!("{asked:?}") };
    assert_eq!((*status, body.code.as_str()), (503, "unavailable"), "{}", body.message);
    assert!(body.message.contains("that is not a no") && body.hint.is_some());
}

/// Waits until a signed request is answered again.
async fn until_available(world: &World, renter: &gangline_wire::SigningKey) -> Duration {
    let began = Instant::now();
    while let Err(error) = call::<Clusters>(&world.client(0, renter), &Nothing {}).await {
        assert!(began.elapsed() < LIMIT, "it does not go on: {error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_and_a_switch_over_lose_nothing_that_was_acknowledged() {
    let primary = postgres::Server::new(&[]);
    let database = primary.database().await;
    let standby = primary.standby(&[]);
    primary.administer(&database, "ALTER SYSTEM SET synchronous_standby_names = '*'");
    primary.administer(&database, "SELECT pg_reload_conf()");
    let both =
        primary.url(&database).replace(&primary.host(), &format!("{},{}", primary.host(), standby.host()));
    // Who looks at the books asks the first host; see `World::database`.
    let mut world = World::start(both, 1).await;
    world.url = primary.url(&database);
    let mut beaters = world.beaters().await;
    let renter = world.renter().await;
    let udp = socket(world.at(0).beat_udp.unwrap()).await;
    let (_, beater) = &mut beaters[0];
    for n in 0..20 {
        beater.send_until_durable(&udp, n).await;
    }

    // Away and back.
    primary.stop("INT");
    is_put_off(beater, &udp, 20).await;
    is_unavailable(&world, &renter).await;
    is_put_off(beater, &udp, 20).await;
    primary.start();
    beater.send_until_durable(&udp, 20).await;
    println!(
        "after a restart requests are answered again within {:?}",
        until_available(&world, &renter).await
    );
    world.audit(0, &[&*beater]).await;

    // Gone for good: the standby is the primary now.
    for n in 21..40 {
        beater.send_until_durable(&udp, n).await;
    }
    primary.stop("KILL");
    is_put_off(beater, &udp, 40).await;
    standby.promote();
    world.url = standby.url(&database);
    beater.send_until_durable(&udp, 40).await;
    println!(
        "after a switch-over requests are answered again within {:?}",
        until_available(&world, &renter).await
    );
    let mut all: Vec<&Beater> = beaters.iter().map(|(_, beater)| beater).collect();
    all.truncate(3);
    world.audit(0, &all).await;
    world.servers[0].take().unwrap().stop();
}
