//! The matrix chain on a device: both operands filled, multiplied in bands by one of two routes, every product kept.
//!
//! Knows nothing of hashing.

use wgpu::{BufferUsages, ComputePipeline};

use crate::{
    MatrixParams, ProverError,
    chacha::{Key, Operand},
    gpu::{
        device::Device,
        kernels::{FILL, FillJob, Kernel, PRODUCT, PRODUCT_F32, ProductJob},
        prover::band_rows,
    },
};

/// How int8 matrices are multiplied. Both are exact, so both give the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Four int8 products and their sum in one instruction (dp4a), where there is one.
    Int8,
    /// In f32, whose partial sums stay below 2^24 and are exact.
    F32,
}

/// The kernels.
pub struct Kernels {
    fill: ComputePipeline,
    int8: ComputePipeline,
    f32: ComputePipeline,
}

impl Kernels {
    pub fn new(device: &Device) -> Result<Self, ProverError> {
        let source = |kernel: Kernel| (kernel.entry, kernel.source.into());
        let [fill, int8, f32] = device.compile([source(FILL), source(PRODUCT), source(PRODUCT_F32)])?;
        Ok(Self { fill, int8, f32 })
    }

    fn product(&self, route: Route) -> &ComputePipeline {
        match route {
            Route::Int8 => &self.int8,
            Route::F32 => &self.f32,
        }
    }

    /// The route that takes less time by this clock, the better of two tries each.
    pub fn faster(&self, device: &Device, now_micros: &mut dyn FnMut() -> u64) -> Result<Route, ProverError> {
        let matrices = Matrices::new(device, self, &MatrixParams { n: 1024, steps: 1, rows: 1 })?;
        let mut best = [u64::MAX; 2];
        for (route, best) in [Route::Int8, Route::F32].into_iter().zip(&mut best) {
            for warm in [false, true, true] {
                let start = now_micros();
                matrices.multiply(device, self, route, 0, &[0; 8])?;
                let took = now_micros().saturating_sub(start);
                if warm {
                    *best = (*best).min(took);
                }
            }
        }
        Ok(if best[1] < best[0] { Route::F32 } else { Route::Int8 })
    }
}

/// Buffers of one side and number of steps.
pub struct Matrices {
    n: u32,
    band_rows: u32,
    a: wgpu::Buffer,
    b: wgpu::Buffer,
    products: Vec<wgpu::Buffer>,
    fill_job: wgpu::Buffer,
    product_job: wgpu::Buffer,
}

impl Matrices {
    pub fn new(device: &Device, _: &Kernels, params: &MatrixParams) -> Result<Self, ProverError> {
        let n = u64::from(params.n);
        let (needed, most) =
            (n * n * 4, device.limits.max_buffer_size.min(device.limits.max_storage_buffer_binding_size));
        if needed > most {
            return Err(ProverError::TooLarge {
                device: device.adapter.name.clone(),
                n: params.n,
                what: format!("a buffer of {needed} bytes is needed, {most} is the most it has"),
            });
        }
        let [a, b] = [(); 2].map(|()| device.buffer(n * n, BufferUsages::STORAGE));
        let kept = BufferUsages::STORAGE | BufferUsages::COPY_SRC;
        let products = (0..params.steps).map(|_| device.buffer(n * n * 4, kept)).collect();
        let (fill_job, product_job) = (device.arguments::<FillJob>(), device.arguments::<ProductJob>());
        let band_rows = band_rows(device.adapter.kind, n) as u32;
        Ok(Self { n: params.n, band_rows, a, b, products, fill_job, product_job })
    }

    /// The product of a step, once made.
    pub fn product(&self, step: u32) -> &wgpu::Buffer {
        &self.products[step as usize]
    }

    /// Fills both operands and multiplies them; waits until that is done.
    pub fn multiply(
        &self,
        device: &Device,
        kernels: &Kernels,
        route: Route,
        step: u32,
        key: &Key,
    ) -> Result<&wgpu::Buffer, ProverError> {
        let doing = "multiplying";
        let whole = wgpu::Buffer::as_entire_buffer_binding;
        let blocks = self.n / 64 * self.n;
        let groups = blocks.div_ceil(64);
        for (operand, matrix) in [(Operand::Left, &self.a), (Operand::Right, &self.b)] {
            let job = FillJob { key: *key, tag: operand as u32, blocks, padding: [0; 2] };
            let bound = device.bind(&kernels.fill, &[whole(&self.fill_job), whole(matrix)]);
            device.submit(&kernels.fill, &bound, (&self.fill_job, &job), (groups, 1));
        }
        let (kernel, product) = (kernels.product(route), self.product(step));
        let mut before = None;
        for first_row in (0..self.n).step_by(self.band_rows as usize) {
            let rows = self.band_rows.min(self.n - first_row);
            let row_bytes = u64::from(self.n) * 4;
            let part = wgpu::BufferBinding {
                buffer: product,
                offset: u64::from(first_row) * row_bytes,
                size: wgpu::BufferSize::new(u64::from(rows) * row_bytes),
            };
            let bound =
                device.bind(kernel, &[whole(&self.product_job), whole(&self.a), whole(&self.b), part]);
            let job = ProductJob { n: self.n, first_row, padding: [0; 2] };
            let submission =
                device.submit(kernel, &bound, (&self.product_job, &job), (self.n / 64, rows / 64));
            if let Some(before) = before.replace(submission) {
                device.wait(doing, before)?;
            }
        }
        if let Some(last) = before {
            device.wait(doing, last)?;
        }
        Ok(product)
    }
}
