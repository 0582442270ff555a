// turn-keys: kept keys move together: each is turned back from its own position to its place among the kept ones (KeyRerotation).
//   of every head, rows p = order[h,i], i < count;  j = how many of these rows have a lower number
//   k[p,h] = k[p,h] turned by -(p - j) positions: with cos, sin of row p - j of the table
//     (x_c, x_c+d/2) = (x_c cos + x_c+d/2 sin,  x_c+d/2 cos - x_c sin)
// in   1 table [n, d] f32: row t = cos (d/2) then sin (d/2) of position t    2 order [H, stride] u32
// out  0 k     [n, H, d] f32
// grid (ceil(count / 64), H): one thread = one kept row; it counts its j
// twin asm/turn-keys.ts; 1e-6 of the larger of the pair (FMA)

struct Dims {
  kAt: u32,
  tableAt: u32,
  orderAt: u32,
  stride: u32,
  count: u32,
  kvHeads: u32,
  headDim: u32,
}

@group(0) @binding(0) var<storage, read_write> k: array<f32>;
@group(0) @binding(1) var<storage, read> table: array<f32>;
@group(0) @binding(2) var<storage, read> order: array<u32>;
@group(0) @binding(3) var<uniform> dims: Dims;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= dims.count) { return; }
  let h = id.y;
  let rows = dims.orderAt + h * dims.stride;
  let p = order[rows + id.x];
  var j = 0u;
  for (var i = 0u; i < dims.count; i += 1u) { j += select(0u, 1u, order[rows + i] < p); }
  if (p == j) { return; }
  let half = dims.headDim / 2u;
  let angle = dims.tableAt + (p - j) * dims.headDim;
  let row = dims.kAt + (p * dims.kvHeads + h) * dims.headDim;
  for (var c = 0u; c < half; c += 1u) {
    let cosine = table[angle + c];
    let sine = table[angle + half + c];
    let a = k[row + c];
    let b = k[row + half + c];
    k[row + c] = a * cosine + b * sine;
    k[row + half + c] = b * cosine - a * sine;
  }
}
