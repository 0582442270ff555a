// gather: rows that a press keeps, one list of row numbers per KV head.
//   out[j,h] = x[order[h,j], h]
// in   0 x   [*, H, d] f32, moved as bits    1 order [H, stride] u32
// out  2 out [count, H, d]
// grid ceil(count H d / 256) workgroups, folded into x and y: one thread = one number
// twin asm/gather.ts; equal

struct Dims {
  xAt: u32,
  orderAt: u32,
  outAt: u32,
  stride: u32,
  count: u32,
  kvHeads: u32,
  headDim: u32,
}

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read> order: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<u32>;
@group(0) @binding(3) var<uniform> dims: Dims;

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.y * groups.x + group.x) * 256u + lane;
  if (i >= dims.count * dims.kvHeads * dims.headDim) { return; }
  let c = i % dims.headDim;
  let h = (i / dims.headDim) % dims.kvHeads;
  let j = i / (dims.headDim * dims.kvHeads);
  let row = order[dims.orderAt + h * dims.stride + j];
  out[dims.outAt + i] = x[dims.xAt + (row * dims.kvHeads + h) * dims.headDim + c];
}
