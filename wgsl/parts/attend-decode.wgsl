// attend-decode: one query over a split of one KV head's entries, which are read once for up to HEADS query heads of the group. 64 entries at a time:
// a thread has one entry's scores, then one vec4 of the values of every 64 / (d / 4)-th entry (d up to 256). For attend-paged.
// Order of sums: a thread's entries ascending, then the threads ascending.

override HEADS: u32 = 4u; // 1, 2 or 4: as many as the group has, or more
const LANES = 64u;
const FLIGHT = 4u; // loads that a thread has under way
var<workgroup> vectors: array<vec4f, HEADS * LANES>; // queries [HEADS, d / 4]; at the end the threads' sums [HEADS, 64]
var<workgroup> scores: array<f32, HEADS * LANES>; // [HEADS, 64]
var<workgroup> tile: array<Entry, 64>;
var<workgroup> eighths: array<f32, HEADS * 8u>; // [HEADS, 8]: of 64 scores or totals

fn attendDecode(block: u32, h: u32, split: u32, lane: u32) {
  let G = dims.queryHeads / dims.kvHeads;
  let vecs = dims.vecs;
  let head = h * G + block * HEADS;
  let heads = min(HEADS, G - block * HEADS);
  let begin = split * dims.splitKeys;
  let end = min(keyEnd(h, 0u), begin + dims.splitKeys);
  for (var t = lane; t < HEADS * vecs; t += LANES) {
    var x = vec4f(0.0);
    if (t / vecs < heads) { x = q[dims.qAt / 4u + head * vecs + t] * dims.scale; }
    vectors[t] = x;
  }
  let column = lane % vecs;
  let step = LANES / vecs;
  var sums = array<vec4f, 4>();
  var most = array<f32, 4>();
  var total = array<f32, 4>();
  for (var g = 0u; g < HEADS; g += 1u) { most[g] = LEAST; }
  for (var j = begin; j < end; j += LANES) {
    workgroupBarrier();
    var s = array<f32, 4>();
    var seen = false;
    var entry = Entry(0u, 0u, 0.0, 0.0, 0u);
    if (j + lane < end) {
      entry = entryOf(h, j + lane);
      tile[lane] = entry;
      seen = isSeen(h, 0u, j + lane, entry.blind);
      var c = 0u;
      for (; c + FLIGHT <= vecs; c += FLIGHT) {
        let key = array(keyVec(entry.key, c), keyVec(entry.key, c + 1u), keyVec(entry.key, c + 2u), keyVec(entry.key, c + 3u));
        for (var g = 0u; g < HEADS; g += 1u) {
          let x = g * vecs + c;
          s[g] += (dot(vectors[x], key[0]) + dot(vectors[x + 1u], key[1])) + (dot(vectors[x + 2u], key[2]) + dot(vectors[x + 3u], key[3]));
        }
      }
      for (; c < vecs; c += 1u) {
        let key = keyVec(entry.key, c);
        for (var g = 0u; g < HEADS; g += 1u) { s[g] += dot(vectors[g * vecs + c], key); }
      }
    }
    for (var g = 0u; g < HEADS; g += 1u) {
      s[g] = select(LEAST, s[g] * entry.keyScale, seen);
      scores[g * LANES + lane] = s[g];
    }
    workgroupBarrier();
    if (lane < HEADS * 8u) {
      var top = scores[lane * 8u];
      for (var t = 1u; t < 8u; t += 1u) { top = max(top, scores[lane * 8u + t]); }
      eighths[lane] = top;
    }
    workgroupBarrier();
    for (var g = 0u; g < HEADS; g += 1u) {
      var top = most[g];
      for (var t = 0u; t < 8u; t += 1u) { top = max(top, eighths[g * 8u + t]); }
      let shrink = exp(most[g] - top);
      most[g] = top;
      let p = select(exp(s[g] - top), 0.0, s[g] <= LEAST);
      total[g] = total[g] * shrink + p;
      scores[g * LANES + lane] = p * entry.valueScale;
      sums[g] *= shrink;
    }
    workgroupBarrier();
    let count = min(LANES, end - j);
    var t = lane / vecs;
    if (t >= step) { t = LANES; } // more threads than whole rows
    for (; t + 3u * step < count; t += FLIGHT * step) {
      let value = array(
        valueVec(tile[t].value, column),
        valueVec(tile[t + step].value, column),
        valueVec(tile[t + 2u * step].value, column),
        valueVec(tile[t + 3u * step].value, column),
      );
      for (var g = 0u; g < HEADS; g += 1u) {
        let x = g * LANES + t;
        sums[g] += scores[x] * value[0] + scores[x + step] * value[1] + scores[x + 2u * step] * value[2] + scores[x + 3u * step] * value[3];
      }
    }
    for (; t < count; t += step) {
      let value = valueVec(tile[t].value, column);
      for (var g = 0u; g < HEADS; g += 1u) { sums[g] += scores[g * LANES + t] * value; }
    }
  }
  workgroupBarrier();
  for (var g = 0u; g < HEADS; g += 1u) {
    vectors[g * LANES + lane] = sums[g];
    scores[g * LANES + lane] = total[g];
  }
  workgroupBarrier();
  if (lane < HEADS * 8u) {
    var sum = 0.0;
    for (var t = 0u; t < 8u; t += 1u) { sum += scores[lane * 8u + t]; }
    eighths[lane] = sum;
  }
  workgroupBarrier();
  for (var g = 0u; g < heads; g += 1u) {
    var all = 0.0;
    for (var t = 0u; t < 8u; t += 1u) { all += eighths[g * 8u + t]; }
    if (lane < vecs) {
      var sum = vectors[g * LANES + lane];
      for (var t = 1u; t < step; t += 1u) { sum += vectors[g * LANES + t * vecs + lane]; }
      putSum(split, head + g, lane, sum, all);
    }
    if (lane == 0u) { putMost(split, head + g, most[g], all); }
  }
}
