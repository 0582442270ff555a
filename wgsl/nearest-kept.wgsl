// nearest-kept: for every row that goes, the kept row of its head whose key points most the same way (MergingPress).
//   kept: rows order[h,i], i < counts[h];  those that go: the others of among[h,i], i < amongStride, or of all n where there is no `among`
//   cosine(e,r) = k[e].k[r] / (max(|k[e]|, 1e-6) max(|k[r]|, 1e-6))
//   target[h,e] = argmax over kept r of cosine(e,r), ties to the lower row;  similarity[h,e] = that cosine
//   all other rows, and those that have no cosine with any: target 0xffffffff, similarity -2
// in   0 k [n, H, d] f32, read as vectors of 4    1 norms [H, n] f32: |k|    2 order [H, stride] u32    3 counts [H] u32
//      4 among [H, amongStride] u32, where amongStride > 0
// mid  5 others [H, n] u32: the rows that go, ascending; `mark` finds them
// out  6 nearest [H, n] u32: target    7 similarity [H, n] f32
// grid mark: H workgroups.  main: (ceil(most others / 32), H): one workgroup = 32 rows that go against tiles of 32 kept ones, 64 threads; a thread
//      has 4 rows and of the tile the keys lane % 8 + 0, 8, 16, 24.  alone: (ceil(most others / 32), H): one thread = one row that goes, for
//      adapters on which barriers are slow
// twin asm/nearest-kept.ts; 1e-5 of [-1, 1] (order of sums); where two kept rows are as close as that, either may be the target

struct Dims {
  kAt: u32,
  normsAt: u32,
  orderAt: u32,
  countsAt: u32,
  amongAt: u32,
  othersAt: u32,
  nearestAt: u32,
  similarityAt: u32,
  stride: u32,
  amongStride: u32, // 0 = all n
  n: u32,
  kvHeads: u32,
  vectors: u32, // d / 4
}

@group(0) @binding(0) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> norms: array<f32>;
@group(0) @binding(2) var<storage, read> order: array<u32>;
@group(0) @binding(3) var<storage, read> counts: array<u32>;
@group(0) @binding(4) var<storage, read> among: array<u32>;
@group(0) @binding(5) var<storage, read_write> others: array<u32>;
@group(0) @binding(6) var<storage, read_write> nearest: array<u32>;
@group(0) @binding(7) var<storage, read_write> similarity: array<f32>;
@group(0) @binding(8) var<uniform> dims: Dims;

const NONE = 0xffffffffu;
const GOES = 0u; // marks
const GONE = 1u;
const LANES = 256u; // of mark
const ROWS = 32u;
const KEYS = 32u;
const CHUNK = 8u; // vectors of a row at a time
const STRIDE = 9u; // of chunk rows: eight threads at eight keys read different banks
var<workgroup> tallies: array<u32, LANES>;
var<workgroup> chunks: array<vec4<f32>, 576>; // rows that go [32, 9], kept rows [32, 9]
var<workgroup> best: array<f32, 256>; // [32, 8]
var<workgroup> found: array<u32, 256>;

fn goingOf(count: u32) -> u32 {
  return select(dims.amongStride, dims.n, dims.amongStride == 0u) - count;
}

/** Who goes is written where its target will be. */
@compute @workgroup_size(256)
fn mark(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let h = group.x;
  let to = dims.nearestAt + h * dims.n;
  let count = counts[dims.countsAt + h];
  for (var t = lane; t < dims.n; t += LANES) { nearest[to + t] = select(GONE, GOES, dims.amongStride == 0u); }
  storageBarrier();
  for (var i = lane; i < dims.amongStride; i += LANES) { nearest[to + among[dims.amongAt + h * dims.amongStride + i]] = GOES; }
  storageBarrier();
  for (var i = lane; i < count; i += LANES) { nearest[to + order[dims.orderAt + h * dims.stride + i]] = GONE; }
  storageBarrier();
  let share = (dims.n + LANES - 1u) / LANES; // consecutive rows of a thread
  let first = min(lane * share, dims.n);
  let end = min(first + share, dims.n);
  var going = 0u;
  for (var t = first; t < end; t += 1u) { going += select(0u, 1u, nearest[to + t] == GOES); }
  tallies[lane] = going;
  workgroupBarrier();
  var at = dims.othersAt + h * dims.n;
  for (var i = 0u; i < lane; i += 1u) { at += tallies[i]; }
  for (var t = first; t < end; t += 1u) {
    if (nearest[to + t] == GOES) {
      others[at] = t;
      at += 1u;
    }
    nearest[to + t] = NONE;
    similarity[dims.similarityAt + h * dims.n + t] = -2.0;
  }
}

fn inverseNorm(h: u32, row: u32) -> f32 {
  return 1.0 / max(norms[dims.normsAt + h * dims.n + row], 1e-6);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let h = group.y;
  let count = counts[dims.countsAt + h];
  let going = goingOf(count);
  let first = group.x * ROWS;
  if (first >= going) { return; }
  let mine = dims.othersAt + h * dims.n;
  let kept = dims.orderAt + h * dims.stride;
  let tx = lane % 8u;
  let r0 = lane / 8u * 4u;
  var most = vec4<f32>(-2.0);
  var closest = vec4<u32>(NONE);
  for (var j = 0u; j < count; j += KEYS) {
    var s = array<vec4<f32>, 4>();
    for (var c = 0u; c < dims.vectors; c += CHUNK) {
      workgroupBarrier();
      for (var t = lane; t < ROWS * CHUNK; t += 64u) {
        let row = t / CHUNK;
        let col = c + t % CHUNK;
        let to = row * STRIDE + t % CHUNK;
        var x = vec4<f32>(0.0);
        var y = vec4<f32>(0.0);
        if (first + row < going && col < dims.vectors) {
          x = k[dims.kAt / 4u + (others[mine + first + row] * dims.kvHeads + h) * dims.vectors + col];
        }
        if (j + row < count && col < dims.vectors) {
          y = k[dims.kAt / 4u + (order[kept + j + row] * dims.kvHeads + h) * dims.vectors + col];
        }
        chunks[to] = x;
        chunks[288u + to] = y;
      }
      workgroupBarrier();
      for (var t = 0u; t < CHUNK; t += 1u) {
        let k0 = chunks[288u + tx * STRIDE + t];
        let k1 = chunks[288u + (tx + 8u) * STRIDE + t];
        let k2 = chunks[288u + (tx + 16u) * STRIDE + t];
        let k3 = chunks[288u + (tx + 24u) * STRIDE + t];
        for (var r = 0u; r < 4u; r += 1u) {
          let x = chunks[(r0 + r) * STRIDE + t];
          s[r] += vec4<f32>(dot(x, k0), dot(x, k1), dot(x, k2), dot(x, k3));
        }
      }
    }
    for (var x = 0u; x < 4u; x += 1u) {
      let at = j + tx + 8u * x;
      if (at < count) {
        let row = order[kept + at];
        let inverse = inverseNorm(h, row);
        for (var r = 0u; r < 4u; r += 1u) {
          if (first + r0 + r < going) {
            let cosine = s[r][x] * inverseNorm(h, others[mine + first + r0 + r]) * inverse;
            if (cosine > most[r] || (cosine == most[r] && row < closest[r])) {
              most[r] = cosine;
              closest[r] = row;
            }
          }
        }
      }
    }
  }
  for (var r = 0u; r < 4u; r += 1u) {
    best[(r0 + r) * 8u + tx] = most[r];
    found[(r0 + r) * 8u + tx] = closest[r];
  }
  workgroupBarrier();
  if (lane < ROWS && first + lane < going) {
    var top = -2.0;
    var row = NONE;
    for (var t = 0u; t < 8u; t += 1u) {
      let cosine = best[lane * 8u + t];
      let other = found[lane * 8u + t];
      if (cosine > top || (cosine == top && other < row)) {
        top = cosine;
        row = other;
      }
    }
    let to = h * dims.n + others[mine + first + lane];
    nearest[dims.nearestAt + to] = row;
    similarity[dims.similarityAt + to] = top;
  }
}

@compute @workgroup_size(32)
fn alone(@builtin(global_invocation_id) id: vec3u) {
  let h = id.y;
  let count = counts[dims.countsAt + h];
  if (id.x >= goingOf(count)) { return; }
  let own = others[dims.othersAt + h * dims.n + id.x];
  let key = dims.kAt / 4u + (own * dims.kvHeads + h) * dims.vectors;
  let inverse = inverseNorm(h, own);
  var top = -2.0;
  var closest = NONE;
  for (var i = 0u; i < count; i += 1u) {
    let row = order[dims.orderAt + h * dims.stride + i];
    let other = dims.kAt / 4u + (row * dims.kvHeads + h) * dims.vectors;
    var sum = 0.0;
    for (var c = 0u; c < dims.vectors; c += 1u) { sum += dot(k[key + c], k[other + c]); }
    let cosine = sum * inverse * inverseNorm(h, row);
    if (cosine > top || (cosine == top && row < closest)) {
      top = cosine;
      closest = row;
    }
  }
  nearest[dims.nearestAt + h * dims.n + own] = closest;
  similarity[dims.similarityAt + h * dims.n + own] = top;
}
