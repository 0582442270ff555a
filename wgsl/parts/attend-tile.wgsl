// attend-tile: a workgroup's 32 rows against tiles of 32 keys, online softmax. A row is one query of one query head; those of the heads that share a
// KV head follow each other: row r = query r / G, head h G + r % G. For attend-causal and attend-paged, which say where a key lies:
//   entryOf(h, j) -> Entry    keyVec(at, c), valueVec(at, c) -> vec4f    firstKey(h, i), keyEnd(h, i): keys that query i can see
// A thread owns 4 rows: of the scores the keys lane % 8 + 0, 8, 16, 24; of the sums the vec4s lane % 8 + 0, 8, 16, .. (d up to 256).
// Order of sums: keys ascending, then the 8 threads of a row ascending.

struct Entry {
  key: u32, // where the row begins, as keyVec counts
  value: u32,
  keyScale: f32,
  valueScale: f32,
  blind: u32, // this query and those after it are too far away to see it
}

override PAIRS: u32 = 1u; // of chunks that a row has: ceil(d / 64), known to the compiler so that sums stay in registers
const EVERYBODY = 0xffffffffu; // no query is blind
const LEAST = -3.0e38; // the score of a key that is not seen
const ROWS = 32u;
const KEYS = 32u;
const CHUNK = 8u; // vec4s of a row at a time
const STRIDE = 9u; // of chunk rows: eight threads at eight keys read different banks
var<workgroup> chunks: array<vec4f, 576>; // queries [32, 9], keys [32, 9]; or values [32, 16]
var<workgroup> weights: array<f32, 1056>; // [32, 33]
var<workgroup> tops: array<f32, 256>; // [32, 8]
var<workgroup> entries: array<Entry, 32>;

/** Vec4 c of row r's query. */
fn queryVec(h: u32, r: u32, c: u32) -> vec4f {
  let G = dims.queryHeads / dims.kvHeads;
  if (r >= dims.n * G || c >= dims.vecs) { return vec4f(0.0); }
  return q[dims.qAt / 4u + (r / G * dims.queryHeads + h * G + r % G) * dims.vecs + c];
}

fn isSeen(h: u32, i: u32, j: u32, blind: u32) -> bool {
  return j < keyEnd(h, i) && i < blind;
}

fn attendTile(block: u32, h: u32, split: u32, lane: u32) {
  let G = dims.queryHeads / dims.kvHeads;
  let tx = lane % 8u;
  let r0 = lane / 8u * 4u;
  let first = block * ROWS;
  let last = min(first + ROWS, dims.n * G) - 1u;
  let begin = max(firstKey(h, first / G), split * dims.splitKeys);
  let end = min(keyEnd(h, last / G), (split + 1u) * dims.splitKeys);
  var sums = array<vec4f, 32>(); // [4 rows, 8]
  var most = vec4f(LEAST);
  var total = vec4f(0.0);
  for (var j = begin; j < end; j += KEYS) {
    workgroupBarrier();
    if (lane < KEYS && j + lane < end) { entries[lane] = entryOf(h, j + lane); }
    var s = array<vec4f, 4>();
    for (var c = 0u; c < dims.vecs; c += CHUNK) {
      workgroupBarrier();
      for (var t = lane; t < ROWS * CHUNK; t += 64u) {
        let row = t / CHUNK;
        let col = c + t % CHUNK;
        let to = row * STRIDE + t % CHUNK;
        chunks[to] = queryVec(h, first + row, col);
        var key = vec4f(0.0);
        if (j + row < end && col < dims.vecs) { key = keyVec(entries[row].key, col); }
        chunks[288u + to] = key;
      }
      workgroupBarrier();
      for (var t = 0u; t < CHUNK; t += 1u) {
        let k0 = chunks[288u + tx * STRIDE + t];
        let k1 = chunks[288u + (tx + 8u) * STRIDE + t];
        let k2 = chunks[288u + (tx + 16u) * STRIDE + t];
        let k3 = chunks[288u + (tx + 24u) * STRIDE + t];
        for (var r = 0u; r < 4u; r += 1u) {
          let x = chunks[(r0 + r) * STRIDE + t];
          s[r] += vec4f(dot(x, k0), dot(x, k1), dot(x, k2), dot(x, k3));
        }
      }
    }
    for (var r = 0u; r < 4u; r += 1u) {
      for (var x = 0u; x < 4u; x += 1u) {
        let key = tx + 8u * x;
        let seen = j + key < end && isSeen(h, (first + r0 + r) / G, j + key, entries[key].blind);
        s[r][x] = select(LEAST, s[r][x] * dims.scale * entries[key].keyScale, seen);
      }
      tops[(r0 + r) * 8u + tx] = max(max(s[r].x, s[r].y), max(s[r].z, s[r].w));
    }
    workgroupBarrier();
    for (var r = 0u; r < 4u; r += 1u) {
      var top = most[r];
      for (var t = 0u; t < 8u; t += 1u) { top = max(top, tops[(r0 + r) * 8u + t]); }
      let shrink = exp(most[r] - top);
      most[r] = top;
      let p = select(exp(s[r] - vec4f(top)), vec4f(0.0), s[r] <= vec4f(LEAST));
      total[r] = total[r] * shrink + (p.x + p.y) + (p.z + p.w);
      for (var x = 0u; x < 4u; x += 1u) { weights[(r0 + r) * 33u + tx + 8u * x] = p[x] * entries[tx + 8u * x].valueScale; }
      for (var t = 0u; t < 2u * PAIRS; t += 1u) { sums[r * 8u + t] *= shrink; }
    }
    for (var pair = 0u; pair < PAIRS; pair += 1u) {
      let c = pair * 2u * CHUNK;
      workgroupBarrier();
      for (var t = lane; t < KEYS * 2u * CHUNK; t += 64u) {
        let key = t / 16u;
        let col = c + t % 16u;
        var value = vec4f(0.0);
        if (j + key < end && col < dims.vecs) { value = valueVec(entries[key].value, col); }
        chunks[t] = value;
      }
      workgroupBarrier();
      for (var key = 0u; key < KEYS; key += 1u) {
        let v0 = chunks[key * 16u + tx];
        let v1 = chunks[key * 16u + 8u + tx];
        for (var r = 0u; r < 4u; r += 1u) {
          let p = weights[(r0 + r) * 33u + key];
          sums[r * 8u + pair * 2u] += p * v0;
          sums[r * 8u + pair * 2u + 1u] += p * v1;
        }
      }
    }
  }
  workgroupBarrier();
  for (var r = 0u; r < 4u; r += 1u) { tops[(r0 + r) * 8u + tx] = total[r]; }
  workgroupBarrier();
  for (var r = 0u; r < 4u; r += 1u) {
    let row = first + r0 + r;
    var sum = 0.0;
    for (var t = 0u; t < 8u; t += 1u) { sum += tops[(r0 + r) * 8u + t]; }
    if (row <= last) {
      let to = row / G * dims.queryHeads + h * G + row % G;
      for (var t = 0u; t < 2u * PAIRS; t += 1u) {
        let c = t * CHUNK + tx;
        if (c < dims.vecs) { putSum(split, to, c, sums[r * 8u + t], sum); }
      }
      if (tx == 0u) { putMost(split, to, most[r], sum); }
    }
  }
}
