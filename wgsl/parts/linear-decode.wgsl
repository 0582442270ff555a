// decode: a linear layer (linear.wgsl) for few tokens, limited by reading W: a workgroup has 8 rows and reads each weight once for 4 tokens.
// alone: the same by threads that do not need each other, for any number of tokens on adapters on which barriers are slow.
// A weight type says how lanes share a row: lane i begins at quad LANE_QUADS * i, its quads are STEP apart; neighbouring lanes read neighbouring memory.

/** With `more` added to component i: sums[i] += more, but a vector that is indexed by a variable may leave the registers. */
fn added(sums: vec4f, i: u32, more: f32) -> vec4f {
  return select(sums, sums + more, vec4u(i) == vec4u(0u, 1u, 2u, 3u));
}

const LANES = 128u; // of decode: 32 side by side in each of 4 rows
const DECODE_ROWS = 8u; // each lane has two rows, so that x is loaded half as often
/** Of two rows, for four tokens. */
alias Sums = array<vec4f, 2>;

/** What one lane of decode sums up: rows `lane % 4` and 4 more of the place, every 32nd piece. */
fn laneSums(rows: Place, token: u32, lane: u32) -> Sums {
  let row0 = min(rows.first + lane % 4u, rows.rows - 1u);
  let row1 = min(row0 + 4u, rows.rows - 1u);
  let end = min(token + FEW, dims.n);
  var sum0 = vec4f();
  var sum1 = vec4f();
  for (var first = LANE_QUADS * (lane / 4u); first < dims.cols / 4u; first += 8u * LANES / 4u) {
    let w0 = piece(rows.weights, row0, first, STEP);
    let w1 = piece(rows.weights, row1, first, STEP);
    for (var t = token; t < end; t += 1u) {
      let part = xPiece(t, first, STEP);
      sum0 = added(sum0, t % 4u, dotOf(w0, part));
      sum1 = added(sum1, t % 4u, dotOf(w1, part));
    }
  }
  return Sums(sum0, sum1);
}

var<workgroup> sums0: array<vec4f, LANES>;
var<workgroup> sums1: array<vec4f, LANES>;

@compute @workgroup_size(LANES)
fn decode(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let rows = place(group.y * groups.x + group.x, DECODE_ROWS);
  if (rows.which == 3u) { return; } // the whole workgroup
  let token = group.z * FEW;
  let sums = laneSums(rows, token, lane);
  sums0[lane] = sums[0];
  sums1[lane] = sums[1];
  for (var width = LANES / 2u; width >= 4u; width /= 2u) { // lanes of the same row are 4 apart
    workgroupBarrier();
    if (lane < width) {
      sums0[lane] += sums0[lane + width];
      sums1[lane] += sums1[lane + width];
    }
  }
  if (lane < 4u) {
    storeTokens(rows, rows.first + lane, token, sums0[lane]);
    storeTokens(rows, rows.first + lane + 4u, token, sums1[lane]);
  }
}

@compute @workgroup_size(64)
fn alone(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let rows = place((group.y * groups.x + group.x) * 64u + lane, 1u);
  if (rows.which == 3u) { return; }
  let token = group.z * FEW;
  let end = min(token + FEW, dims.n);
  var sums = vec4f();
  for (var first = 0u; first < dims.cols / 4u; first += 8u) {
    let weights = piece(rows.weights, rows.first, first, 1u);
    for (var t = token; t < end; t += 1u) {
      sums = added(sums, t % 4u, dotOf(weights, xPiece(t, first, 1u)));
    }
  }
  storeTokens(rows, rows.first, token, sums);
}
