// ChaCha as a counter-based stream: one block of 64 bytes from a key, a number and a tag.
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

fn chacha(key0: vec4<u32>, key1: vec4<u32>, number: u32, tag: u32, rounds: u32) -> Rows {
  let start = Rows(
    vec4<u32>(0x61707865u, 0x3320646eu, 0x79622d32u, 0x6b206574u),
    key0,
    key1,
    vec4<u32>(number, 0u, tag, 0u),
  );
  var s = start;
  for (var i = 0u; i < rounds; i = i + 1u) {
    s = quarters(s);
    // Turn the rows so that the next quarter rounds work on the diagonals, then turn back.
    s.b = s.b.yzwx; s.c = s.c.zwxy; s.d = s.d.wxyz;
    s = quarters(s);
    s.b = s.b.wxyz; s.c = s.c.zwxy; s.d = s.d.yzwx;
  }
  return Rows(s.a + start.a, s.b + start.b, s.c + start.c, s.d + start.d);
}
