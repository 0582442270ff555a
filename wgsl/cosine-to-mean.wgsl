// cosine-to-mean: how much each key points where the keys of its head point on average (KeyDiff).
//   unit_t = k_t / max(|k_t|, 1e-12);  mean = mean over t of unit_t, not normalised again
//   out[h,j] = sign * k_j.mean / (max(|k_j|, 1e-8) max(|mean|, 1e-8))
// in   0 k    [n, H, d] f32, read as vectors of 4; d <= 1024
// out  1 sums [H, chunks, d] f32: sums of unit keys, made by directions, read by cosines    2 out [H, n] f32
// grid directions: (chunks, H), one workgroup = 256 keys of one head: one thread first has one key, then one vector of every few keys
//      cosines: (ceil(n / 256), H), one thread = one key, after the workgroup has added up the sums of its head
// The mean is added up in fixed order: keys of a chunk by lanes in turn, the lanes ascending, chunks ascending.
// twin asm/cosine-to-mean.ts; 1e-5 of [-1, 1] (the mean is summed in f64 there)

struct Dims {
  kAt: u32,
  sumsAt: u32,
  outAt: u32,
  n: u32,
  kvHeads: u32,
  vectors: u32, // d / 4
  chunks: u32, // ceil(n / 256)
  sign: f32,
}

@group(0) @binding(0) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> sums: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@group(0) @binding(3) var<uniform> dims: Dims;

const CHUNK = 256u;
var<workgroup> inverse: array<f32, CHUNK>; // 1 / |k|
var<workgroup> vectors: array<vec4<f32>, CHUNK>;

fn keyAt(j: u32, h: u32) -> u32 {
  return dims.kAt / 4u + (j * dims.kvHeads + h) * dims.vectors;
}

@compute @workgroup_size(256)
fn directions(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = group.x * CHUNK;
  let keys = min(CHUNK, dims.n - first);
  if (lane < keys) {
    let row = keyAt(first + lane, group.y);
    var squares = 0.0;
    for (var c = 0u; c < dims.vectors; c += 1u) { squares += dot(k[row + c], k[row + c]); }
    inverse[lane] = 1.0 / max(sqrt(squares), 1e-12);
  }
  workgroupBarrier();
  let turns = CHUNK / dims.vectors; // lanes that share a vector
  let c = lane % dims.vectors;
  let turn = lane / dims.vectors;
  var sum = vec4<f32>(0.0);
  if (turn < turns) {
    for (var t = turn; t < keys; t += turns) { sum += k[keyAt(first + t, group.y) + c] * inverse[t]; }
  }
  vectors[lane] = sum;
  workgroupBarrier();
  if (lane < dims.vectors) {
    for (var t = 1u; t < turns; t += 1u) { sum += vectors[t * dims.vectors + lane]; }
    sums[dims.sumsAt / 4u + (group.y * dims.chunks + group.x) * dims.vectors + lane] = sum;
  }
}

@compute @workgroup_size(256)
fn cosines(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  if (lane < dims.vectors) {
    var sum = vec4<f32>(0.0);
    for (var t = 0u; t < dims.chunks; t += 1u) { sum += sums[dims.sumsAt / 4u + (group.y * dims.chunks + t) * dims.vectors + lane]; }
    vectors[lane] = sum / f32(dims.n);
  }
  workgroupBarrier();
  let j = group.x * CHUNK + lane;
  if (j >= dims.n) { return; }
  let row = keyAt(j, group.y);
  var product = 0.0;
  var squares = 0.0;
  var meanSquares = 0.0;
  for (var c = 0u; c < dims.vectors; c += 1u) {
    let x = k[row + c];
    let mean = vectors[c];
    product += dot(x, mean);
    squares += dot(x, x);
    meanSquares += dot(mean, mean);
  }
  let lengths = max(sqrt(squares), 1e-8) * max(sqrt(meanSquares), 1e-8);
  out[dims.outAt + group.y * dims.n + j] = dims.sign * product / lengths;
}
