//! Adapters that wgpu reaches (Vulkan, Metal, Direct3D 12) and the provers that run on them.
//!
//! Knows no machine, no claim and no clock. What an adapter says of itself is passed on as it is;
//! the proof does not rely on it.

mod device;
mod epoch;
mod kernels;
mod prover;

use gangline_types::{AdapterKind, Backend};
use serde::Serialize;

pub use epoch::{EpochProver, Route};
pub use prover::GpuProver;

/// An adapter as its driver describes it. Two may be equal in everything but the index: two cards
/// of one model without PCI addresses, or one device that a machine lists twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Adapter {
    /// Its place among [`adapters`], stable while the machine's drivers and cards stay as they are.
    pub index: usize,
    /// Model as the driver names it.
    pub name: String,
    /// Interface it is reached through. One card can appear once for each of them.
    pub backend: Backend,
    /// Kind of device as the driver says.
    pub kind: AdapterKind,
    /// Driver and version as the driver says; may be empty.
    pub driver: String,
    /// PCI vendor id, 0 where there is none.
    pub pci_vendor: u32,
    /// PCI device id, 0 where there is none.
    pub pci_device: u32,
    /// PCI address as `0000:01:00.0`, empty where there is none.
    pub pci_address: String,
    /// Largest buffer the driver gives, in bytes. Not the device's memory, which wgpu does not tell.
    pub buffer_bytes_max: u64,
}

/// Every adapter of this machine; none is not an error. Takes up to a second: it loads the drivers.
pub fn adapters() -> Vec<Adapter> {
    listed().into_iter().map(|(adapter, _)| adapter).collect()
}

fn listed() -> Vec<(Adapter, wgpu::Adapter)> {
    let mut options = wgpu::InstanceDescriptor::new_without_display_handle();
    options.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    // Debug and release builds ask the driver for the same things: no validation layers.
    options.flags = wgpu::InstanceFlags::empty();
    let instance = wgpu::Instance::new(options);
    pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()))
        .into_iter()
        .filter_map(|found| Some((backend(found.get_info().backend)?, found)))
        .enumerate()
        .map(|(index, (backend, found))| (describe(index, backend, &found), found))
        .collect()
}

fn backend(backend: wgpu::Backend) -> Option<Backend> {
    match backend {
        wgpu::Backend::Vulkan => Some(Backend::Vulkan),
        wgpu::Backend::Metal => Some(Backend::Metal),
        wgpu::Backend::Dx12 => Some(Backend::Dx12),
        wgpu::Backend::Noop | wgpu::Backend::Gl | wgpu::Backend::BrowserWebGpu => None,
    }
}

fn describe(index: usize, backend: Backend, found: &wgpu::Adapter) -> Adapter {
    let info = found.get_info();
    // Vulkan gives vendors without a PCI id numbers above 16 bits; their device ids mean nothing.
    let on_pci = (1..=0xffff).contains(&info.vendor);
    Adapter {
        index,
        name: info.name,
        backend,
        kind: match info.device_type {
            wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
            wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
            wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
            wgpu::DeviceType::Cpu => AdapterKind::Software,
            wgpu::DeviceType::Other => AdapterKind::Unknown,
        },
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        pci_vendor: if on_pci { info.vendor } else { 0 },
        pci_device: if on_pci { info.device } else { 0 },
        pci_address: info.device_pci_bus_id,
        buffer_bytes_max: found.limits().max_buffer_size,
    }
}
