//! The prover on one adapter.
//!
//! Knows no clock but the device's watchdog, and no meaning of what it multiplies. A product is made
//! in bands of rows, so that no dispatch runs long enough for an operating system to take the device
//! away, and while one band is made the one before is read back and hashed.

use std::{ops::Deref, sync::mpsc};

use gangline_types::{AdapterKind, Hash};
use wgpu::{BufferUsages, ComputePipeline, ErrorFilter, SubmissionIndex};

use super::{
    Adapter,
    device::{Device, TIMEOUT},
    kernels::{FILL, FillJob, Kernel, PRODUCT, ProductJob},
    listed,
};
use crate::{
    Challenge, Commitment, MatrixParams, Opening, Prover, ProverError,
    chacha::{Key, Operand},
    prove::{Held, Step, hash_rows},
    tree::Tree,
};

/// Multiply-adds in one dispatch: a software device makes about 10^9 a second, and the slowest real
/// GPU still in use about 10^11, against the two seconds that Windows allows.
const DISPATCH_MACS_SOFTWARE: u64 = 1 << 30;
const DISPATCH_MACS: u64 = 1 << 36;
/// Bytes read back at a time.
const BAND_BYTES: u64 = 16 << 20;

/// A prover on one adapter.
pub struct GpuProver {
    gpu: Gpu,
    ready: Option<Ready>,
    held: Option<Held>,
}

impl GpuProver {
    /// Opens the adapter with this index among [`adapters`](super::adapters) and compiles the kernels.
    pub fn open(index: usize) -> Result<Self, ProverError> {
        let mut all = listed();
        if index >= all.len() {
            return Err(ProverError::NoAdapter { index, found: all.len() });
        }
        let (adapter, found) = all.swap_remove(index);
        Ok(Self { gpu: Gpu::new(adapter, &found)?, ready: None, held: None })
    }

    /// The adapter it runs on.
    pub fn adapter(&self) -> &Adapter {
        &self.gpu.adapter
    }

    fn prepare(&mut self, params: &MatrixParams) -> Result<(), ProverError> {
        params.check()?;
        if self.ready.as_ref().is_some_and(|ready| ready.n == params.n) {
            return Ok(());
        }
        self.ready = None; // give memory back before taking more
        let mut ready = Ready::new(&self.gpu, params)?;
        // The first run of a kernel pays for its translation to machine code and for fresh memory.
        ready.multiply(&self.gpu, &[0; 8])?;
        self.ready = Some(ready);
        Ok(())
    }
}

impl Prover for GpuProver {
    fn warm_up(&mut self, params: &MatrixParams) -> Result<(), ProverError> {
        self.prepare(params)
    }

    fn commit(
        &mut self,
        challenge: &Challenge,
        progress: &mut dyn FnMut(u32),
    ) -> Result<Commitment, ProverError> {
        self.held = None;
        self.prepare(&challenge.params)?;
        let (gpu, ready) = (&self.gpu, &mut self.ready);
        let held = Held::walk(challenge, progress, |key| match ready {
            Some(ready) => ready.multiply(gpu, key),
            None => Err(gpu.failed("preparing", "the device was given up")),
        });
        if held.is_err() {
            self.ready = None;
        }
        Ok(self.held.insert(held?).commitment.clone())
    }

    fn open(&mut self, nonce: &Hash) -> Result<Opening, ProverError> {
        self.held.take().ok_or(ProverError::NothingCommitted)?.open(nonce)
    }
}

/// An open device with its compiled kernels.
struct Gpu {
    device: Device,
    fill: ComputePipeline,
    product: ComputePipeline,
}

impl Deref for Gpu {
    type Target = Device;
    fn deref(&self) -> &Device {
        &self.device
    }
}

impl Gpu {
    fn new(adapter: Adapter, found: &wgpu::Adapter) -> Result<Self, ProverError> {
        let device = Device::open(adapter, found)?;
        let source = |kernel: Kernel| (kernel.entry, kernel.source.into());
        let [fill, product] = device.compile([source(FILL), source(PRODUCT)])?;
        Ok(Self { device, fill, product })
    }
}

/// Buffers and bindings for one matrix side.
struct Ready {
    n: u32,
    blocks: u32,
    fills: [Fill; 2],
    bands: Vec<Band>,
    c: wgpu::Buffer,
    staging: [wgpu::Buffer; 2],
}

struct Fill {
    tag: u32,
    job: wgpu::Buffer,
    bound: wgpu::BindGroup,
}

/// A run of rows of the product.
struct Band {
    first_row: u32,
    rows: u32,
    bound: wgpu::BindGroup,
}

/// A band that was handed to the device.
struct Pending<'a> {
    band: &'a Band,
    staging: &'a wgpu::Buffer,
    submission: SubmissionIndex,
    mapped: mpsc::Receiver<Result<(), wgpu::BufferAsyncError>>,
}

impl Ready {
    fn new(gpu: &Gpu, params: &MatrixParams) -> Result<Self, ProverError> {
        let n = u64::from(params.n);
        let matrix = n * n;
        let band_rows = band_rows(gpu.adapter.kind, n);
        let band_bytes = band_rows * n * 4;
        let binding_max = gpu.limits.max_storage_buffer_binding_size;
        for (what, needed, most) in [
            ("buffer", matrix * 4, gpu.limits.max_buffer_size),
            ("binding", matrix.max(band_bytes), binding_max),
        ] {
            if needed > most {
                return Err(ProverError::TooLarge {
                    device: gpu.adapter.name.clone(),
                    n: params.n,
                    what: format!("a {what} of {needed} bytes is needed, {most} is the most it has"),
                });
            }
        }

        let scope = gpu.device.device.push_error_scope(ErrorFilter::OutOfMemory);
        let a = gpu.buffer(matrix, BufferUsages::STORAGE);
        let b = gpu.buffer(matrix, BufferUsages::STORAGE);
        let c = gpu.buffer(matrix * 4, BufferUsages::STORAGE | BufferUsages::COPY_SRC);
        let staging =
            [(); 2].map(|()| gpu.buffer(band_bytes, BufferUsages::MAP_READ | BufferUsages::COPY_DST));
        let uniform = BufferUsages::UNIFORM | BufferUsages::COPY_DST;
        let fills = [(Operand::Left, &a), (Operand::Right, &b)].map(|(operand, matrix)| {
            let job = gpu.buffer(size_of::<FillJob>() as u64, uniform);
            let bound =
                gpu.bind(&gpu.fill, &[job.as_entire_buffer_binding(), matrix.as_entire_buffer_binding()]);
            Fill { tag: operand as u32, job, bound }
        });
        let bands = (0..params.n).step_by(band_rows as usize).map(|first_row| {
            let rows = (band_rows as u32).min(params.n - first_row);
            let job = gpu.buffer(size_of::<ProductJob>() as u64, uniform);
            let arguments = ProductJob { n: params.n, first_row, padding: [0; 2] };
            gpu.queue.write_buffer(&job, 0, bytemuck::bytes_of(&arguments));
            let part = wgpu::BufferBinding {
                buffer: &c,
                offset: u64::from(first_row) * n * 4,
                size: wgpu::BufferSize::new(u64::from(rows) * n * 4),
            };
            let [job, a, b] = [&job, &a, &b].map(|buffer| buffer.as_entire_buffer_binding());
            let bound = gpu.bind(&gpu.product, &[job, a, b, part]);
            Band { first_row, rows, bound }
        });
        let bands = bands.collect();
        if let Some(error) = pollster::block_on(scope.pop()) {
            return Err(ProverError::TooLarge {
                device: gpu.adapter.name.clone(),
                n: params.n,
                what: error.to_string(),
            });
        }
        gpu.no_fault("taking memory")?;
        Ok(Self { n: params.n, blocks: params.blocks(), fills, bands, c, staging })
    }

    /// Fills both matrices, multiplies, reads the product back and hashes its rows.
    fn multiply(&mut self, gpu: &Gpu, key: &Key) -> Result<Step, ProverError> {
        let n = self.n as usize;
        let mut fill = gpu.encoder();
        for Fill { tag, job, bound } in &self.fills {
            let arguments = FillJob { key: *key, tag: *tag, blocks: self.blocks, padding: [0; 2] };
            gpu.queue.write_buffer(job, 0, bytemuck::bytes_of(&arguments));
            // At most 8192^2 / 64 / 64 = 16,384 workgroups, below every device's 65,535.
            gpu.run(&mut fill, &gpu.fill, bound, self.blocks.div_ceil(64), 1);
        }
        gpu.queue.submit([fill.finish()]);

        let mut product = vec![0; n * n];
        let mut leaves = vec![Hash::default(); n];
        let mut before: Option<Pending<'_>> = None;
        for (index, band) in self.bands.iter().enumerate() {
            let next = self.start(gpu, band, &self.staging[index % 2]);
            if let Some(pending) = before.replace(next) {
                self.take(gpu, pending, &mut product, &mut leaves)?;
            }
        }
        if let Some(pending) = before {
            self.take(gpu, pending, &mut product, &mut leaves)?;
        }
        Ok(Step { product, tree: Tree::new(self.n, leaves) })
    }

    fn start<'a>(&self, gpu: &Gpu, band: &'a Band, staging: &'a wgpu::Buffer) -> Pending<'a> {
        let row_bytes = u64::from(self.n) * 4;
        let mut encoder = gpu.encoder();
        gpu.run(&mut encoder, &gpu.product, &band.bound, self.n / 64, band.rows / 64);
        let (offset, bytes) = (u64::from(band.first_row) * row_bytes, u64::from(band.rows) * row_bytes);
        encoder.copy_buffer_to_buffer(&self.c, offset, staging, 0, bytes);
        let submission = gpu.queue.submit([encoder.finish()]);
        let (done, mapped) = mpsc::channel();
        staging.map_async(wgpu::MapMode::Read, ..bytes, move |result| {
            // Nobody listens any more if an earlier band failed.
            let _ = done.send(result);
        });
        Pending { band, staging, submission, mapped }
    }

    fn take(
        &self,
        gpu: &Gpu,
        pending: Pending<'_>,
        product: &mut [i32],
        leaves: &mut [Hash],
    ) -> Result<(), ProverError> {
        let doing = "multiplying";
        let n = self.n as usize;
        let Pending { band, staging, submission, mapped } = pending;
        let wait = wgpu::PollType::Wait { submission_index: Some(submission), timeout: Some(TIMEOUT) };
        gpu.device.device.poll(wait).map_err(|e| gpu.failed(doing, e))?;
        gpu.no_fault(doing)?;
        mapped
            .recv_timeout(TIMEOUT)
            .map_err(|e| gpu.failed(doing, e))?
            .map_err(|e| gpu.failed("reading the product back", e))?;
        let (first, rows) = (band.first_row as usize, band.rows as usize);
        let here = &mut product[first * n..][..rows * n];
        {
            let view = staging
                .get_mapped_range(..here.len() as u64 * 4)
                .map_err(|e| gpu.failed("reading the product back", e))?;
            bytemuck::cast_slice_mut::<i32, u8>(here).copy_from_slice(&view);
        }
        staging.unmap();
        hash_rows(self.n, first, here, &mut leaves[first..][..rows]);
        Ok(())
    }
}

/// Rows of a band: as many as one dispatch and one read-back may have, in tiles of 64.
pub(super) fn band_rows(kind: AdapterKind, n: u64) -> u64 {
    let macs = if kind == AdapterKind::Software { DISPATCH_MACS_SOFTWARE } else { DISPATCH_MACS };
    let most = (macs / (n * n)).min(BAND_BYTES / (n * 4));
    (most / 64 * 64).clamp(64, n)
}
