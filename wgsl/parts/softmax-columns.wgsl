// softmax-columns: columns of softmax attention of `queries` queries over n keys, for kernels that reduce them (score-window, score-columns, window-moments).
//   w_ij = exp(s_ij - m_i) / z_i,  s_ij = q[i,a].k[j,h(a)] * scale,  m_i = max over j of s_ij,  z_i = sum over j of exp(s_ij - m_i)
// Query i sees the keys up to position(i), n - 1 at most; with a sliding window only the last slidingWindow of those. The logits are computed twice and
// never stored: stats alone holds (m, z), of every query and head over every span of keys.
//   stats [spans, Hq, queries] (m, z) f32; span 0 is of all keys after combine
// grid rows: (ceil(g queries / 64), H, spans), one thread = one query of one of the g heads that share a KV head, over `span` keys
//      combine: ceil(Hq queries / 64), only for spans > 1
// The kernel's own: Dims, position(i), withWeights(sum, w, i, count), which adds the weights of queries i .. i+count-1, count 4 or 1, and an entry that calls columnOf: one thread =
// one key for one head, queries ascending. 16 dot products at a time share the loads of the thread's own vector; the other 16 vectors are the same for the
// whole workgroup, which compilers can tell, for they are found by workgroup_id.

const LANES = 64u;
const BLOCK = 16u;
const LOWEST = -3e38; // exp of it less any logit is 0

fn queryAt(i: u32, head: u32) -> u32 { return dims.qAt / 4u + (i * dims.queryHeads + head) * dims.vectors; }
fn keyAt(j: u32, kvHead: u32) -> u32 { return dims.kAt / 4u + (j * dims.kvHeads + kvHead) * dims.vectors; }
fn statsOf(row: u32, span: u32) -> u32 { return dims.statsAt / 2u + span * dims.queryHeads * dims.queries + row; }
fn firstSeen(position: u32) -> u32 { return select(0u, max(position + 1u, dims.slidingWindow) - dims.slidingWindow, dims.slidingWindow > 0u); }

fn keyDots(x: vec4<f32>, i: u32, stride: u32) -> vec4<f32> {
  return vec4<f32>(dot(x, k[i]), dot(x, k[i + stride]), dot(x, k[i + 2u * stride]), dot(x, k[i + 3u * stride]));
}
fn queryDots(x: vec4<f32>, i: u32, stride: u32) -> vec4<f32> {
  return vec4<f32>(dot(x, q[i]), dot(x, q[i + stride]), dot(x, q[i + 2u * stride]), dot(x, q[i + 3u * stride]));
}

/// (m, z) with the logits of keys j .. j+3 added, of which first .. last are seen.
fn joined(before: vec2<f32>, s: vec4<f32>, j: u32, first: u32, last: u32) -> vec2<f32> {
  let keys = vec4<u32>(j) + vec4<u32>(0u, 1u, 2u, 3u);
  let seen = (keys >= vec4<u32>(first)) & (keys <= vec4<u32>(last));
  let x = select(vec4<f32>(LOWEST), s, seen);
  let m = max(before.x, max(max(x.x, x.y), max(x.z, x.w)));
  let e = select(vec4<f32>(0.0), exp(x - vec4<f32>(m)), seen);
  return vec2<f32>(m, before.y * exp(before.x - m) + ((e.x + e.y) + (e.z + e.w)));
}

@compute @workgroup_size(64)
fn rows(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let inGroup = group.x * LANES + lane;
  let rowsInGroup = dims.queryHeads / dims.kvHeads * dims.queries;
  if (inGroup >= rowsInGroup) { return; }
  let row = group.y * rowsInGroup + inGroup;
  let i = row % dims.queries;
  let query = queryAt(i, row / dims.queries);
  let stride = dims.kvHeads * dims.vectors;
  let first = firstSeen(position(i));
  let begin = dims.start + group.z * dims.span;
  let end = min(begin + dims.span, min(position(i) + 1u, dims.n));
  var stat = vec2<f32>(LOWEST, 0.0);
  var j = begin;
  if (first > begin) { j += (first - begin) / BLOCK * BLOCK; }
  for (; j < end && j + BLOCK <= dims.n; j += BLOCK) {
    let key = keyAt(j, group.y);
    var s0 = vec4<f32>(0.0);
    var s1 = s0;
    var s2 = s0;
    var s3 = s0;
    for (var c = 0u; c < dims.vectors; c += 1u) {
      let x = q[query + c];
      s0 += keyDots(x, key + c, stride);
      s1 += keyDots(x, key + 4u * stride + c, stride);
      s2 += keyDots(x, key + 8u * stride + c, stride);
      s3 += keyDots(x, key + 12u * stride + c, stride);
    }
    stat = joined(stat, s0 * dims.scale, j, first, end - 1u);
    stat = joined(stat, s1 * dims.scale, j + 4u, first, end - 1u);
    stat = joined(stat, s2 * dims.scale, j + 8u, first, end - 1u);
    stat = joined(stat, s3 * dims.scale, j + 12u, first, end - 1u);
  }
  for (; j < end; j += 1u) {
    let key = keyAt(j, group.y);
    var s = 0.0;
    for (var c = 0u; c < dims.vectors; c += 1u) { s += dot(q[query + c], k[key + c]); }
    stat = joined(stat, vec4<f32>(s * dims.scale, 0.0, 0.0, 0.0), j, first, j);
  }
  stats[statsOf(row, group.z)] = stat;
}

@compute @workgroup_size(64)
fn combine(@builtin(global_invocation_id) id: vec3u) {
  let row = id.x;
  if (row >= dims.queryHeads * dims.queries) { return; }
  var m = LOWEST;
  for (var t = 0u; t < dims.spans; t += 1u) { m = max(m, stats[statsOf(row, t)].x); }
  var z = 0.0;
  for (var t = 0u; t < dims.spans; t += 1u) {
    let stat = stats[statsOf(row, t)];
    z += stat.y * exp(stat.x - m);
  }
  stats[statsOf(row, 0u)] = vec2<f32>(m, z);
}

/// What queries i .. i+3, as far as last, give to key j.
fn weights(s: vec4<f32>, i: u32, last: u32, j: u32, head: u32) -> vec4<f32> {
  let queries = vec4<u32>(i) + vec4<u32>(0u, 1u, 2u, 3u);
  let at = min(queries, vec4<u32>(last)) + vec4<u32>(statsOf(head * dims.queries, 0u));
  let a = stats[at.x];
  let b = stats[at.y];
  let c = stats[at.z];
  let d = stats[at.w];
  let positions = vec4<u32>(position(0u)) + queries;
  let reach = select(0x7fffffffu - j, dims.slidingWindow, dims.slidingWindow > 0u);
  let seen = (queries <= vec4<u32>(last)) & (vec4<u32>(j) <= positions) & (positions < vec4<u32>(j + reach));
  let e = exp(s * dims.scale - vec4<f32>(a.x, b.x, c.x, d.x)) / vec4<f32>(a.y, b.y, c.y, d.y);
  return select(vec4<f32>(0.0), e, seen);
}

/// The weights that queries begin .. end-1 give to key j.
fn columnOf(j: u32, head: u32, begin: u32, end: u32) -> vec4<f32> {
  let key = keyAt(j, head / (dims.queryHeads / dims.kvHeads));
  let stride = dims.queryHeads * dims.vectors;
  var sum = vec4<f32>(0.0);
  var i = begin;
  for (; i + BLOCK <= end; i += BLOCK) {
    let query = queryAt(i, head);
    var s0 = vec4<f32>(0.0);
    var s1 = s0;
    var s2 = s0;
    var s3 = s0;
    for (var c = 0u; c < dims.vectors; c += 1u) {
      let x = k[key + c];
      s0 += queryDots(x, query + c, stride);
      s1 += queryDots(x, query + 4u * stride + c, stride);
      s2 += queryDots(x, query + 8u * stride + c, stride);
      s3 += queryDots(x, query + 12u * stride + c, stride);
    }
    let last = i + BLOCK - 1u;
    sum = withWeights(sum, weights(s0, i, last, j, head), i, 4u);
    sum = withWeights(sum, weights(s1, i + 4u, last, j, head), i + 4u, 4u);
    sum = withWeights(sum, weights(s2, i + 8u, last, j, head), i + 8u, 4u);
    sum = withWeights(sum, weights(s3, i + 12u, last, j, head), i + 12u, 4u);
  }
  for (; i < end; i += 1u) {
    let query = queryAt(i, head);
    var s = 0.0;
    for (var c = 0u; c < dims.vectors; c += 1u) { s += dot(k[key + c], q[query + c]); }
    sum = withWeights(sum, weights(vec4<f32>(s, 0.0, 0.0, 0.0), i, i, j, head), i, 1u);
  }
  return sum;
}
