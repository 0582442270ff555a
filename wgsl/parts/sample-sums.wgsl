// Sums over the 256 lanes of a workgroup, in one order on every device: 16 rows of 16 lanes, each from its first lane on, then the rows.

const LANES = 256u;
const ROW = 16u;

var<workgroup> sums: array<vec4f, LANES>;
var<workgroup> rows: array<vec4f, ROW + 1u>; // before each row; then all

struct Running {
  before: vec4f, // the sum of the lanes before this one
  after: vec4f, // with this one
}

/// Running sums of values >= 0. They never fall, and `after` of a lane is `before` of the next. A barrier must stand before the next call.
fn scan(lane: u32, value: vec4f) -> Running {
  sums[lane] = value;
  workgroupBarrier();
  if (lane < ROW) {
    for (var l = lane * ROW + 1u; l < (lane + 1u) * ROW; l += 1u) { sums[l] += sums[l - 1u]; }
  }
  workgroupBarrier();
  if (lane == 0u) {
    var sum = vec4f();
    for (var r = 0u; r < ROW; r += 1u) {
      rows[r] = sum;
      sum += sums[r * ROW + ROW - 1u];
    }
    rows[ROW] = sum;
  }
  workgroupBarrier();
  let row = lane / ROW;
  var before = rows[row];
  if (lane % ROW != 0u) { before += sums[lane - 1u]; }
  var after = rows[row + 1u];
  if (lane % ROW != ROW - 1u) { after = rows[row] + sums[lane]; }
  return Running(before, after);
}

/// Which of `count` items are this lane's: x to before y.
fn run(lane: u32, count: u32) -> vec2u {
  let each = (count + LANES - 1u) / LANES;
  return min(vec2u(lane, lane + 1u) * each, vec2u(count));
}
