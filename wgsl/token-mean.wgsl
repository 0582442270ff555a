// token-mean: the mean vector of every head.
//   out[h] = (1 / n) sum over t of x[t,h]
// in   0 x    [n, columns] f32, read as vectors of 4; columns = H d, heads side by side
// out  1 sums [spans, columns] f32: sums of 256 tokens each, made by add, read by combine    2 out [columns] f32
// grid add: (ceil(columns / 4 / 64), spans), one thread = one vector over 256 tokens, ascending
//      combine: ceil(columns / 4 / 64), one thread = one vector, spans ascending
// twin asm/token-mean.ts; 1e-6 of the largest |x| (f32 sums, another order)

struct Dims {
  xAt: u32,
  sumsAt: u32,
  outAt: u32,
  n: u32,
  vectors: u32, // columns / 4
  spans: u32, // ceil(n / 256)
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> sums: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> dims: Dims;

const SPAN = 256u;

@compute @workgroup_size(64)
fn add(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= dims.vectors) { return; }
  let end = min((id.y + 1u) * SPAN, dims.n);
  var sum = vec4<f32>(0.0);
  for (var t = id.y * SPAN; t < end; t += 1u) { sum += x[dims.xAt / 4u + t * dims.vectors + id.x]; }
  sums[dims.sumsAt / 4u + id.y * dims.vectors + id.x] = sum;
}

@compute @workgroup_size(64)
fn combine(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= dims.vectors) { return; }
  var sum = vec4<f32>(0.0);
  for (var s = 0u; s < dims.spans; s += 1u) { sum += sums[dims.sumsAt / 4u + s * dims.vectors + id.x]; }
  out[dims.outAt / 4u + id.x] = sum / f32(dims.n);
}
