// A stretch of every walker in one region: each reads block after block, and the next one's number depends on all 64
// bytes just read. The function `read_block` and the buffers it reads are written for the number of buffers a region takes.
struct Job {
  key: array<vec4<u32>, 2>,
  units: u32,
  segments: u32,
  segment: u32,
  steps: u32,
  first: u32,
  blocks: u32,
  per_buffer: u32,
  resumed: u32,
}
@group(0) @binding(0) var<uniform> job: Job;
@group(0) @binding(1) var<storage, read_write> states: array<vec4<u32>>;

fn take_in(state: vec4<u32>, four: vec4<u32>) -> vec4<u32> {
  var s = (state ^ four) * vec4<u32>(0x9E3779B1u);
  s = s ^ (s >> vec4<u32>(15u));
  s.x = s.x + s.w;
  s.y = s.y + s.x;
  s.z = s.z + s.y;
  s.w = s.w + s.z;
  return s;
}

@compute @workgroup_size(64)
fn walk(@builtin(global_invocation_id) id: vec3<u32>) {
  let unit = job.first + id.x;
  if (unit >= job.units) { return; }
  let at = unit * job.segments + job.segment;
  var s: vec4<u32>;
  if (job.resumed != 0u) {
    s = states[at];
  } else if (job.segment == 0u) {
    s = chacha(job.key[0], job.key[1], unit, 4u, 4u).a;
  } else {
    s = states[at - 1u];
  }
  for (var i = 0u; i < job.steps; i = i + 1u) {
    let block = read_block(s.w % job.blocks);
    s = take_in(s, block.a);
    s = take_in(s, block.b);
    s = take_in(s, block.c);
    s = take_in(s, block.d);
  }
  states[at] = s;
}
