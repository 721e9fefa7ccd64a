//! What a device holds and does for one epoch proof.
//!
//! Knows nothing of trees, nonces or messages. States, products and memory stay on the device; what comes back is a
//! leaf for each unit and row, and what is opened.

use std::thread::JoinHandle;

use gangline_types::{AdapterKind, Hash};
use wgpu::{BufferUsages, ComputePipeline, ErrorFilter, SubmissionIndex};

use super::{
    kernels::{self, ChainJob, LeavesJob, MemoryJob},
    matrix::{Kernels as MatrixKernels, Matrices, Route},
};
use crate::{
    chacha::Key,
    epoch::{
        Params, Part, ProverError, Stretch, Watch,
        prove::{self, piece},
    },
    gpu::{Adapter, device::Device},
    tree,
};

/// Invocations a workgroup, and the most workgroups of a dispatch.
pub const GROUP: u32 = 64;
const GROUPS_MAX: u32 = 65_535;

/// Most of a kind of work in one dispatch: about a tenth of a second on a software device of two cores, and on
/// the slowest real GPU still in use (3e11 operations, 2e8 random reads a second).
struct Limits {
    /// Double rounds of memory blocks, 96 operations each.
    rounds: u64,
    /// Reads of blocks.
    reads: u64,
    /// Steps of the ALU chain, about 28 operations each.
    steps: u64,
    /// Compressions of 64 bytes, about 700 operations each.
    pub compressions: u64,
}

impl Limits {
    const SOFTWARE: Self = Self { rounds: 1 << 25, reads: 1 << 19, steps: 1 << 26, compressions: 1 << 18 };
    const REAL: Self = Self { rounds: 1 << 29, reads: 1 << 25, steps: 1 << 31, compressions: 1 << 26 };
}

/// A device with its kernels.
pub struct Engine {
    device: Device,
    limits: Limits,
    buffer_bytes_max: u64,
    /// Buffers of memory that are put into the host's instead: a cheat's, to measure what it costs.
    on_host: u32,
    pub route: Route,
    memory: ComputePipeline,
    alu: ComputePipeline,
    leaves: ComputePipeline,
    matrix: MatrixKernels,
    ready: Option<Ready>,
    /// Memory on its way back to the driver, which takes seconds where there is much: nobody waits for it but who wants
    /// memory again.
    freeing: Option<JoinHandle<()>>,
}

/// What a proof of one size keeps until it is opened.
struct Ready {
    params: Params,
    /// What it takes for the work; given back as soon as that is done.
    working: Option<Working>,
    /// First walk, ALU chain, last walk.
    states: [wgpu::Buffer; 3],
    leaves_job: wgpu::Buffer,
    leaves: wgpu::Buffer,
    matrices: Option<Matrices>,
}

impl Ready {
    /// Whether this is enough for a proof of this size: all of it, with or without the matrices that it is ready for.
    fn serves(&self, params: &Params) -> bool {
        self.params == *params
            || self.params == Params { matrix: self.params.matrix, ..*params } && params.matrix.is_none()
    }
}

/// The memory that is filled and walked over, and all that is bound to it.
struct Working {
    memory: Vec<wgpu::Buffer>,
    /// The number of each buffer's first block.
    firsts: Vec<u32>,
    /// Blocks in each buffer of a region but the last.
    per_buffer: u32,
    fills: Vec<wgpu::BindGroup>,
    fill_job: wgpu::Buffer,
    walk: ComputePipeline,
    chain_job: wgpu::Buffer,
    /// For first and last walk, over each region.
    walks: [Vec<wgpu::BindGroup>; 2],
    alu: wgpu::BindGroup,
}

impl Engine {
    pub fn new(device: Device) -> Result<Self, ProverError> {
        let [memory, alu, leaves] = device.compile([kernels::memory(), kernels::alu(), kernels::leaves()])?;
        let matrix = MatrixKernels::new(&device)?;
        let software = device.adapter.kind == AdapterKind::Software;
        let limits = if software { Limits::SOFTWARE } else { Limits::REAL };
        let buffer_bytes_max =
            device.limits.max_buffer_size.min(device.limits.max_storage_buffer_binding_size);
        Ok(Self {
            device,
            limits,
            buffer_bytes_max,
            on_host: 0,
            route: Route::Int8,
            memory,
            alu,
            leaves,
            matrix,
            ready: None,
            freeing: None,
        })
    }

    pub fn adapter(&self) -> &Adapter {
        &self.device.adapter
    }

    pub fn set_buffer_bytes_max(&mut self, bytes: u64) {
        self.buffer_bytes_max = self.buffer_bytes_max.min(bytes.max(4096));
        self.ready = None;
    }

    /// Puts so many buffers of memory into the host's from now on; false if the device cannot read such buffers.
    pub fn spill(&mut self, buffers: u32) -> bool {
        self.ready = None;
        self.on_host = if self.device.reads_host_memory { buffers } else { 0 };
        self.device.reads_host_memory
    }

    /// Buffers that memory is split into, once it is taken.
    pub fn buffers(&self) -> usize {
        let working = self.ready.as_ref().and_then(|ready| ready.working.as_ref());
        working.map_or(0, |working| working.memory.len())
    }

    pub fn held_bytes(&self) -> u64 {
        let working = self.ready.as_ref().and_then(|ready| ready.working.as_ref());
        working.map_or(0, |working| working.memory.iter().map(wgpu::Buffer::size).sum())
    }

    pub fn choose_route(&mut self, now_micros: &mut dyn FnMut() -> u64) -> Result<Route, ProverError> {
        self.route = self.matrix.faster(&self.device, now_micros)?;
        Ok(self.route)
    }

    fn too_large(&self, params: &Params, what: String) -> ProverError {
        ProverError::TooLarge { device: self.device.adapter.name.clone(), bytes: params.memory_bytes(), what }
    }

    fn build(&self, params: &Params) -> Result<Ready, ProverError> {
        let device = &self.device;
        // Beside the memory, the walk binds its arguments and its states, which are a storage buffer too.
        let most = device
            .limits
            .max_storage_buffers_per_shader_stage
            .saturating_sub(1)
            .clamp(1, kernels::MEMORY_BUFFERS_MAX);
        let per_most = (self.buffer_bytes_max / 64 / 64 * 64).clamp(64, 1 << 28) as u32;
        let region = params.memory.region_blocks();
        let count = region.div_ceil(per_most);
        if count > most {
            let bytes = u64::from(per_most) * 64;
            return Err(self.too_large(
                params,
                format!(
                    "it gives {most} buffers of {bytes} bytes to a kernel, and a region of {} bytes needs {count}",
                    u64::from(region) * 64
                ),
            ));
        }
        // Equal parts of whole workgroups.
        let per_buffer = region.div_ceil(count).div_ceil(GROUP) * GROUP;
        let count = region.div_ceil(per_buffer);
        let out_of_memory = device.device.push_error_scope(ErrorFilter::OutOfMemory);
        let places: Vec<(u32, u32)> = (0..params.memory.regions)
            .flat_map(|r| {
                (0..count)
                    .map(move |i| (r * region + i * per_buffer, per_buffer.min(region - i * per_buffer)))
            })
            .collect();
        let on_device = places.len() as u32 - self.on_host.min(places.len() as u32);
        let memory: Vec<_> = (0..)
            .zip(&places)
            .map(|(i, &(_, blocks))| {
                // A buffer that the host can map lies in the host's memory wherever the device has its own.
                let host = if i < on_device { BufferUsages::empty() } else { BufferUsages::MAP_READ };
                device.buffer(u64::from(blocks) * 64, BufferUsages::STORAGE | host)
            })
            .collect();
        let kept = BufferUsages::STORAGE | BufferUsages::COPY_SRC;
        let states = [&params.walk, &params.alu, &params.walk].map(|c| device.buffer(c.states_bytes(), kept));
        let most_leaves = params.walk.units.max(params.alu.units).max(params.matrix.map_or(0, |m| m.n));
        let leaves = device.buffer(u64::from(most_leaves) * 32, kept);
        let matrices = params.matrix.map(|matrix| Matrices::new(device, &self.matrix, &matrix)).transpose();
        if let Some(error) = pollster::block_on(out_of_memory.pop()) {
            return Err(self.too_large(params, error.to_string()));
        }
        device.no_fault("taking memory")?;
        let matrices = matrices?;
        let [walk] = device.compile([kernels::walk(count as usize)])?;
        let [fill_job, chain_job, leaves_job] = [
            device.arguments::<MemoryJob>(),
            device.arguments::<ChainJob>(),
            device.arguments::<LeavesJob>(),
        ];
        let whole = wgpu::Buffer::as_entire_buffer_binding;
        let fills = memory.iter().map(|buffer| device.bind(&self.memory, &[whole(&fill_job), whole(buffer)]));
        let fills = fills.collect();
        let walks = [0, 2].map(|i| {
            let regions = memory.chunks(count as usize).map(|region| {
                let mut buffers = vec![whole(&chain_job), whole(&states[i])];
                buffers.extend(region.iter().map(whole));
                device.bind(&walk, &buffers)
            });
            regions.collect()
        });
        let alu = device.bind(&self.alu, &[whole(&chain_job), whole(&states[1])]);
        let params = *params;
        let firsts = places.iter().map(|place| place.0).collect();
        let working = Working { memory, firsts, per_buffer, fills, fill_job, walk, chain_job, walks, alu };
        Ok(Ready { params, working: Some(working), states, leaves_job, leaves, matrices })
    }

    /// Waits until memory that was given back is the driver's again.
    fn freed(&mut self) {
        if let Some(freeing) = self.freeing.take() {
            let _ = freeing.join();
        }
    }

    /// Buffers are freed once the device is done with them and somebody looks.
    fn collect(&self) {
        let _ = self.device.device.poll(wgpu::PollType::Poll);
    }

    fn ready(&self) -> Result<&Ready, ProverError> {
        self.ready.as_ref().ok_or(ProverError::NothingCommitted)
    }

    fn working(&self) -> Result<&Working, ProverError> {
        self.ready()?.working.as_ref().ok_or(ProverError::NothingCommitted)
    }

    /// Fills `most` blocks of each buffer at most.
    fn fill_some(&self, rounds: u32, key: &Key, most: u32, watch: &mut Watch<'_>) -> Result<(), ProverError> {
        let (working, device) = (self.working()?, &self.device);
        let once = (self.limits.rounds / u64::from(rounds)).clamp(64, u64::from(GROUPS_MAX * GROUP)) as u32
            / GROUP
            * GROUP;
        let pieces = working.memory.len() as u32 * working.per_buffer.min(most).div_ceil(once);
        let mut pace = Pace::new(device, "filling memory");
        let mut done = 0;
        let bound = working.memory.iter().zip(&working.fills);
        for (first, (buffer, bound)) in working.firsts.iter().zip(bound) {
            let blocks = ((buffer.size() / 64) as u32).min(most);
            for offset in (0..blocks).step_by(once as usize) {
                piece(watch, Part::Fill, done.min(pieces - 1), pieces)?;
                done += 1;
                let count = once.min(blocks - offset);
                let job = MemoryJob { key: *key, first: first + offset, offset, count, rounds };
                pace.next(device.submit(
                    &self.memory,
                    bound,
                    (&working.fill_job, &job),
                    (count.div_ceil(GROUP), 1),
                ))?;
            }
        }
        pace.finish()
    }

    /// The stretches of a chain: of the ALU's whole segments, of a walk's those within a region.
    fn stretches(params: &Params, part: Part) -> Vec<Stretch> {
        match part {
            Part::Alu => (0..params.alu.segments)
                .map(|segment| Stretch { segment, first: 0, steps: params.alu.steps, region: 0 })
                .collect(),
            _ => params.stretches().collect(),
        }
    }

    fn chain_some(
        &self,
        part: Part,
        key: &Key,
        stretches: &[Stretch],
        watch: &mut Watch<'_>,
    ) -> Result<(), ProverError> {
        let (params, working, device) = (&self.ready()?.params, self.working()?, &self.device);
        let (chain, kernel, most) = match part {
            Part::Alu => (&params.alu, &self.alu, self.limits.steps),
            _ => (&params.walk, &working.walk, self.limits.reads),
        };
        let once = |steps: u32| {
            (most / u64::from(steps)).clamp(64, u64::from(GROUPS_MAX * GROUP)) as u32 / GROUP * GROUP
        };
        let pieces = stretches.iter().map(|stretch| chain.units.div_ceil(once(stretch.steps))).sum();
        let mut pace = Pace::new(device, part.name());
        let mut done = 0;
        for stretch in stretches {
            let once = once(stretch.steps);
            let bound = match part {
                Part::Alu => &working.alu,
                Part::LastWalk => &working.walks[1][stretch.region as usize],
                _ => &working.walks[0][stretch.region as usize],
            };
            for first in (0..chain.units).step_by(once as usize) {
                piece(watch, part, done, pieces)?;
                done += 1;
                let job = ChainJob {
                    key: *key,
                    units: chain.units,
                    segments: chain.segments,
                    segment: stretch.segment,
                    steps: stretch.steps,
                    first,
                    blocks: params.memory.region_blocks(),
                    per_buffer: working.per_buffer,
                    resumed: u32::from(stretch.first > 0),
                };
                let groups = once.min(chain.units - first).div_ceil(GROUP);
                pace.next(device.submit(kernel, bound, (&working.chain_job, &job), (groups, 1)))?;
            }
        }
        pace.finish()
    }

    /// The leaves of `count` messages of `words` words that lie in a buffer one after the other.
    fn leaves_of(
        &self,
        data: &wgpu::Buffer,
        key: [u32; 8],
        count: u32,
        words: u32,
    ) -> Result<Vec<Hash>, ProverError> {
        let (ready, device) = (self.ready()?, &self.device);
        let each = u64::from((words + 2).div_ceil(16) + words.div_ceil(256));
        let once =
            (self.limits.compressions / each).clamp(64, u64::from(GROUPS_MAX * GROUP)) as u32 / GROUP * GROUP;
        let doing = "hashing leaves";
        let mut pace = Pace::new(device, doing);
        for first in (0..count).step_by(once as usize) {
            let messages = once.min(count - first);
            let part = |buffer, bytes: u64| wgpu::BufferBinding {
                buffer,
                offset: u64::from(first) * bytes,
                size: wgpu::BufferSize::new(u64::from(messages) * bytes),
            };
            let bound = device.bind(
                &self.leaves,
                &[
                    ready.leaves_job.as_entire_buffer_binding(),
                    part(data, u64::from(words) * 4),
                    part(&ready.leaves, 32),
                ],
            );
            let job = LeavesJob { key, count, first, messages, words };
            pace.next(device.submit(
                &self.leaves,
                &bound,
                (&ready.leaves_job, &job),
                (messages.div_ceil(GROUP), 1),
            ))?;
        }
        pace.finish()?;
        let bytes = device.read(doing, &[(&ready.leaves, 0, u64::from(count) * 32)])?;
        Ok(bytes.as_chunks::<32>().0.iter().map(|hash| Hash(*hash)).collect())
    }
}

impl prove::Engine for Engine {
    fn prepare(&mut self, params: &Params, watch: &mut Watch<'_>) -> Result<(), ProverError> {
        if self.ready.as_ref().is_some_and(|ready| ready.serves(params) && ready.working.is_some()) {
            return Ok(());
        }
        // Give memory back before taking more.
        self.ready = None;
        self.freed();
        self.ready = Some(self.build(params)?);
        // The first run of a kernel pays for its translation to machine code and for fresh memory.
        self.fill_some(4, &[0; 8], GROUP, watch)?;
        for (part, units) in
            [(Part::Walk, params.walk), (Part::Alu, params.alu), (Part::LastWalk, params.walk)]
        {
            self.chain_some(part, &[0; 8], &[Stretch { segment: 0, first: 0, steps: 1, region: 0 }], watch)?;
            let ready = self.ready()?;
            let data = &ready.states[crate::epoch::cpu::place_of(part)];
            self.leaves_of(data, [0; 8], units.units.min(GROUP), units.segments * 4)?;
        }
        if let Some(matrices) = &self.ready()?.matrices {
            matrices.multiply(&self.device, &self.matrix, self.route, 0, &[0; 8])?;
        }
        Ok(())
    }

    fn fill(&mut self, params: &Params, key: &Key, watch: &mut Watch<'_>) -> Result<(), ProverError> {
        self.fill_some(params.memory.rounds, key, u32::MAX, watch)
    }

    fn chain(
        &mut self,
        params: &Params,
        part: Part,
        key: &Key,
        watch: &mut Watch<'_>,
    ) -> Result<Vec<Hash>, ProverError> {
        let chain = if part == Part::Alu { &params.alu } else { &params.walk };
        self.chain_some(part, key, &Self::stretches(params, part), watch)?;
        let [_, unit_key] = tree::leaf_keys();
        let data = &self.ready()?.states[crate::epoch::cpu::place_of(part)];
        self.leaves_of(data, unit_key, chain.units, chain.segments * 4)
    }

    fn worked(&mut self) {
        self.freed();
        if let Some(working) = self.ready.as_mut().and_then(|ready| ready.working.take()) {
            let device = self.device.device.clone();
            self.freeing = Some(std::thread::spawn(move || {
                drop(working);
                let _ = device.poll(wgpu::PollType::Poll);
            }));
        }
    }

    fn multiply(&mut self, params: &Params, step: u32, key: &Key) -> Result<Vec<Hash>, ProverError> {
        let ready = self.ready()?;
        let (Some(matrices), Some(matrix)) = (&ready.matrices, &params.matrix) else {
            return Err(ProverError::NothingCommitted);
        };
        let product = matrices.multiply(&self.device, &self.matrix, self.route, step, key)?;
        let [row_key, _] = tree::leaf_keys();
        self.leaves_of(product, row_key, matrix.n, matrix.n)
    }

    fn states(&mut self, params: &Params, part: Part, units: &[u32]) -> Result<Vec<u32>, ProverError> {
        let chain = if part == Part::Alu { &params.alu } else { &params.walk };
        let states = &self.ready()?.states[crate::epoch::cpu::place_of(part)];
        let bytes = u64::from(chain.segments) * 16;
        let parts: Vec<_> = units.iter().map(|unit| (states, u64::from(*unit) * bytes, bytes)).collect();
        let read = self.device.read("reading states back", &parts)?;
        Ok(bytemuck::pod_collect_to_vec(&read))
    }

    fn rows(&mut self, params: &Params, step: u32, rows: &[u32]) -> Result<Vec<i32>, ProverError> {
        let n = u64::from(params.matrix.map_or(0, |m| m.n));
        let Some(matrices) = &self.ready()?.matrices else { return Err(ProverError::NothingCommitted) };
        let product = matrices.product(step);
        let parts: Vec<_> = rows.iter().map(|row| (product, u64::from(*row) * n * 4, n * 4)).collect();
        let read = self.device.read("reading rows back", &parts)?;
        Ok(bytemuck::pod_collect_to_vec(&read))
    }

    fn release(&mut self) {
        self.ready = None;
        self.freed();
        self.collect();
    }
}

/// Keeps two dispatches with the device: it is never idle, and never far ahead of a wish to stop.
struct Pace<'a> {
    device: &'a Device,
    doing: &'static str,
    running: Option<SubmissionIndex>,
}

impl<'a> Pace<'a> {
    fn new(device: &'a Device, doing: &'static str) -> Self {
        Self { device, doing, running: None }
    }

    fn next(&mut self, submission: SubmissionIndex) -> Result<(), ProverError> {
        if let Some(before) = self.running.replace(submission) {
            self.device.wait(self.doing, before)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), ProverError> {
        if let Some(last) = self.running.take() {
            self.device.wait(self.doing, last)?;
        }
        Ok(())
    }
}
