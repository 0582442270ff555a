// gelu: out = x Phi(x), Phi(x) = (1 + erf(x / sqrt 2)) / 2; elementwise.
//   t = 1 / (1 + 0.3275911 |x| / sqrt 2);   tail = (a1 t + .. + a5 t^5) e^(-x^2/2) / 2, within 7.5e-8 of 1 - Phi(|x|)
//   out = x (1 - tail) where x >= 0, else x tail.   a1 .. a5: Abramowitz and Stegun, 7.1.26
// in   0 x [count] f32, not read when inPlace: then out holds it
// out  1 out [count] f32
// grid ceil(count / 256) workgroups, folded into x and y: one thread = one element
// twin asm/gelu.ts; 3e-7 |x| (exp, division)

struct Dims {
  xAt: u32,
  outAt: u32,
  count: u32,
  inPlace: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@group(0) @binding(2) var<uniform> dims: Dims;

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.y * groups.x + group.x) * 256u + lane;
  if (i >= dims.count) { return; }
  let o = dims.outAt + i;
  var value = out[o];
  if (dims.inPlace == 0u) { value = x[dims.xAt + i]; }
  let t = 1.0 / (1.0 + 0.231641888 * abs(value));
  let p = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  let tail = 0.5 * p * exp(max(-0.5 * value * value, -87.0)); // at -13.2 the tail is 6e-40
  out[o] = value * select(1.0 - tail, tail, value < 0.0);
}
