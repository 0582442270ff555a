// cholesky-inverse: W with W^T W = (M + ridge I)^-1, so that x^T (M + ridge I)^-1 x = |W x|^2.
//   M + ridge I = L L^T,  W = L^-1.   Where a pivot is not above 0, ridge becomes 10 times as much, `most` times at most
// in   0 matrix M [R, d, d] f32, symmetric; d <= 1024
// out  1 lower [R, d, d] f32: L, of which the lower triangle is written    2 out W [R, d, d] f32, lower triangular, zeros above; all zeros where every
//      ridge failed    3 tries [R] u32: ridges it took, 0 = all failed
// grid main: R workgroups; a thread has every 256th row of a column of L, later every 256th column of W
//      alone: ceil(R / 64) workgroups, for software adapters: one thread = one matrix
// Sums in fixed order, columns ascending.
// twin asm/cholesky-inverse.ts; as far as the condition of M + ridge I lets it (order of sums)

struct Dims {
  matrixAt: u32,
  lowerAt: u32,
  outAt: u32,
  triesAt: u32,
  rows: u32,
  width: u32, // d
  most: u32,
  ridge: f32,
}

@group(0) @binding(0) var<storage, read> matrix: array<f32>;
@group(0) @binding(1) var<storage, read_write> lower: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@group(0) @binding(3) var<storage, read_write> tries: array<u32>;
@group(0) @binding(4) var<uniform> dims: Dims;

const LANES = 256u;
const LARGEST = 3.4e38;
var<workgroup> pivot: f32; // of the column at hand
var<workgroup> failed: u32;

fn entry(r: u32, i: u32, j: u32) -> u32 {
  return (r * dims.width + i) * dims.width + j;
}

/// M[i,j] less what the columns before j of L make of it.
fn rest(r: u32, i: u32, j: u32) -> f32 {
  let a = dims.lowerAt + entry(r, i, 0u);
  let b = dims.lowerAt + entry(r, j, 0u);
  var sum = 0.0;
  for (var k = 0u; k < j; k += 1u) { sum += lower[a + k] * lower[b + k]; }
  return matrix[dims.matrixAt + entry(r, i, j)] - sum;
}

fn isPivot(x: f32) -> bool {
  return x > 0.0 && x < LARGEST;
}

/// Column j of W: W[i,j] = (i == j ? 1 : -(sum over k in j .. i-1 of L[i,k] W[k,j])) / L[i,i]; zeros where there is no L.
fn invertColumn(r: u32, j: u32, found: bool) {
  for (var i = 0u; i < dims.width; i += 1u) {
    let to = dims.outAt + entry(r, i, j);
    if (i < j || !found) {
      out[to] = 0.0;
      continue;
    }
    var sum = select(0.0, 1.0, i == j);
    for (var k = j; k < i; k += 1u) { sum -= lower[dims.lowerAt + entry(r, i, k)] * out[dims.outAt + entry(r, k, j)]; }
    out[to] = sum / lower[dims.lowerAt + entry(r, i, i)];
  }
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let r = group.x;
  var ridge = dims.ridge;
  var taken = 0u;
  for (var attempt = 1u; attempt <= dims.most; attempt += 1u) {
    if (lane == 0u) { failed = 0u; }
    for (var j = 0u; j < dims.width; j += 1u) {
      storageBarrier();
      workgroupBarrier();
      if (lane == 0u) {
        let square = rest(r, j, j) + ridge;
        if (isPivot(square)) {
          pivot = sqrt(square);
          lower[dims.lowerAt + entry(r, j, j)] = pivot;
        } else {
          failed = 1u;
        }
      }
      if (workgroupUniformLoad(&failed) == 1u) { break; }
      for (var i = j + 1u + lane; i < dims.width; i += LANES) { lower[dims.lowerAt + entry(r, i, j)] = rest(r, i, j) / pivot; }
    }
    if (workgroupUniformLoad(&failed) == 0u) {
      taken = attempt;
      break;
    }
    ridge *= 10.0;
  }
  storageBarrier();
  workgroupBarrier();
  for (var j = lane; j < dims.width; j += LANES) { invertColumn(r, j, taken > 0u); }
  if (lane == 0u) { tries[dims.triesAt + r] = taken; }
}

@compute @workgroup_size(64)
fn alone(@builtin(global_invocation_id) id: vec3u) {
  let r = id.x;
  if (r >= dims.rows) { return; }
  var ridge = dims.ridge;
  var taken = 0u;
  for (var attempt = 1u; attempt <= dims.most && taken == 0u; attempt += 1u) {
    var whole = true;
    for (var j = 0u; j < dims.width && whole; j += 1u) {
      let square = rest(r, j, j) + ridge;
      whole = isPivot(square);
      let root = sqrt(max(square, 0.0));
      lower[dims.lowerAt + entry(r, j, j)] = root;
      for (var i = j + 1u; i < dims.width && whole; i += 1u) { lower[dims.lowerAt + entry(r, i, j)] = rest(r, i, j) / root; }
    }
    if (whole) { taken = attempt; }
    ridge *= 10.0;
  }
  for (var j = 0u; j < dims.width; j += 1u) { invertColumn(r, j, taken > 0u); }
  tries[dims.triesAt + r] = taken;
}
