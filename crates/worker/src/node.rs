//! The node: the main process inside a sandbox. It reads one order from its stdin, runs that
//! program, and carries streams between the worker and Ray's dashboard on the sandbox's loopback.
//!
//! Refuses to know the network, the worker's keys or the supplier's machine; it starts nothing
//! before the worker, having looked at the sandbox from outside, has sent the order. When its
//! stdin closes it stops what it started and exits.

pub mod mux;
pub mod protocol;
mod ray;
mod reap;

use std::{io, process::Stdio};

use anyhow::{Context, bail};
use tokio::io::{BufReader, Stdin, Stdout};

use protocol::{Order, Report, read_line, write_line};

/// Arguments of the hidden `node` subcommand. There are none: everything comes in the order, so
/// that nothing shows in a process list.
#[derive(Debug, Clone, Copy, Default)]
pub struct NodeArgs {}

/// Runs the node until its program ends or its stdin closes; exits the process with the
/// program's exit code where it has one.
///
/// # Errors
/// When there is no valid order, or the program cannot be started or ends by itself. Logs and
/// errors belong on stderr: stdout is the worker's.
pub fn run(_args: NodeArgs) -> anyhow::Result<()> {
    // Renter programs run under the same user: without this they could open our pipes in /proc.
    nix::sys::prctl::set_dumpable(false).context("could not close this process to its neighbours")?;
    if std::process::id() == 1 {
        // The first process of a process namespace inherits every orphan; a child does the work.
        std::process::exit(reap::run_as_first_process()?);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("could not start the node's runtime")?;
    let code = runtime.block_on(serve())?;
    // A blocked read of stdin would hold an orderly shutdown of the runtime.
    std::process::exit(code);
}

async fn serve() -> anyhow::Result<i32> {
    let mut stdout = tokio::io::stdout();
    let mut stdin = BufReader::new(tokio::io::stdin());
    write_line(&mut stdout, &Report::Hello { version: protocol::VERSION }).await?;
    let Some(order) = read_line::<Order>(&mut stdin).await.context("could not read the order")? else {
        return Ok(0);
    };
    match order {
        Order::Ray { token, cpus, gpus, memory_bytes, object_store_bytes } => {
            let spec = ray::RaySpec { token, cpus, gpus, memory_bytes, object_store_bytes };
            serve_ray(spec, stdin, stdout).await
        }
        Order::Command { argv, env } => serve_command(&argv, env, stdin, stdout).await,
    }
}

async fn serve_ray(
    spec: ray::RaySpec,
    mut stdin: BufReader<Stdin>,
    mut stdout: Stdout,
) -> anyhow::Result<i32> {
    let mut head = match ray::Head::start(&spec) {
        Ok(head) => head,
        Err(error) => return fail(&mut stdout, &error).await,
    };
    let ready = {
        let starting = head.wait_ready(&spec.token, &mut stdout);
        tokio::select! {
            ready = starting => ready,
            // The worker says nothing before `ready`; the end of its pipe means stop.
            _ = tokio::io::AsyncBufReadExt::fill_buf(&mut stdin) => Err(anyhow::anyhow!("the worker closed the node while it was starting")),
        }
    };
    if let Err(error) = ready {
        head.stop().await;
        return fail(&mut stdout, &error).await;
    }
    write_line(&mut stdout, &Report::Ready).await?;
    let session = mux::serve(tokio::io::join(stdin, stdout), protocol::DASHBOARD_PORT);
    let ended = tokio::select! {
        session = session => session.context("the session with the worker broke"),
        status = head.wait() => {
            let status = status?;
            bail!("Ray ended by itself ({status})");
        }
    };
    head.stop().await;
    ended.map(|()| 0)
}

async fn serve_command(
    argv: &[String],
    env: std::collections::BTreeMap<String, String>,
    stdin: BufReader<Stdin>,
    mut stdout: Stdout,
) -> anyhow::Result<i32> {
    let Some((program, rest)) = argv.split_first() else {
        return fail(&mut stdout, &anyhow::anyhow!("the order names no program")).await;
    };
    let started = tokio::process::Command::new(program)
        .args(rest)
        .envs(env)
        .stdin(Stdio::null())
        .stdout(Stdio::from(io::stderr()))
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("could not start {program}"));
    let mut child = match started {
        Ok(child) => child,
        Err(error) => return fail(&mut stdout, &error).await,
    };
    write_line(&mut stdout, &Report::Ready).await?;
    let session = mux::serve(tokio::io::join(stdin, stdout), protocol::DASHBOARD_PORT);
    tokio::select! {
        _ = session => { let _ = child.kill().await; Ok(0) }
        status = child.wait() => Ok(reap::exit_code(status.context("could not wait for the program")?)),
    }
}

async fn fail(stdout: &mut Stdout, error: &anyhow::Error) -> anyhow::Result<i32> {
    let _ = write_line(stdout, &Report::Failed { reason: format!("{error:#}") }).await;
    Ok(1)
}
