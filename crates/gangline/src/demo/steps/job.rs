//! `job`: programs on the cluster: through `rent submit`, and through `rent connect` by an unchanged
//! `ray job submit`. One succeeds, one fails, one is stopped; a wrong token opens nothing.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::demo::{
    process::{Process, Spec},
    world::World,
};
use crate::stage::http1;

/// What is computed: the sum of the squares of 0 to 39.
const SQUARES: u32 = 40;
const PROGRAM: &str = r#"import os, sys, time
import ray

print("the program has started", flush=True)
ray.init(log_to_driver=False)

@ray.remote(num_cpus=0.5)
def squares(numbers):
    return os.getpid(), sum(n * n for n in numbers)

parts = [squares.remote(range(at, 40, 4)) for at in range(4)]
found = ray.get(parts)
print("processes of tasks:", len({pid for pid, _ in found} - {os.getpid()}), flush=True)
time.sleep(4)
print("the sum of squares is", sum(part for _, part in found), flush=True)
"#;
const SLOW: &str = "import time\nprint('waiting', flush=True)\ntime.sleep(600)\n";
const FAILS: &str = "import sys\nprint('about to fail', flush=True)\nsys.exit(3)\n";
const WITHIN: Duration = Duration::from_secs(150);

fn expected() -> String {
    format!("the sum of squares is {}", (0..SQUARES).map(|n| n * n).sum::<u32>())
}

fn rent(world: &World, name: &str, words: &[&str], folder: &Path) -> anyhow::Result<Process> {
    let mut args: Vec<OsString> = vec!["rent".into(), "--data".into(), world.rent_data().into()];
    args.extend(words.iter().map(OsString::from));
    let spec = Spec {
        name: name.to_owned(),
        program: world.scene.program.clone(),
        args,
        env: Vec::new(),
        folder: folder.to_owned(),
        stdin: None,
    };
    Process::start(&world.fleet, spec)
}

/// `rent submit`, its first line seen well before its end.
async fn submit(world: &World, folder: &Path) -> anyhow::Result<String> {
    let began = Instant::now();
    let ended = rent(world, "submit", &["submit", "--", "python", "job.py"], folder)?.finish(WITHIN).await?;
    let ended = ended.good("rent submit")?;
    let at = |text: &str| ended.lines.iter().find(|(_, line)| line.contains(text)).map(|(at, _)| *at);
    let first = at("the program has started").context("the program's first line did not come")?;
    let last = at(&expected()).with_context(|| format!("the output has no line {:?}", expected()))?;
    let ahead = last.duration_since(first);
    ensure!(ahead > Duration::from_millis(1500), "the output came at once ({ahead:?}): it does not stream");
    let tasks = ended
        .lines
        .iter()
        .find_map(|(_, line)| line.strip_prefix("processes of tasks: "))
        .context("no task ran")?;
    ensure!(tasks != "0", "no task ran in another process");
    Ok(format!(
        "`rent submit` printed \"{}\" after {:.1} s, its first line {:.1} s before; {tasks} further processes ran its tasks",
        expected(),
        last.duration_since(began).as_secs_f64(),
        ahead.as_secs_f64()
    ))
}

/// A program that fails is a failure here too.
async fn failing(world: &World, folder: &Path) -> anyhow::Result<String> {
    let ended = rent(world, "submit-failing", &["submit", "--", "python", "fails.py"], folder)?
        .finish(WITHIN)
        .await?;
    ensure!(ended.code == Some(1), "a job that fails ended with {:?}: {}", ended.code, ended.words());
    ensure!(
        ended.lines.iter().any(|(_, line)| line.contains("about to fail")),
        "the failing job's output is lost"
    );
    Ok("a job that exits with 3 makes `rent submit` exit with 1".to_owned())
}

/// Ctrl-C stops the job, not only its view.
async fn stopped(world: &World, folder: &Path) -> anyhow::Result<String> {
    let mut slow = rent(world, "submit-stopped", &["submit", "--", "python", "slow.py"], folder)?;
    loop {
        let (_, line) = slow.line(WITHIN).await.context("the slow job printed nothing")?;
        if line.contains("waiting") {
            break;
        }
    }
    slow.signal(Signal::SIGINT);
    let ended = slow.finish(Duration::from_secs(60)).await?;
    ensure!(ended.code == Some(1), "a job that was stopped ended with {:?}: {}", ended.code, ended.words());
    let list =
        rent(world, "job-list", &["--json", "job", "list"], folder)?.finish(Duration::from_secs(60)).await?;
    let list = list.good("rent job list")?.json()?;
    let slow = |job: &&Value| job["entrypoint"].as_str().is_some_and(|text| text.contains("slow.py"));
    let job = list.as_array().into_iter().flatten().find(slow).context("the stopped job is not listed")?;
    ensure!(job["status"] == "STOPPED", "Ray says that the stopped job is {}", job["status"]);
    Ok("Ctrl-C on a job ends it as stopped".to_owned())
}

/// Ray's own command, unchanged, through the door that `rent connect` opens.
async fn unchanged(world: &World, folder: &Path) -> anyhow::Result<String> {
    let mut door = rent(world, "connect", &["--json", "connect"], folder)?;
    let shown =
        door.event("listening", Duration::from_secs(30)).await.context("rent connect opened no door")?;
    let text = |name: &str| shown[name].as_str().unwrap_or_default().to_owned();
    let (url, token) = (text("url"), text("token"));
    let authority = url.trim_start_matches("http://").to_owned();
    let ask = |token: &str| {
        http1::bytes("GET", "/api/version", &authority, &[("authorization", format!("Bearer {token}"))], b"")
    };
    let right = http1::send(&authority, &ask(&token)).await?;
    ensure!(right.status == 200, "the right token is answered {}", right.words());
    let version = right.json()["ray_version"].as_str().unwrap_or("?").to_owned();
    for wrong in ["", "0123456789abcdef0123456789abcdef"] {
        let answer = http1::send(&authority, &ask(wrong)).await?;
        ensure!(answer.status == 401, "a wrong token is answered {}", answer.words());
    }
    let home = world.folder.join("renter-home");
    std::fs::create_dir_all(&home)?;
    let env = [("RAY_ADDRESS", url), ("RAY_AUTH_MODE", "token".to_owned()), ("RAY_AUTH_TOKEN", token)];
    let mut env: Vec<(String, OsString)> =
        env.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    env.push(("HOME".to_owned(), home.into()));
    let spec = Spec {
        name: "ray-job-submit".to_owned(),
        program: world.scene.ray_home.join("bin/ray"),
        args: ["job", "submit", "--working-dir", ".", "--", "python", "job.py"].map(OsString::from).to_vec(),
        env,
        folder: folder.to_owned(),
        stdin: None,
    };
    let ended = Process::start(&world.fleet, spec)?.finish(WITHIN).await?.good("ray job submit")?;
    ensure!(
        ended.lines.iter().any(|(_, line)| line.contains(&expected())),
        "`ray job submit` shows no line {:?}",
        expected()
    );
    door.signal(Signal::SIGINT);
    door.finish(Duration::from_secs(20)).await?.good("rent connect")?;
    Ok(format!(
        "an unchanged `ray job submit` (Ray {version}) through `rent connect` printed the same; a wrong token is answered 401"
    ))
}

pub async fn run(world: &mut World) -> anyhow::Result<String> {
    let folder: PathBuf = world.folder.join("program");
    std::fs::create_dir(&folder).with_context(|| format!("could not make {}", folder.display()))?;
    for (name, text) in [("job.py", PROGRAM), ("slow.py", SLOW), ("fails.py", FAILS)] {
        std::fs::write(folder.join(name), text)?;
    }
    world
        .narrator
        .say("The renter runs job.py, which spreads its work over Ray tasks and prints as it goes.");
    world.narrator.waiting("rent submit -- python job.py");
    let mut words = vec![submit(world, &folder).await?];
    world.narrator.say(
        "Then Ray's own command through `rent connect`, beside a job that fails and one that is stopped.",
    );
    world.narrator.waiting("ray job submit -- python job.py");
    let (unchanged, others) = tokio::join!(unchanged(world, &folder), async {
        anyhow::Ok([failing(world, &folder).await?, stopped(world, &folder).await?])
    });
    words.push(unchanged?);
    words.extend(others?);
    Ok(words.join("; "))
}
