// A band of C = A B, exact: int8 operands packed four to a word along k, i32 sums.
// A lies row by row, B column by column. A workgroup makes a tile of 64 x 64 entries, an
// invocation 4 x 4 of them; 64 values of k at a time pass through workgroup memory.
struct Job {
  n: u32,
  first_row: u32,
  pad0: u32,
  pad1: u32,
}
@group(0) @binding(0) var<uniform> job: Job;
@group(0) @binding(1) var<storage, read> a: array<u32>;
@group(0) @binding(2) var<storage, read> b: array<u32>;
// The band alone: its first entry is row `first_row`, column 0.
@group(0) @binding(3) var<storage, read_write> c: array<vec4<i32>>;

// [16 words along k][16 groups of four rows or columns]
var<workgroup> left: array<vec4<u32>, 256>;
var<workgroup> right: array<vec4<u32>, 256>;

fn dots(x: u32, y: vec4<u32>) -> vec4<i32> {
  return vec4<i32>(
    dot4I8Packed(x, y.x), dot4I8Packed(x, y.y), dot4I8Packed(x, y.z), dot4I8Packed(x, y.w));
}

@compute @workgroup_size(16, 16)
fn product(@builtin(workgroup_id) tile: vec3<u32>, @builtin(local_invocation_id) at: vec3<u32>) {
  let words = job.n / 4u;
  let k = at.x;
  let four = at.y;
  let from_a = (job.first_row + tile.y * 64u + four * 4u) * words + k;
  let from_b = (tile.x * 64u + four * 4u) * words + k;
  var c0 = vec4<i32>(0);
  var c1 = vec4<i32>(0);
  var c2 = vec4<i32>(0);
  var c3 = vec4<i32>(0);
  for (var k0 = 0u; k0 < words; k0 = k0 + 16u) {
    let i = from_a + k0;
    let j = from_b + k0;
    left[k * 16u + four] = vec4<u32>(a[i], a[i + words], a[i + 2u * words], a[i + 3u * words]);
    right[k * 16u + four] = vec4<u32>(b[j], b[j + words], b[j + 2u * words], b[j + 3u * words]);
    workgroupBarrier();
    for (var q = 0u; q < 16u; q = q + 1u) {
      let x = left[q * 16u + at.y];
      let y = right[q * 16u + at.x];
      c0 = c0 + dots(x.x, y);
      c1 = c1 + dots(x.y, y);
      c2 = c2 + dots(x.z, y);
      c3 = c3 + dots(x.w, y);
    }
    workgroupBarrier();
  }
  let o = (tile.y * 64u + at.y * 4u) * words + tile.x * 16u + at.x;
  c[o] = c0;
  c[o + words] = c1;
  c[o + 2u * words] = c2;
  c[o + 3u * words] = c3;
}
