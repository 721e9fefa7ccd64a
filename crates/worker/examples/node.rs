//! The node by itself: what `gangline node` is inside a sandbox, for the worker's own tests.

fn main() -> anyhow::Result<()> {
    gangline_worker::node::run(gangline_worker::node::NodeArgs::default())
}
