//! The kernels' sources and the layout of their arguments.
//!
//! Knows no device. No loop of an invocation runs longer than 2^15 steps, where lavapipe silently stops one
//! at about 65,536.

use std::{borrow::Cow, fmt::Write};

use bytemuck::{Pod, Zeroable};

const CHACHA: &str = include_str!("chacha.wgsl");

/// Fills memory.
pub fn memory() -> (&'static str, Cow<'static, str>) {
    ("memory_fill", Cow::Owned(format!("{CHACHA}{}", include_str!("memory.wgsl"))))
}

/// One segment of a walk over this many buffers, at least one.
pub fn walk(buffers: usize) -> (&'static str, Cow<'static, str>) {
    let mut source = format!("{CHACHA}{}", include_str!("walk.wgsl"));
    let mut cases = String::new();
    for i in 0..buffers {
        let binding = i + 2;
        let _ =
            writeln!(source, "@group(0) @binding({binding}) var<storage, read> memory{i}: array<vec4<u32>>;");
        let case = if i + 1 == buffers { "default".to_owned() } else { format!("case {i}u") };
        let _ = writeln!(
            cases,
            "    {case}: {{ return Rows(memory{i}[at], memory{i}[at + 1u], memory{i}[at + 2u], memory{i}[at + 3u]); }}"
        );
    }
    let _ = writeln!(
        source,
        "fn read_block(number: u32) -> Rows {{\n  let buffer = number / job.per_buffer;\n  let at = (number - buffer * job.per_buffer) * 4u;\n  switch (buffer) {{\n{cases}  }}\n}}"
    );
    ("walk", Cow::Owned(source))
}

/// One segment of the ALU chain.
pub fn alu() -> (&'static str, Cow<'static, str>) {
    ("alu", Cow::Owned(format!("{CHACHA}{}", include_str!("alu.wgsl"))))
}

/// Leaves of units and rows.
pub fn leaves() -> (&'static str, Cow<'static, str>) {
    ("hash_leaves", Cow::Borrowed(include_str!("leaves.wgsl")))
}

/// Arguments of [`memory`].
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct MemoryJob {
    pub key: [u32; 8],
    /// The first block's number among all.
    pub first: u32,
    /// Its place in this buffer, in blocks.
    pub offset: u32,
    pub count: u32,
    pub rounds: u32,
}

/// Arguments of [`walk`] and [`alu`]; the latter has no use for the memory's.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct ChainJob {
    pub key: [u32; 8],
    pub units: u32,
    pub segments: u32,
    pub segment: u32,
    pub steps: u32,
    pub first: u32,
    pub blocks: u32,
    pub per_buffer: u32,
    pub padding: u32,
}

/// Arguments of [`leaves`].
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct LeavesJob {
    pub key: [u32; 8],
    /// Messages in all: part of each of them.
    pub count: u32,
    /// The first one's number.
    pub first: u32,
    /// Messages of this dispatch.
    pub messages: u32,
    /// Words of data in each.
    pub words: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::kernels::tests::translates;

    #[test]
    fn every_kernel_translates_for_vulkan_metal_and_direct3d() {
        for (entry, source) in [memory(), alu(), leaves(), walk(1), walk(2), walk(7), walk(28)] {
            translates(entry, &source);
        }
    }
}
