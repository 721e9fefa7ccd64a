//! The prover on one adapter.
//!
//! Knows no clock but the device's watchdog, and no meaning of what it multiplies. A product is made
//! in bands of rows, so that no dispatch runs long enough for an operating system to take the device
//! away, and while one band is made the one before is read back and hashed.

use std::{
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::Duration,
};

use gangline_types::{AdapterKind, Hash};
use wgpu::{BufferUsages, ComputePipeline, ErrorFilter, SubmissionIndex};

use super::{
    Adapter,
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
/// A band that takes longer than this will not come: the device hangs.
const BAND_TIMEOUT: Duration = Duration::from_secs(120);

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
    adapter: Adapter,
    limits: wgpu::Limits,
    device: wgpu::Device,
    queue: wgpu::Queue,
    fill: ComputePipeline,
    product: ComputePipeline,
    /// The first error the driver reported outside any call.
    fault: Arc<Mutex<Option<String>>>,
}

impl Gpu {
    fn new(adapter: Adapter, found: &wgpu::Adapter) -> Result<Self, ProverError> {
        let limits = found.limits();
        let device_failed =
            |doing, why: String| ProverError::Device { device: adapter.name.clone(), doing, why };
        let asked = wgpu::DeviceDescriptor {
            label: Some("gangline proof"),
            required_limits: limits.clone(),
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(found.request_device(&asked))
            .map_err(|e| device_failed("opening the device", e.to_string()))?;
        let fault = Arc::new(Mutex::new(None));
        let (errors, losses) = (Arc::clone(&fault), Arc::clone(&fault));
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| note(&errors, error.to_string())));
        device.set_device_lost_callback(move |_, why| note(&losses, format!("device lost: {why}")));
        let scope = device.push_error_scope(ErrorFilter::Validation);
        let (fill, product) = (compile(&device, FILL), compile(&device, PRODUCT));
        if let Some(error) = pollster::block_on(scope.pop()) {
            return Err(device_failed("compiling the kernels", error.to_string()));
        }
        Ok(Self { adapter, limits, device, queue, fill, product, fault })
    }

    fn failed(&self, doing: &'static str, why: impl ToString) -> ProverError {
        let noted = self.fault.lock().unwrap_or_else(PoisonError::into_inner).take();
        let why = noted.unwrap_or_else(|| why.to_string());
        ProverError::Device { device: self.adapter.name.clone(), doing, why }
    }

    fn no_fault(&self, doing: &'static str) -> Result<(), ProverError> {
        let faulty = self.fault.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if faulty { Err(self.failed(doing, "")) } else { Ok(()) }
    }

    fn buffer(&self, bytes: u64, usage: BufferUsages) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes,
            usage,
            mapped_at_creation: false,
        })
    }

    fn bind(&self, kernel: &ComputePipeline, buffers: &[wgpu::BufferBinding<'_>]) -> wgpu::BindGroup {
        let entries: Vec<_> = (0u32..)
            .zip(buffers)
            .map(|(binding, buffer)| wgpu::BindGroupEntry {
                binding,
                resource: wgpu::BindingResource::Buffer(buffer.clone()),
            })
            .collect();
        self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &kernel.get_bind_group_layout(0),
            entries: &entries,
        })
    }

    fn run(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        kernel: &ComputePipeline,
        bound: &wgpu::BindGroup,
        x: u32,
        y: u32,
    ) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(kernel);
        pass.set_bind_group(0, bound, &[]);
        pass.dispatch_workgroups(x, y, 1);
    }

    fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
    }
}

fn note(fault: &Mutex<Option<String>>, what: String) {
    fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(what);
}

fn compile(device: &wgpu::Device, kernel: Kernel) -> ComputePipeline {
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some(kernel.entry),
        source: wgpu::ShaderSource::Wgsl(kernel.source.into()),
    });
    device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(kernel.entry),
        layout: None,
        module: &module,
        entry_point: Some(kernel.entry),
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    })
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

        let scope = gpu.device.push_error_scope(ErrorFilter::OutOfMemory);
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
        let wait = wgpu::PollType::Wait { submission_index: Some(submission), timeout: Some(BAND_TIMEOUT) };
        gpu.device.poll(wait).map_err(|e| gpu.failed(doing, e))?;
        gpu.no_fault(doing)?;
        mapped
            .recv_timeout(BAND_TIMEOUT)
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
fn band_rows(kind: AdapterKind, n: u64) -> u64 {
    let macs = if kind == AdapterKind::Software { DISPATCH_MACS_SOFTWARE } else { DISPATCH_MACS };
    let most = (macs / (n * n)).min(BAND_BYTES / (n * 4));
    (most / 64 * 64).clamp(64, n)
}
