// output-norm: how large each value is once attention's output has gone through W_o, one query head at a time.
//   out[a,t] = |y|_p,  y[r] = v[t,h(a)] . w[r, a's columns],  r = 0 .. rows-1;  p = 1 or 2
//   accumulate: the norm of y and of what out[a,t] was taken of before, so that the rows of W_o may come in slabs
// in   0 v [n, H, d] f32    1 w [rows, Hq * d] f32, rows of W_o; both read as vectors of 4
// out  2 out [Hq, n] f32
// grid (ceil(n / 64), Hq): one thread = one token under one query head; it takes four rows at a time, ascending
// twin asm/output-norm.ts; 1e-5 relative (order of sums)

struct Dims {
  vAt: u32,
  wAt: u32,
  outAt: u32,
  n: u32,
  rows: u32,
  queryHeads: u32,
  kvHeads: u32,
  vectors: u32, // d / 4
  p: u32,
  accumulate: u32,
}

@group(0) @binding(0) var<storage, read> v: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> w: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@group(0) @binding(3) var<uniform> dims: Dims;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let t = id.x;
  if (t >= dims.n) { return; }
  let a = id.y;
  let h = a / (dims.queryHeads / dims.kvHeads);
  let value = dims.vAt / 4u + (t * dims.kvHeads + h) * dims.vectors;
  let stride = dims.queryHeads * dims.vectors;
  var row = dims.wAt / 4u + a * dims.vectors;
  var sum = 0.0;
  var r = 0u;
  for (; r + 4u <= dims.rows; r += 4u) {
    var y = vec4<f32>(0.0);
    for (var c = 0u; c < dims.vectors; c += 1u) {
      let x = v[value + c];
      let at = row + c;
      y += vec4<f32>(dot(x, w[at]), dot(x, w[at + stride]), dot(x, w[at + 2u * stride]), dot(x, w[at + 3u * stride]));
    }
    if (dims.p == 2u) { sum += dot(y, y); } else { sum += dot(abs(y), vec4<f32>(1.0)); }
    row += 4u * stride;
  }
  for (; r < dims.rows; r += 1u) {
    var y = 0.0;
    for (var c = 0u; c < dims.vectors; c += 1u) { y += dot(v[value + c], w[row + c]); }
    if (dims.p == 2u) { sum += y * y; } else { sum += abs(y); }
    row += stride;
  }
  let to = dims.outAt + a * dims.n + t;
  var before = 0.0;
  if (dims.accumulate != 0u) { before = out[to]; }
  if (dims.p == 2u) { out[to] = sqrt(sum + before * before); } else { out[to] = sum + before; }
}
