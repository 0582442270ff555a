// norm-share: each token's share of what the keys and values of its head are long (CurDKV's leverage).
//   kk_t = k_t.k_t,  vv_t = v_t.v_t;  segment > 0: each divided by its sum over its segment of `segment` tokens, counted from token 0, the last one shorter
//   z_t = kk_t | vv_t | (kk_t + vv_t) / 2 | kk_t vv_t, by `kind`;   out[h,t] = z_t / sum of z.  A share of a sum of 0 is 0
// in   0 k [n, H, d] f32    1 v [n, H, d] f32, both read as vectors of 4
// out  2 norms [2, H, n] f32: kk, then vv, made by squares, read by combine    3 out [H, n] f32: z, made by combine; replaced by normalise
// grid squares: ceil(2 n H / 64) workgroups, folded into x and y: one thread = one key or value
//      combine: (ceil(n / 256), H): one thread = one token, which adds up its segment, ascending
//      normalise: (1, H): one workgroup = one head; each of 256 threads adds up every 256th z, then all add up the threads' sums, ascending
// twin asm/norm-share.ts; 1e-5 relative (f32 sums, another order)

struct Dims {
  kAt: u32,
  vAt: u32,
  normsAt: u32,
  outAt: u32,
  n: u32,
  kvHeads: u32,
  vectors: u32, // d / 4
  segment: u32, // 0 = not divided
  kind: u32,
}

@group(0) @binding(0) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> v: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> norms: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
@group(0) @binding(4) var<uniform> dims: Dims;

const KEY = 0u;
const VALUE = 1u;
const AVERAGE = 2u; // else the product
const LANES = 256u;
var<workgroup> sums: array<f32, LANES>;

@compute @workgroup_size(64)
fn squares(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let rows = dims.n * dims.kvHeads;
  let row = (group.y * groups.x + group.x) * 64u + lane;
  if (row >= 2u * rows) { return; }
  let ofValue = row >= rows;
  let r = select(row, row - rows, ofValue);
  var square = 0.0;
  if (ofValue) {
    for (var c = 0u; c < dims.vectors; c += 1u) {
      let x = v[dims.vAt / 4u + r * dims.vectors + c];
      square += dot(x, x);
    }
  } else {
    for (var c = 0u; c < dims.vectors; c += 1u) {
      let x = k[dims.kAt / 4u + r * dims.vectors + c];
      square += dot(x, x);
    }
  }
  let t = r / dims.kvHeads;
  let h = r % dims.kvHeads;
  norms[dims.normsAt + select(0u, rows, ofValue) + h * dims.n + t] = square;
}

fn share(x: f32, total: f32) -> f32 {
  if (total == 0.0) { return 0.0; }
  return x / total;
}

@compute @workgroup_size(256)
fn combine(@builtin(global_invocation_id) id: vec3u) {
  let t = id.x;
  if (t >= dims.n) { return; }
  let keys = dims.normsAt + id.y * dims.n;
  let values = keys + dims.kvHeads * dims.n;
  var key = norms[keys + t];
  var value = norms[values + t];
  if (dims.segment > 0u) {
    let first = t - t % dims.segment;
    let end = min(dims.n, first + dims.segment);
    var allKeys = 0.0;
    var allValues = 0.0;
    for (var i = first; i < end; i += 1u) {
      allKeys += norms[keys + i];
      allValues += norms[values + i];
    }
    key = share(key, allKeys);
    value = share(value, allValues);
  }
  var z = key * value;
  if (dims.kind == KEY) { z = key; }
  if (dims.kind == VALUE) { z = value; }
  if (dims.kind == AVERAGE) { z = (key + value) / 2.0; }
  out[dims.outAt + id.y * dims.n + t] = z;
}

@compute @workgroup_size(256)
fn normalise(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = dims.outAt + group.y * dims.n;
  var sum = 0.0;
  for (var t = lane; t < dims.n; t += LANES) { sum += out[row + t]; }
  sums[lane] = sum;
  workgroupBarrier();
  let lanes = min(LANES, dims.n); // a bound that Mesa does not know: it would unroll the loop
  var total = 0.0;
  for (var i = 0u; i < lanes; i += 1u) { total += sums[i]; }
  for (var t = lane; t < dims.n; t += LANES) { out[row + t] = share(out[row + t], total); }
}
