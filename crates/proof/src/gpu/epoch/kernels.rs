//! The kernels' sources and the layout of their arguments.
//!
//! Knows no device. No loop of an invocation runs longer than 2^15 steps, where lavapipe silently stops one
//! at about 65,536.

use std::{borrow::Cow, fmt::Write};

use bytemuck::{Pod, Zeroable};

const CHACHA: &str = include_str!("chacha.wgsl");

/// Most buffers of a region. Drivers let one binding reach 2 GiB, whatever the device holds (an NVIDIA H200's does),
/// and 2^32 blocks of 64 bytes, the most a challenge can ask for, are 128.
pub const MEMORY_BUFFERS_MAX: u32 = 130;

/// Fills memory.
pub fn memory() -> (&'static str, Cow<'static, str>) {
    ("memory_fill", Cow::Owned(format!("{CHACHA}{}", include_str!("memory.wgsl"))))
}

/// A stretch of a walk over the buffers of a region, at least one.
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
    /// Whether units go on from where the stretch before left them in this segment.
    pub resumed: u32,
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
    use crate::gpu::kernels::tests::{self as matrix, translates};

    #[test]
    fn every_kernel_translates_for_vulkan_metal_and_direct3d() {
        for (entry, source) in [
            memory(),
            alu(),
            leaves(),
            walk(1),
            walk(2),
            walk(7),
            walk(28),
            walk(MEMORY_BUFFERS_MAX as usize),
        ] {
            translates(entry, &source);
        }
    }

    /// A kernel that nobody thought of translating would be found out on somebody's machine.
    #[test]
    fn no_kernel_is_left_out() {
        let matrix = matrix::ALL.map(|kernel| kernel.source.to_owned());
        let epoch = [memory(), alu(), leaves(), walk(1)].map(|(_, source)| source.into_owned());
        let translated = [&matrix[..], &epoch[..]].concat();
        let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/gpu")];
        let mut found = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|name| name == "wgsl") {
                    found += 1;
                    let text = std::fs::read_to_string(&path).unwrap();
                    let is_part = translated.iter().any(|source| source.contains(&text));
                    assert!(is_part, "{} is translated by no test", path.display());
                }
            }
        }
        assert_eq!(found, 8);
    }
}
