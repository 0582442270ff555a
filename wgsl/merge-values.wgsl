// merge-values: kept values take in the values of rows that go, as much as keys were alike and values long (MergingPress).
//   w_e = max(s_e, 0) |v_e| / (|v_e| + |v_r| + 1e-6)  where s_e = similarity[h,e] >= threshold[h], else 0;   r = target[h,e]
//   v[r] = (v[r] + sum over e of w_e v[e]) / (1 + sum over e of w_e)   where that sum is above 0;  rows with target 0xffffffff go to none
// in   1 nearest [H, n] u32: target    2 similarity [H, n] f32    3 norms [H, n] f32: |v|    4 threshold [H] f32
// out  0 v [n, H, d] f32, as vectors of 4; only rows that are somebody's target change
// grid (ceil(n d/4 / 64), H): one thread = one vector of a kept row; it looks at every row that goes. Sums: rows ascending
// twin asm/merge-values.ts; 2e-6 of the largest |v| (division, FMA)

struct Dims {
  vAt: u32,
  nearestAt: u32,
  similarityAt: u32,
  normsAt: u32,
  thresholdAt: u32,
  n: u32,
  kvHeads: u32,
  vectors: u32, // d / 4
}

@group(0) @binding(0) var<storage, read_write> v: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> nearest: array<u32>;
@group(0) @binding(2) var<storage, read> similarity: array<f32>;
@group(0) @binding(3) var<storage, read> norms: array<f32>;
@group(0) @binding(4) var<storage, read> threshold: array<f32>;
@group(0) @binding(5) var<uniform> dims: Dims;

const NONE = 0xffffffffu;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let r = id.x / dims.vectors;
  let c = id.x % dims.vectors;
  let h = id.y;
  if (r >= dims.n) { return; }
  let list = h * dims.n;
  if (nearest[dims.nearestAt + list + r] != NONE) { return; } // it goes itself
  let least = threshold[dims.thresholdAt + h];
  let length = norms[dims.normsAt + list + r];
  let row = dims.vAt / 4u + (r * dims.kvHeads + h) * dims.vectors + c;
  var sum = v[row];
  var total = 0.0;
  for (var e = 0u; e < dims.n; e += 1u) {
    if (nearest[dims.nearestAt + list + e] == r) {
      let s = similarity[dims.similarityAt + list + e];
      if (s >= least && s > 0.0) {
        let other = norms[dims.normsAt + list + e];
        let w = s * other / (other + length + 1e-6);
        sum += w * v[dims.vAt / 4u + (e * dims.kvHeads + h) * dims.vectors + c];
        total += w;
      }
    }
  }
  if (total > 0.0) { v[row] = sum / (1.0 + total); }
}
