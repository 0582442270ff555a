// rope: rotary position embedding in place, half-split: channel c turns with channel c + d/2 of its head.
//   (x_c, x_c+d/2) = (x_c cos - x_c+d/2 sin,  x_c+d/2 cos + x_c sin)
// Queries and keys of the same rows in one dispatch; heads1 = 0 where there is one array only.
// in   2 table [n, d] f32: row i = cos (d/2), then sin (d/2), of its position
// out  0 x0 [n, heads0, d] f32    1 x1 [n, heads1, d] f32
// grid ceil(n (heads0 + heads1) d/2 / 256) workgroups, folded into x and y: one thread = one pair
// twin asm/rope.ts; 1e-6 of the larger of the pair (FMA)

struct Dims {
  x0At: u32,
  x1At: u32,
  tableAt: u32,
  n: u32,
  heads0: u32,
  heads1: u32,
  headDim: u32,
}

@group(0) @binding(0) var<storage, read_write> x0: array<f32>;
@group(0) @binding(1) var<storage, read_write> x1: array<f32>;
@group(0) @binding(2) var<storage, read> table: array<f32>;
@group(0) @binding(3) var<uniform> dims: Dims;

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let half = dims.headDim / 2u;
  let heads = dims.heads0 + dims.heads1;
  let pair = (group.y * groups.x + group.x) * 256u + lane;
  if (pair >= dims.n * heads * half) { return; }
  let c = pair % half;
  let head = (pair / half) % heads;
  let row = pair / (half * heads);
  let angle = dims.tableAt + row * dims.headDim + c;
  let cosine = table[angle];
  let sine = table[angle + half];
  if (head < dims.heads0) {
    let i = dims.x0At + (row * dims.heads0 + head) * dims.headDim + c;
    let a = x0[i];
    let b = x0[i + half];
    x0[i] = a * cosine - b * sine;
    x0[i + half] = b * cosine + a * sine;
  } else {
    let i = dims.x1At + (row * dims.heads1 + head - dims.heads0) * dims.headDim + c;
    let a = x1[i];
    let b = x1[i + half];
    x1[i] = a * cosine - b * sine;
    x1[i + half] = b * cosine + a * sine;
  }
}
