//! The worker's hidden subcommands that open graphics adapters, alone in a program: what the worker
//! starts as its own children. `adapters inventory` shows what they find.

use gangline_worker::agent::{self, DataDir, Executable, Reporter};

fn main() -> anyhow::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("adapter-probe") => Ok(agent::probe_child()?),
        Some("adapter-prove") => Ok(agent::prove_child()?),
        Some("inventory") => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let data = DataDir::resolve(Some(&std::env::temp_dir().join("gangline-adapters")))?;
            Ok(runtime.block_on(agent::inventory(&data, &Executable::current()?, &Reporter::new(false)))?)
        }
        other => anyhow::bail!("{other:?} is none of adapter-probe, adapter-prove, inventory"),
    }
}
