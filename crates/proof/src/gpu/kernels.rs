//! The kernels' sources and the layout of their arguments.
//!
//! Knows no device. Loops stay short: the product kernel at the largest side runs 8192/64 outer and
//! 16 inner iterations each, 2,176 in all, where lavapipe silently stops an invocation at about
//! 65,536.

use bytemuck::{Pod, Zeroable};

/// Fills a matrix with ChaCha8, one 64-byte block an invocation, 64 invocations a workgroup.
pub const FILL: Kernel = Kernel { entry: "fill", source: include_str!("fill.wgsl") };
/// A band of the exact int8 product, a tile of 64 x 64 entries a workgroup.
pub const PRODUCT: Kernel = Kernel { entry: "product", source: include_str!("product.wgsl") };

/// The same product in f32, whose partial sums are exact.
pub const PRODUCT_F32: Kernel = Kernel { entry: "product_f32", source: include_str!("product_f32.wgsl") };

/// One compute kernel.
#[derive(Clone, Copy)]
pub struct Kernel {
    /// Name of its entry point, and its label.
    pub entry: &'static str,
    /// WGSL text.
    pub source: &'static str,
}

/// Arguments of [`FILL`].
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct FillJob {
    /// Key of the step.
    pub key: [u32; 8],
    /// Which matrix.
    pub tag: u32,
    /// Blocks to write.
    pub blocks: u32,
    /// Uniforms are whole multiples of 16 bytes.
    pub padding: [u32; 2],
}

/// Arguments of [`PRODUCT`].
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct ProductJob {
    /// Side of the matrices.
    pub n: u32,
    /// First row of the band.
    pub first_row: u32,
    /// Uniforms are whole multiples of 16 bytes.
    pub padding: [u32; 2],
}

#[cfg(test)]
pub(super) mod tests {
    use naga::{
        back::{hlsl, msl, spv},
        valid::{Capabilities, ValidationFlags, Validator},
    };

    use super::*;

    /// Every kernel of matrices.
    pub const ALL: [Kernel; 3] = [FILL, PRODUCT, PRODUCT_F32];

    #[test]
    fn every_kernel_translates_for_vulkan_metal_and_direct3d() {
        for kernel in ALL {
            translates(kernel.entry, kernel.source);
        }
    }

    /// Translates a kernel to SPIR-V, to Metal's language from 2.1 on and to Direct3D's, without any feature beyond
    /// what every adapter has.
    pub fn translates(name: &str, source: &str) {
        let module =
            naga::front::wgsl::parse_str(source).unwrap_or_else(|e| panic!("{}", e.emit_to_string(source)));
        let info =
            Validator::new(ValidationFlags::all(), Capabilities::empty()).validate(&module).expect(name);

        let spirv = spv::write_vec(&module, &info, &spv::Options::default(), None).expect(name);
        assert_eq!(spirv.first(), Some(&0x0723_0203), "{name}: SPIR-V magic number");

        for lang_version in [(2, 1), (2, 4), (3, 0)] {
            let options = msl::Options { lang_version, fake_missing_bindings: true, ..Default::default() };
            let (metal, _) =
                msl::write_string(&module, &info, &options, &msl::PipelineOptions::default()).expect(name);
            assert!(metal.contains("kernel void"), "{name}: {metal}");
        }
        for shader_model in [hlsl::ShaderModel::V6_0, hlsl::ShaderModel::V6_4] {
            let options = hlsl::Options { shader_model, fake_missing_bindings: true, ..Default::default() };
            let pipeline = hlsl::PipelineOptions::default();
            let mut text = String::new();
            hlsl::Writer::new(&mut text, &options, &pipeline).write(&module, &info, None).expect(name);
            assert!(text.contains("numthreads"), "{name}: {text}");
        }
    }
}
