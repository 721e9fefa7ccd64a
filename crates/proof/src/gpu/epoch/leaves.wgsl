// Keyed BLAKE3 of messages of two words (how many there are, and which this is) and then `words` words of data: the
// leaf of a unit or of a row. One invocation hashes one message.
struct Job {
  key: array<vec4<u32>, 2>,
  count: u32,   // of all messages
  first: u32,   // the first of this dispatch
  messages: u32,
  words: u32,   // of data in each message
}
@group(0) @binding(0) var<uniform> job: Job;
// The data of message `first` is at the start.
@group(0) @binding(1) var<storage, read> data: array<u32>;
// 32 bytes for each message, message `first` at the start.
@group(0) @binding(2) var<storage, read_write> leaves: array<vec4<u32>>;

const CHUNK_START = 1u;
const CHUNK_END = 2u;
const PARENT = 4u;
const ROOT = 8u;
const KEYED = 16u;

struct Value { a: vec4<u32>, b: vec4<u32> }
struct Block { a: vec4<u32>, b: vec4<u32>, c: vec4<u32>, d: vec4<u32> }

fn right(v: vec4<u32>, by: u32) -> vec4<u32> {
  return (v >> vec4<u32>(by)) | (v << vec4<u32>(32u - by));
}

// Half a round: the four columns or, with rows turned, the four diagonals.
fn half(s: Block, x: vec4<u32>, y: vec4<u32>) -> Block {
  var r = s;
  r.a = r.a + r.b + x; r.d = right(r.d ^ r.a, 16u);
  r.c = r.c + r.d; r.b = right(r.b ^ r.c, 12u);
  r.a = r.a + r.b + y; r.d = right(r.d ^ r.a, 8u);
  r.c = r.c + r.d; r.b = right(r.b ^ r.c, 7u);
  return r;
}

fn compress(v: Value, message: Block, counter: u32, bytes: u32, flags: u32) -> Value {
  var s = Block(
    v.a,
    v.b,
    vec4<u32>(0x6A09E667u, 0xBB67AE85u, 0x3C6EF372u, 0xA54FF53Au),
    vec4<u32>(counter, 0u, bytes, flags | KEYED),
  );
  var m = message;
  for (var i = 0u; i < 7u; i = i + 1u) {
    s = half(s, vec4<u32>(m.a.xz, m.b.xz), vec4<u32>(m.a.yw, m.b.yw));
    s.b = s.b.yzwx; s.c = s.c.zwxy; s.d = s.d.wxyz;
    s = half(s, vec4<u32>(m.c.xz, m.d.xz), vec4<u32>(m.c.yw, m.d.yw));
    s.b = s.b.wxyz; s.c = s.c.zwxy; s.d = s.d.yzwx;
    m = Block(
      vec4<u32>(m.a.z, m.b.z, m.a.w, m.c.z),
      vec4<u32>(m.b.w, m.a.x, m.b.x, m.d.y),
      vec4<u32>(m.a.y, m.c.w, m.d.x, m.b.y),
      vec4<u32>(m.c.y, m.d.z, m.d.w, m.c.x),
    );
  }
  return Value(s.a ^ s.c, s.b ^ s.d);
}

fn word(message: u32, i: u32) -> u32 {
  if (i == 0u) { return job.count; }
  if (i == 1u) { return job.first + message; }
  if (i < job.words + 2u) { return data[message * job.words + i - 2u]; }
  return 0u;
}

fn four(message: u32, i: u32) -> vec4<u32> {
  return vec4<u32>(word(message, i), word(message, i + 1u), word(message, i + 2u), word(message, i + 3u));
}

@compute @workgroup_size(64)
fn hash_leaves(@builtin(global_invocation_id) id: vec3<u32>) {
  let message = id.x;
  if (message >= job.messages) { return; }
  let start = Value(job.key[0], job.key[1]);
  let words = job.words + 2u;
  let chunks = (words + 255u) / 256u;
  // Values of whole subtrees, the larger ones first.
  var stack: array<Value, 8>;
  var depth = 0u;
  var value = start;
  for (var chunk = 0u; chunk < chunks; chunk = chunk + 1u) {
    let first = chunk * 256u;
    let blocks = (min(words - first, 256u) + 15u) / 16u;
    value = start;
    for (var block = 0u; block < blocks; block = block + 1u) {
      let at = first + block * 16u;
      let m = Block(four(message, at), four(message, at + 4u), four(message, at + 8u), four(message, at + 12u));
      var flags = select(0u, CHUNK_START, block == 0u);
      if (block + 1u == blocks) { flags = flags | select(CHUNK_END, CHUNK_END | ROOT, chunks == 1u); }
      value = compress(value, m, chunk, min(words - at, 16u) * 4u, flags);
    }
    if (chunk + 1u < chunks) {
      // As many subtrees end here as the number of chunks so far has zeros at its end.
      for (var n = chunk + 1u; (n & 1u) == 0u; n = n >> 1u) {
        depth = depth - 1u;
        let left = stack[depth];
        value = compress(start, Block(left.a, left.b, value.a, value.b), 0u, 64u, PARENT);
      }
      stack[depth] = value;
      depth = depth + 1u;
    }
  }
  while (depth > 0u) {
    depth = depth - 1u;
    let left = stack[depth];
    let flags = select(PARENT, PARENT | ROOT, depth == 0u);
    value = compress(start, Block(left.a, left.b, value.a, value.b), 0u, 64u, flags);
  }
  leaves[message * 2u] = value.a;
  leaves[message * 2u + 1u] = value.b;
}
