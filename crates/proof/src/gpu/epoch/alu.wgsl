// One segment of every lane of the ALU chain: nonlinear mixing of four words, nothing for a matrix unit to do.
struct Job {
  key: array<vec4<u32>, 2>,
  units: u32,
  segments: u32,
  segment: u32,
  steps: u32,
  first: u32,
  blocks: u32,
  per_buffer: u32,
  padding: u32,
}
@group(0) @binding(0) var<uniform> job: Job;
@group(0) @binding(1) var<storage, read_write> states: array<vec4<u32>>;

@compute @workgroup_size(64)
fn alu(@builtin(global_invocation_id) id: vec3<u32>) {
  let unit = job.first + id.x;
  if (unit >= job.units) { return; }
  let at = unit * job.segments + job.segment;
  var s: vec4<u32>;
  if (job.segment == 0u) {
    s = chacha(job.key[0], job.key[1], unit, 4u, 4u).a;
  } else {
    s = states[at - 1u];
  }
  for (var i = 0u; i < job.steps; i = i + 1u) {
    s = s * vec4<u32>(0x85EBCA6Bu) + job.key[i & 1u];
    s = s ^ (s.yzwx >> (s.wxyz & vec4<u32>(15u)));
    s = (s << vec4<u32>(13u)) | (s >> vec4<u32>(19u));
  }
  states[at] = s;
}
