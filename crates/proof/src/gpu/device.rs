//! An open device: what every prover on an adapter needs of wgpu.
//!
//! Knows no kernel and no proof.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::Duration,
};

use wgpu::{BufferUsages, ComputePipeline, ErrorFilter, SubmissionIndex};

use super::Adapter;
use crate::ProverError;

/// Work that takes longer than this will not come: the device hangs.
pub const TIMEOUT: Duration = Duration::from_secs(120);

/// An open device.
pub struct Device {
    pub adapter: Adapter,
    pub limits: wgpu::Limits,
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    /// Whether kernels may work on buffers that the host can map.
    pub reads_host_memory: bool,
    /// The first error the driver reported outside any call.
    fault: Arc<Mutex<Option<String>>>,
}

impl Device {
    /// Opens an adapter with all its limits.
    pub fn open(adapter: Adapter, found: &wgpu::Adapter) -> Result<Self, ProverError> {
        let limits = found.limits();
        // Only what measures cheats makes use of it.
        let mappable = found.features() & wgpu::Features::MAPPABLE_PRIMARY_BUFFERS;
        let asked = wgpu::DeviceDescriptor {
            label: Some("gangline proof"),
            required_features: mappable,
            required_limits: limits.clone(),
            ..Default::default()
        };
        let (device, queue) =
            pollster::block_on(found.request_device(&asked)).map_err(|e| ProverError::Device {
                device: adapter.name.clone(),
                doing: "opening the device",
                why: e.to_string(),
            })?;
        let fault = Arc::new(Mutex::new(None));
        let (errors, losses) = (Arc::clone(&fault), Arc::clone(&fault));
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| note(&errors, error.to_string())));
        device.set_device_lost_callback(move |_, why| note(&losses, format!("device lost: {why}")));
        let reads_host_memory = !mappable.is_empty();
        Ok(Self { adapter, limits, device, queue, reads_host_memory, fault })
    }

    /// Compiles kernels, each an entry point and its source.
    pub fn compile<const N: usize>(
        &self,
        kernels: [(&'static str, Cow<'_, str>); N],
    ) -> Result<[ComputePipeline; N], ProverError> {
        let scope = self.device.push_error_scope(ErrorFilter::Validation);
        let compiled = kernels.map(|(entry, source)| {
            let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor {
                label: Some(entry),
                source: wgpu::ShaderSource::Wgsl(source.into_owned().into()),
            });
            self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(entry),
                layout: None,
                module: &module,
                entry_point: Some(entry),
                compilation_options: wgpu::PipelineCompilationOptions::default(),
                cache: None,
            })
        });
        match pollster::block_on(scope.pop()) {
            Some(error) => Err(self.failed("compiling the kernels", error)),
            None => Ok(compiled),
        }
    }

    /// The error of what was being done: what the driver reported, or else `why`.
    pub fn failed(&self, doing: &'static str, why: impl ToString) -> ProverError {
        let noted = self.fault.lock().unwrap_or_else(PoisonError::into_inner).take();
        let why = noted.unwrap_or_else(|| why.to_string());
        ProverError::Device { device: self.adapter.name.clone(), doing, why }
    }

    /// An error if the driver reported one.
    pub fn no_fault(&self, doing: &'static str) -> Result<(), ProverError> {
        let faulty = self.fault.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if faulty { Err(self.failed(doing, "")) } else { Ok(()) }
    }

    /// A new buffer.
    pub fn buffer(&self, bytes: u64, usage: BufferUsages) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes,
            usage,
            mapped_at_creation: false,
        })
    }

    /// A uniform buffer for arguments of type `T`.
    pub fn arguments<T>(&self) -> wgpu::Buffer {
        self.buffer(size_of::<T>() as u64, BufferUsages::UNIFORM | BufferUsages::COPY_DST)
    }

    /// Binds buffers in order.
    pub fn bind(&self, kernel: &ComputePipeline, buffers: &[wgpu::BufferBinding<'_>]) -> wgpu::BindGroup {
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

    /// Records a dispatch.
    pub fn run(
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

    /// A new list of commands.
    pub fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
    }

    /// Writes arguments, dispatches once, and hands it to the device.
    pub fn submit<T: bytemuck::Pod>(
        &self,
        kernel: &ComputePipeline,
        bound: &wgpu::BindGroup,
        (buffer, arguments): (&wgpu::Buffer, &T),
        groups: (u32, u32),
    ) -> SubmissionIndex {
        self.queue.write_buffer(buffer, 0, bytemuck::bytes_of(arguments));
        let mut encoder = self.encoder();
        self.run(&mut encoder, kernel, bound, groups.0, groups.1);
        self.queue.submit([encoder.finish()])
    }

    /// Waits until a submission is done.
    pub fn wait(&self, doing: &'static str, submission: SubmissionIndex) -> Result<(), ProverError> {
        let wait = wgpu::PollType::Wait { submission_index: Some(submission), timeout: Some(TIMEOUT) };
        self.device.poll(wait).map_err(|e| self.failed(doing, e))?;
        self.no_fault(doing)
    }

    /// Reads parts of buffers (buffer, offset, bytes), one after the other.
    pub fn read(
        &self,
        doing: &'static str,
        parts: &[(&wgpu::Buffer, u64, u64)],
    ) -> Result<Vec<u8>, ProverError> {
        let bytes: u64 = parts.iter().map(|(.., bytes)| bytes).sum();
        let staging = self.buffer(bytes, BufferUsages::MAP_READ | BufferUsages::COPY_DST);
        let mut encoder = self.encoder();
        let mut to = 0;
        for (buffer, from, bytes) in parts {
            encoder.copy_buffer_to_buffer(buffer, *from, &staging, to, *bytes);
            to += bytes;
        }
        let submission = self.queue.submit([encoder.finish()]);
        let (done, mapped) = mpsc::channel();
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            // Nobody listens any more if waiting failed.
            let _ = done.send(result);
        });
        self.wait(doing, submission)?;
        mapped
            .recv_timeout(TIMEOUT)
            .map_err(|e| self.failed(doing, e))?
            .map_err(|e| self.failed(doing, e))?;
        let view = staging.get_mapped_range(..).map_err(|e| self.failed(doing, e))?;
        Ok(view.to_vec())
    }
}

fn note(fault: &Mutex<Option<String>>, what: String) {
    fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(what);
}
