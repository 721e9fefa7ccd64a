// A band of C = A B, exact, in f32: every product is below 2^14 and every partial sum of 1,024 of them at most 2^24, so
// f32 holds each exactly in any order, with or without fused multiply-add. Flushed into i32 every 1,024 terms.
// The same layout, tiles and bits as the int8 kernel; for devices whose f32 is faster than their int8.
struct Job {
  n: u32,
  first_row: u32,
  pad0: u32,
  pad1: u32,
}
@group(0) @binding(0) var<uniform> job: Job;
@group(0) @binding(1) var<storage, read> a: array<u32>;
@group(0) @binding(2) var<storage, read> b: array<u32>;
@group(0) @binding(3) var<storage, read_write> c: array<vec4<i32>>;

// [16 values of k][16 groups of four rows or columns]
var<workgroup> left: array<vec4<f32>, 256>;
var<workgroup> right: array<vec4<f32>, 256>;

fn value(word: u32, shift: u32) -> f32 {
  return f32(bitcast<i32>(word << (24u - shift)) >> 24u);
}

@compute @workgroup_size(16, 16)
fn product_f32(@builtin(workgroup_id) tile: vec3<u32>, @builtin(local_invocation_id) at: vec3<u32>) {
  let words = job.n / 4u;
  let k = at.x;
  let shift = (k % 4u) * 8u;
  let four = at.y;
  let from_a = (job.first_row + tile.y * 64u + four * 4u) * words + k / 4u;
  let from_b = (tile.x * 64u + four * 4u) * words + k / 4u;
  var i0 = vec4<i32>(0);
  var i1 = vec4<i32>(0);
  var i2 = vec4<i32>(0);
  var i3 = vec4<i32>(0);
  for (var k1 = 0u; k1 < words; k1 = k1 + 256u) {
    var c0 = vec4<f32>(0.0);
    var c1 = vec4<f32>(0.0);
    var c2 = vec4<f32>(0.0);
    var c3 = vec4<f32>(0.0);
    for (var k0 = k1; k0 < min(words, k1 + 256u); k0 = k0 + 4u) {
      let i = from_a + k0;
      let j = from_b + k0;
      left[k * 16u + four] = vec4<f32>(value(a[i], shift), value(a[i + words], shift),
        value(a[i + 2u * words], shift), value(a[i + 3u * words], shift));
      right[k * 16u + four] = vec4<f32>(value(b[j], shift), value(b[j + words], shift),
        value(b[j + 2u * words], shift), value(b[j + 3u * words], shift));
      workgroupBarrier();
      for (var q = 0u; q < 16u; q = q + 1u) {
        let x = left[q * 16u + at.y];
        let y = right[q * 16u + at.x];
        c0 = c0 + x.x * y;
        c1 = c1 + x.y * y;
        c2 = c2 + x.z * y;
        c3 = c3 + x.w * y;
      }
      workgroupBarrier();
    }
    i0 = i0 + vec4<i32>(c0);
    i1 = i1 + vec4<i32>(c1);
    i2 = i2 + vec4<i32>(c2);
    i3 = i3 + vec4<i32>(c3);
  }
  let o = (tile.y * 64u + at.y * 4u) * words + tile.x * 16u + at.x;
  c[o] = i0;
  c[o + words] = i1;
  c[o + 2u * words] = i2;
  c[o + 3u * words] = i3;
}
