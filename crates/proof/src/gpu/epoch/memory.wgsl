// Fills part of a buffer of memory: one invocation makes one block of 64 bytes.
struct Job {
  key: array<vec4<u32>, 2>,
  first: u32,   // number of the first block of this dispatch, among all buffers
  offset: u32,  // where it lies in this buffer, in blocks
  count: u32,
  rounds: u32,
}
@group(0) @binding(0) var<uniform> job: Job;
@group(0) @binding(1) var<storage, read_write> memory: array<vec4<u32>>;

@compute @workgroup_size(64)
fn memory_fill(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= job.count) { return; }
  let block = chacha(job.key[0], job.key[1], job.first + id.x, 3u, job.rounds);
  let at = (job.offset + id.x) * 4u;
  memory[at] = block.a;
  memory[at + 1u] = block.b;
  memory[at + 2u] = block.c;
  memory[at + 3u] = block.d;
}
