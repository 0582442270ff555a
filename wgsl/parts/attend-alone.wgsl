// attend-alone: one thread takes one query of one query head over its keys, FEW at a time, without barriers; its sums lie in the output.
// The functions that say where keys lie are those of attend-tile; FEW is the file's that includes it.

/** Thread split * n Hq + row. */
fn attendAlone(thread: u32) {
  let G = dims.queryHeads / dims.kvHeads;
  let row = thread % (dims.n * dims.queryHeads);
  let split = thread / (dims.n * dims.queryHeads);
  if (split >= dims.splits) { return; }
  let i = row / dims.queryHeads;
  let h = row % dims.queryHeads / G;
  let begin = max(firstKey(h, i), split * dims.splitKeys);
  let end = min(keyEnd(h, i), (split + 1u) * dims.splitKeys);
  let query = dims.qAt / 4u + row * dims.vecs;
  let to = dims.outAt / 4u + select((split * dims.n * dims.queryHeads + row) * (dims.vecs + 1u), row * dims.vecs, dims.splits == 1u);
  for (var c = 0u; c < dims.vecs; c += 1u) { out[to + c] = vec4f(0.0); }
  var most = LEAST;
  var total = 0.0;
  for (var j = begin; j < end; j += FEW) {
    var e = array<Entry, FEW>();
    var s = array<f32, FEW>();
    for (var t = 0u; t < FEW; t += 1u) { e[t] = entryOf(h, min(j + t, end - 1u)); }
    for (var c = 0u; c < dims.vecs; c += 1u) {
      let x = q[query + c];
      for (var t = 0u; t < FEW; t += 1u) { s[t] += dot(x, keyVec(e[t].key, c)); }
    }
    var top = most;
    for (var t = 0u; t < FEW; t += 1u) {
      let seen = j + t < end && isSeen(h, i, j + t, e[t].blind);
      s[t] = select(LEAST, s[t] * dims.scale * e[t].keyScale, seen);
      top = max(top, s[t]);
    }
    let shrink = exp(most - top);
    most = top;
    total *= shrink;
    for (var t = 0u; t < FEW; t += 1u) {
      let p = select(exp(s[t] - top), 0.0, s[t] <= LEAST);
      total += p;
      s[t] = p * e[t].valueScale;
    }
    for (var c = 0u; c < dims.vecs; c += 1u) {
      var sum = out[to + c] * shrink;
      for (var t = 0u; t < FEW; t += 1u) { sum += s[t] * valueVec(e[t].value, c); }
      out[to + c] = sum;
    }
  }
  for (var c = 0u; c < dims.vecs; c += 1u) { putSum(split, row, c, out[to + c], total); }
  putMost(split, row, most, total);
}
