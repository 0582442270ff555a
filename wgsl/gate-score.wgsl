// gate-score: how likely each token is to be needed, by a gate of a few channels (Fast KVzip).
//   z = k[t,h].q[t,h,g] / sqrt e + bias[h,g];   z0_s = base[h,s].q[t,h,g] / sqrt e
//   out[h,t] = mean over g of 1 / (1 + sum over s of e^(z0_s - z))
// in   0 q [n, H, G, e] f32, read as vectors of 4    1 k [n, H, e] f32, likewise    2 base [H, S, e] f32, likewise    3 bias [H, G] f32
// out  4 out [H, n] f32
// grid ceil(n / 64) x H: one thread = one token of one head
// twin asm/gate-score.ts; 1e-6 (1 + the largest |z0 - z|) relative (order of sums, exp)

struct Dims {
  qAt: u32,
  kAt: u32,
  baseAt: u32,
  biasAt: u32,
  outAt: u32,
  n: u32,
  kvHeads: u32,
  size: u32, // G
  vectors: u32, // e / 4
  sinks: u32, // S
}

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> base: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
@group(0) @binding(5) var<uniform> dims: Dims;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let t = id.x;
  let h = id.y;
  if (t >= dims.n) { return; }
  let head = t * dims.kvHeads + h;
  let scale = 1.0 / sqrt(f32(4u * dims.vectors));
  var sum = 0.0;
  for (var g = 0u; g < dims.size; g += 1u) {
    let query = dims.qAt / 4u + (head * dims.size + g) * dims.vectors;
    var z = 0.0;
    for (var c = 0u; c < dims.vectors; c += 1u) { z += dot(q[query + c], k[dims.kAt / 4u + head * dims.vectors + c]); }
    z = z * scale + bias[dims.biasAt + h * dims.size + g];
    var others = 0.0;
    for (var s = 0u; s < dims.sinks; s += 1u) {
      let row = dims.baseAt / 4u + (h * dims.sinks + s) * dims.vectors;
      var x = 0.0;
      for (var c = 0u; c < dims.vectors; c += 1u) { x += dot(q[query + c], base[row + c]); }
      others += exp(min(x * scale - z, 80.0)); // e^80 = 5e34: a share of 0 to seven digits
    }
    sum += 1.0 / (1.0 + others);
  }
  out[dims.outAt + h * dims.n + t] = sum / f32(dims.size);
}
