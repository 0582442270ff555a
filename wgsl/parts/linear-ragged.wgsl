// ragged: rows whose columns are no multiple of 4, so that a row may begin anywhere in an element of w and x. No model that is known has such;
// one thread = one output. A weight type brings weight(weights, i), the i-th value of a matrix.
@compute @workgroup_size(64)
fn ragged(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let rows = place((group.y * groups.x + group.x) * 64u + lane, 1u);
  if (rows.which == 3u) { return; }
  let token = group.z;
  var sum = 0.0;
  for (var c = 0u; c < dims.cols; c += 1u) {
    let i = dims.xAt + token * dims.cols + c;
    sum += weight(rows.weights, rows.first * dims.cols + c) * x[i / 4u][i % 4u];
  }
  store(rows.which, rows.first, token, sum);
}
