// Fills an int8 matrix with ChaCha8: one invocation writes one block of 64 bytes.
struct Job {
  key: array<vec4<u32>, 2>,
  tag: u32,
  blocks: u32,
  pad0: u32,
  pad1: u32,
}
@group(0) @binding(0) var<uniform> job: Job;
@group(0) @binding(1) var<storage, read_write> matrix: array<vec4<u32>>;

struct Rows { a: vec4<u32>, b: vec4<u32>, c: vec4<u32>, d: vec4<u32> }

fn turn(v: vec4<u32>, by: u32) -> vec4<u32> {
  return (v << vec4<u32>(by)) | (v >> vec4<u32>(32u - by));
}

fn quarters(s: Rows) -> Rows {
  var r = s;
  r.a = r.a + r.b; r.d = turn(r.d ^ r.a, 16u);
  r.c = r.c + r.d; r.b = turn(r.b ^ r.c, 12u);
  r.a = r.a + r.b; r.d = turn(r.d ^ r.a, 8u);
  r.c = r.c + r.d; r.b = turn(r.b ^ r.c, 7u);
  return r;
}

@compute @workgroup_size(64)
fn fill(@builtin(global_invocation_id) id: vec3<u32>) {
  let block = id.x;
  if (block >= job.blocks) { return; }
  let start = Rows(
    vec4<u32>(0x61707865u, 0x3320646eu, 0x79622d32u, 0x6b206574u),
    job.key[0],
    job.key[1],
    vec4<u32>(block, 0u, job.tag, 0u),
  );
  var s = start;
  for (var i = 0u; i < 4u; i = i + 1u) {
    s = quarters(s);
    // Turn the rows so that the next quarter rounds work on the diagonals, then turn back.
    s.b = s.b.yzwx; s.c = s.c.zwxy; s.d = s.d.wxyz;
    s = quarters(s);
    s.b = s.b.wxyz; s.c = s.c.zwxy; s.d = s.d.yzwx;
  }
  matrix[block * 4u] = s.a + start.a;
  matrix[block * 4u + 1u] = s.b + start.b;
  matrix[block * 4u + 2u] = s.c + start.c;
  matrix[block * 4u + 3u] = s.d + start.d;
}
