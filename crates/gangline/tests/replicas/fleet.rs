//! `gangline fleet audit` where the books are in a database: every acknowledged beat is found while servers run and after
//! one was killed, and what is taken away is missed.

use std::time::{Duration, Instant};

use gangline_server::simulate::Seed;

use crate::{
    live::{LIMIT, Told, finish, gangline},
    postgres,
    world::{MACHINES, World},
};

fn audit(world: &World) -> Told {
    let work = world.work.path();
    let mut command = gangline(work);
    command.args(["fleet", "audit", "--account"]).arg(work.join("account"));
    command.arg("--data").arg(work.join("1")).arg("--database-file").arg(world.file());
    finish(&mut command)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_beats_of_a_fleet_are_found_in_the_database_while_servers_run_and_after_a_kill() {
    let postgres = postgres::Server::new(&[]);
    let database = postgres.database().await;
    let mut world = World::start(postgres.url(&database), 2).await;
    let mut fleet = gangline(world.work.path());
    fleet.args(["fleet", "run", &world.at(0).origin, "--machines", &MACHINES.to_string(), "--account"]);
    fleet.arg(world.work.path().join("account")).args(["--minutes", "1", "--spread", "1", "--http", "250"]);
    let ran = finish(&mut fleet);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);

    let whole = |told: &Told| {
        assert_eq!(told.code, 0, "{}{}", told.out, told.err);
        assert!(told.out.starts_with(&format!("{MACHINES} acknowledged beats: 0 lost")), "{}", told.out);
    };
    whole(&audit(&world));
    world.servers[0].take().unwrap().process.crash();
    whole(&audit(&world));

    // What it finds is there: one machine's minutes are taken away once the other server has folded them in.
    let mut database = world.database().await;
    let gone = Seed::of("gangline").identity(7).gpu;
    let limit = Instant::now() + LIMIT;
    let mut deleted = 0;
    loop {
        let rows = sqlx::query("DELETE FROM gangline.uptime WHERE gpu = $1").bind(gone.as_bytes().as_slice());
        deleted += rows.execute(&mut database).await.unwrap().rows_affected();
        let left = sqlx::query_scalar("SELECT count(*) FROM gangline.journal").fetch_one(&mut database);
        let left: i64 = left.await.unwrap();
        if deleted > 0 && left == 0 {
            break;
        }
        assert!(Instant::now() < limit, "nobody folds what a killed server acknowledged");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    world.servers[1].take().unwrap().stop();
    audit(&world).refused(1, &["1 acknowledged beats are not in the books"]);
}
