// segment-mean: every value becomes the mean of its segment.
//   out[r,j] = mean of x[r,t] over first <= t < end, floor(t / width) = floor(j / width);   columns outside first .. end-1 are copied
// in   0 x   [rows, n] f32
// out  1 out [rows, n] f32, not x itself
// grid (ceil(n / 256), rows): one thread = one column, which adds up its segment, ascending: equal segments have equal means
// twin asm/segment-mean.ts; 1e-5 of the segment's largest |x| (f32 sums)

struct Dims {
  xAt: u32,
  outAt: u32,
  n: u32,
  first: u32,
  end: u32,
  width: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@group(0) @binding(2) var<uniform> dims: Dims;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let j = id.x;
  if (j >= dims.n) { return; }
  let row = dims.xAt + id.y * dims.n;
  let to = dims.outAt + id.y * dims.n + j;
  if (j < dims.first || j >= dims.end) {
    out[to] = x[row + j];
    return;
  }
  let start = j - j % dims.width;
  let low = max(dims.first, start);
  let stop = min(dims.end, start + dims.width);
  var sum = 0.0;
  for (var t = low; t < stop; t += 1u) { sum += x[row + t]; }
  out[to] = sum / f32(stop - low);
}
