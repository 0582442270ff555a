// weighted-gram: the matrix of all products of channels, summed over tokens: a covariance, where x is centred and nothing weighs.
//   out[r] = factor * sum over j of (w[r,j] + epsilon) (x_j - m_r) (x_j - m_r)^T,   x of head r / (R / H)
// in   0 x [n, H, d] f32, read as vectors of 4    1 weights: row r at r * stride, [n] f32, where weighted    2 centre [R, d] f32, where centred
// out  3 sums [spans, R, d, d] f32: the lower triangles (in blocks of 4 x 4) of the spans, made by add, read by combine    4 out [R, d, d] f32, symmetric
// grid add: (ceil(blocks / 64), R, spans), one thread = one block of 4 x 4 over `span` tokens, ascending; blocks = B (B + 1) / 2, B = d / 4
//      combine: (ceil(d d / 64), R), one thread = one element, spans ascending
// twin asm/weighted-gram.ts; 1e-5 of sqrt(out[r,i,i] out[r,j,j]) (order of sums)

struct Dims {
  xAt: u32,
  weightsAt: u32,
  centreAt: u32,
  sumsAt: u32,
  outAt: u32,
  n: u32,
  rows: u32,
  heads: u32,
  vectors: u32, // d / 4
  blocks: u32,
  span: u32,
  spans: u32,
  stride: u32,
  weighted: u32,
  centred: u32,
  epsilon: f32,
  factor: f32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> weights: array<f32>;
@group(0) @binding(2) var<storage, read> centre: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> sums: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
@group(0) @binding(5) var<uniform> dims: Dims;

@compute @workgroup_size(64)
fn add(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= dims.blocks) { return; }
  // Row b of the triangle has blocks b (b + 1) / 2 ..; the root may be off by one where it is whole.
  var b = u32((sqrt(8.0 * f32(id.x) + 1.0) - 1.0) / 2.0);
  if (b * (b + 1u) / 2u > id.x) { b -= 1u; }
  if ((b + 1u) * (b + 2u) / 2u <= id.x) { b += 1u; }
  let c = id.x - b * (b + 1u) / 2u;
  let r = id.y;
  var left = vec4<f32>(0.0);
  var right = vec4<f32>(0.0);
  if (dims.centred == 1u) {
    left = centre[dims.centreAt / 4u + r * dims.vectors + b];
    right = centre[dims.centreAt / 4u + r * dims.vectors + c];
  }
  var s0 = vec4<f32>(0.0);
  var s1 = vec4<f32>(0.0);
  var s2 = vec4<f32>(0.0);
  var s3 = vec4<f32>(0.0);
  let head = dims.xAt / 4u + r / (dims.rows / dims.heads) * dims.vectors;
  let end = min((id.z + 1u) * dims.span, dims.n);
  for (var t = id.z * dims.span; t < end; t += 1u) {
    let token = head + t * dims.heads * dims.vectors;
    let a = x[token + b] - left;
    var e = x[token + c] - right;
    if (dims.weighted == 1u) { e *= weights[dims.weightsAt + r * dims.stride + t] + dims.epsilon; }
    s0 += a.x * e;
    s1 += a.y * e;
    s2 += a.z * e;
    s3 += a.w * e;
  }
  let width = 4u * dims.vectors;
  let to = dims.sumsAt + ((id.z * dims.rows + r) * width + 4u * b) * width + 4u * c;
  for (var i = 0u; i < min(4u, width); i += 1u) { // a bound that Mesa does not know
    sums[to + i] = s0[i];
    sums[to + width + i] = s1[i];
    sums[to + 2u * width + i] = s2[i];
    sums[to + 3u * width + i] = s3[i];
  }
}

@compute @workgroup_size(64)
fn combine(@builtin(global_invocation_id) id: vec3u) {
  let width = 4u * dims.vectors;
  if (id.x >= width * width) { return; }
  let i = id.x / width;
  let j = id.x % width;
  let first = dims.sumsAt + (id.y * width + max(i, j)) * width + min(i, j);
  var sum = 0.0;
  for (var s = 0u; s < dims.spans; s += 1u) { sum += sums[first + s * dims.rows * width * width]; }
  out[dims.outAt + id.y * width * width + id.x] = sum * dims.factor;
}
