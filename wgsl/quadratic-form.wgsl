// quadratic-form: a linear and a quadratic form of every token, as in an expected logit or a leverage.
//   out[r,j] = c1 a_r.x_j + c2 x_j^T A_r x_j      or, `squared`:      c1 a_r.x_j + c2 |A_r x_j|^2;      x of head r / (R / H)
// in   0 x [n, H, d] f32    1 vector a [R, d] f32, where linear    2 matrix A [R, d, d] f32, where quadratic: symmetric; lower triangular where
//      squared, zeros above; all read as vectors of 4
// out  3 out: row r at r * stride, [n] f32
// grid (ceil(n / 64), R): one thread = one token. The rows of A are the same for the whole workgroup, 4 or 16 at a time share the token's own vector.
// Of A the lower triangle is read and counted twice (in blocks of four or sixteen).
// twin asm/quadratic-form.ts; 1e-5 of |c1 a| |x| + |c2| |A| |x|^2 (order of sums)

struct Dims {
  xAt: u32,
  vectorAt: u32,
  matrixAt: u32,
  outAt: u32,
  n: u32,
  rows: u32,
  heads: u32,
  vectors: u32, // d / 4
  stride: u32,
  linear: u32,
  quadratic: u32,
  squared: u32,
  c1: f32,
  c2: f32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> vector: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> matrix: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
@group(0) @binding(4) var<uniform> dims: Dims;

/// Rows i .. i+3 of A, `at` the vector in the first of them, times one vector.
fn fourDots(at: u32, value: vec4<f32>) -> vec4<f32> {
  let row = dims.vectors;
  return vec4<f32>(
    dot(matrix[at], value),
    dot(matrix[at + row], value),
    dot(matrix[at + 2u * row], value),
    dot(matrix[at + 3u * row], value),
  );
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let j = group.x * 64u + lane;
  let r = group.y;
  if (j >= dims.n) { return; }
  let token = dims.xAt / 4u + (j * dims.heads + r / (dims.rows / dims.heads)) * dims.vectors;
  var linear = 0.0;
  if (dims.linear == 1u) {
    for (var c = 0u; c < dims.vectors; c += 1u) { linear += dot(vector[dims.vectorAt / 4u + r * dims.vectors + c], x[token + c]); }
  }
  var quadratic = 0.0;
  if (dims.quadratic == 1u) {
    let rows = dims.matrixAt / 4u + r * 4u * dims.vectors * dims.vectors;
    let twice = select(2.0, 1.0, dims.squared == 1u);
    var b = 0u; // vector of the first row
    for (; b + 4u <= dims.vectors; b += 4u) {
      let at = rows + 4u * b * dims.vectors;
      let step = 4u * dims.vectors;
      var s0 = vec4<f32>(0.0);
      var s1 = vec4<f32>(0.0);
      var s2 = vec4<f32>(0.0);
      var s3 = vec4<f32>(0.0);
      for (var c = 0u; c < b + 4u; c += 1u) {
        if (c == b) {
          s0 *= twice;
          s1 *= twice;
          s2 *= twice;
          s3 *= twice;
        }
        let value = x[token + c];
        s0 += fourDots(at + c, value);
        s1 += fourDots(at + step + c, value);
        s2 += fourDots(at + 2u * step + c, value);
        s3 += fourDots(at + 3u * step + c, value);
      }
      if (dims.squared == 1u) {
        quadratic += dot(s0, s0) + dot(s1, s1) + (dot(s2, s2) + dot(s3, s3));
      } else {
        quadratic += dot(s0, x[token + b]) + dot(s1, x[token + b + 1u]) + (dot(s2, x[token + b + 2u]) + dot(s3, x[token + b + 3u]));
      }
    }
    for (; b < dims.vectors; b += 1u) {
      let at = rows + 4u * b * dims.vectors;
      var s = vec4<f32>(0.0);
      for (var c = 0u; c < b; c += 1u) { s += fourDots(at + c, x[token + c]); }
      s = s * twice + fourDots(at + b, x[token + b]);
      quadratic += dot(s, select(x[token + b], s, dims.squared == 1u));
    }
  }
  out[dims.outAt + r * dims.stride + j] = dims.c1 * linear + dims.c2 * quadratic;
}
