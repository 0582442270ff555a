// prefill: a linear layer (linear.wgsl) for many tokens: 64 rows x 64 tokens a workgroup, 4 x 4 of them a lane, from tiles of 32 columns.

const TILE = 64u; // rows and tokens of a workgroup of prefill; 32 columns at a time
var<workgroup> wTile: array<vec4f, 512>; // [32 columns, 16 fours of rows]
var<workgroup> xTile: array<vec4f, 512>; // [32 columns, 16 fours of tokens]

/** Where four rows or tokens of a column are in a tile. Mixed so that lanes that fill or read it side by side do not meet in a memory bank. */
fn slot(column: u32, four: u32) -> u32 {
  return column * 16u + (four ^ (column / 4u));
}

@compute @workgroup_size(256)
fn prefill(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let rows = place(group.y * groups.x + group.x, TILE);
  if (rows.which == 3u) { return; } // the whole workgroup
  let token = group.z * TILE;
  // A lane fetches a quad of columns of four rows or tokens, and computes the products of four rows with four tokens.
  let quadOfLane = lane % 8u;
  let four = (lane / 8u) % 16u;
  let fetched = vec4u(0u, 1u, 2u, 3u) + 4u * four;
  let rowsOfLane = min(rows.first + fetched, vec4u(rows.rows - 1u));
  let tokensOfLane = min(token + fetched, vec4u(dims.n - 1u));
  let to = slot(4u * quadOfLane, four);
  let rowFour = lane % 16u;
  let tokenFour = lane / 16u;
  var sums = mat4x4f(); // [token, row]
  for (var q = 0u; q < dims.cols / 4u; q += 8u) {
    workgroupBarrier(); // the last tile has been read
    let at = q + quadOfLane;
    if (lane < 128u) {
      let turned = transpose(mat4x4f(
        quad(rows.weights, rowsOfLane.x, at), quad(rows.weights, rowsOfLane.y, at),
        quad(rows.weights, rowsOfLane.z, at), quad(rows.weights, rowsOfLane.w, at),
      ));
      wTile[to] = turned[0];
      wTile[to + 16u] = turned[1];
      wTile[to + 32u] = turned[2];
      wTile[to + 48u] = turned[3];
    } else {
      let turned = transpose(mat4x4f(
        xQuad(tokensOfLane.x, at), xQuad(tokensOfLane.y, at), xQuad(tokensOfLane.z, at), xQuad(tokensOfLane.w, at),
      ));
      xTile[to] = turned[0];
      xTile[to + 16u] = turned[1];
      xTile[to + 32u] = turned[2];
      xTile[to + 48u] = turned[3];
    }
    workgroupBarrier();
    for (var column = 0u; column < 32u; column += 1u) {
      let w4 = wTile[slot(column, rowFour)];
      let x4 = xTile[slot(column, tokenFour)];
      sums[0] += w4 * x4.x;
      sums[1] += w4 * x4.y;
      sums[2] += w4 * x4.z;
      sums[3] += w4 * x4.w;
    }
  }
  // Turned, so that each is one row's sums for four tokens.
  let turned = transpose(sums);
  let row = rows.first + 4u * rowFour;
  let first = token + 4u * tokenFour;
  storeTokens(rows, row, first, turned[0]);
  storeTokens(rows, row + 1u, first, turned[1]);
  storeTokens(rows, row + 2u, first, turned[2]);
  storeTokens(rows, row + 3u, first, turned[3]);
}
