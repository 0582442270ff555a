// What the linear layers of every weight type have in common: out = x Wᵀ (+ bias) (+ out), of up to three matrices W of the same type and width.
// A weight type brings the binding w and
//   quad(weights, row, q)                four neighbouring weights of a row, columns 4q..4q+3; 0 behind the last column
//   piece(weights, row, first, step)     eight such quads, first, first + step, ..
// The entries are in linear-decode.wgsl and linear-prefill.wgsl, for cols that is no multiple of 4 in linear-ragged.wgsl. Rows and tokens behind the last are read as the last and not written. A matrix that is
// not there has 0 rows.

struct Dims {
  wAt: u32, // matrix 0; the others lie in the same buffer
  w1At: u32,
  w2At: u32,
  xAt: u32, // a multiple of 4, like cols, but for ragged
  bias0At: u32,
  bias1At: u32,
  bias2At: u32,
  out0At: u32,
  out1At: u32,
  out2At: u32,
  rows0: u32,
  rows1: u32,
  rows2: u32,
  stride0: u32, // from one token to the next in out
  stride1: u32,
  stride2: u32,
  cols: u32,
  n: u32,
  biased: u32, // bit i: matrix i has a bias
  accumulate: u32, // bit i: out i is added to
  bf16: u32,
}

@group(0) @binding(1) var<storage, read> x: array<vec4f>;
@group(0) @binding(2) var<storage, read> bias0: array<f32>;
@group(0) @binding(3) var<storage, read> bias1: array<f32>;
@group(0) @binding(4) var<storage, read> bias2: array<f32>;
@group(0) @binding(5) var<storage, read_write> out0: array<f32>;
@group(0) @binding(6) var<storage, read_write> out1: array<f32>;
@group(0) @binding(7) var<storage, read_write> out2: array<f32>;
@group(0) @binding(8) var<uniform> dims: Dims;

const FEW = 4u; // tokens that a lane has at a time

/** Eight quads of a row of W or of x. */
alias Piece = array<vec4f, 8>;

/** Where some rows of one of the matrices are. */
struct Place {
  which: u32, // 3: nowhere
  weights: u32, // of the matrix, in 4-byte elements
  rows: u32, // of the matrix
  first: u32, // the first of the rows
}

/** The tile-th group of `height` rows, all matrices counted through. */
fn place(tile: u32, height: u32) -> Place {
  let from1 = (dims.rows0 + height - 1u) / height;
  let from2 = from1 + (dims.rows1 + height - 1u) / height;
  let end = from2 + (dims.rows2 + height - 1u) / height;
  if (tile < from1) { return Place(0u, dims.wAt, dims.rows0, tile * height); }
  if (tile < from2) { return Place(1u, dims.w1At, dims.rows1, (tile - from1) * height); }
  if (tile < end) { return Place(2u, dims.w2At, dims.rows2, (tile - from2) * height); }
  return Place(3u, 0u, 0u, 0u);
}

/** What is added to a product: bias and what is there already. */
fn rest(which: u32, bias: f32, there: f32) -> f32 {
  return select(0.0, bias, ((dims.biased >> which) & 1u) != 0u) + select(0.0, there, ((dims.accumulate >> which) & 1u) != 0u);
}

fn store(which: u32, row: u32, token: u32, sum: f32) {
  if (which == 0u) {
    let i = dims.out0At + token * dims.stride0 + row;
    out0[i] = sum + rest(0u, bias0[dims.bias0At + row], out0[i]);
  } else if (which == 1u) {
    let i = dims.out1At + token * dims.stride1 + row;
    out1[i] = sum + rest(1u, bias1[dims.bias1At + row], out1[i]);
  } else {
    let i = dims.out2At + token * dims.stride2 + row;
    out2[i] = sum + rest(2u, bias2[dims.bias2At + row], out2[i]);
  }
}

/** Writes the sums of one row for a few tokens. */
fn storeTokens(rows: Place, row: u32, token: u32, sums: vec4f) {
  if (row >= rows.rows) { return; }
  for (var t = token; t < min(token + FEW, dims.n); t += 1u) { store(rows.which, row, t, sums[t % 4u]); }
}

/** Four columns of x. Behind the last it is the last again: weights are 0 there. */
fn xQuad(token: u32, q: u32) -> vec4f {
  return x[(dims.xAt + token * dims.cols) / 4u + min(q, dims.cols / 4u - 1u)];
}

fn xPiece(token: u32, first: u32, step: u32) -> Piece {
  return Piece(
    xQuad(token, first), xQuad(token, first + step), xQuad(token, first + 2u * step), xQuad(token, first + 3u * step),
    xQuad(token, first + 4u * step), xQuad(token, first + 5u * step), xQuad(token, first + 6u * step), xQuad(token, first + 7u * step),
  );
}

fn dotOf(a: Piece, b: Piece) -> f32 {
  let sum = ((a[0] * b[0] + a[1] * b[1]) + (a[2] * b[2] + a[3] * b[3])) + ((a[4] * b[4] + a[5] * b[5]) + (a[6] * b[6] + a[7] * b[7]));
  return (sum.x + sum.y) + (sum.z + sum.w);
}
