// What the sampling kernels share: logits as keys, u32 in the order of the numbers, 0 = none; and what a key weighs. It reads `logits`, `counts` and
// `dims` of the file that includes it.

fn isFinite(bits: u32) -> bool {
  return (bits & 0x7f800000u) != 0x7f800000u;
}

fn keyOf(bits: u32) -> u32 {
  if ((bits << 1u) == 0u) { return 0x80000000u; } // -0 ties with 0
  return select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u);
}

fn logitOf(key: u32) -> f32 {
  return bitcast<f32>(select(~key, key & 0x7fffffffu, (key >> 31u) == 1u));
}

/// The key of logit i with its penalties taken off.
fn penalisedKey(i: u32) -> u32 {
  let bits = logits[dims.logitsAt + i];
  if (dims.penalised == 0u) { return keyOf(bits); }
  let count = counts[dims.countsAt + i];
  if (count == 0u) { return keyOf(bits); }
  return keyOf(bitcast<u32>(bitcast<f32>(bits) - (f32(count) * dims.frequency + dims.presence)));
}

/// exp of a logit's distance to the largest over the temperature: 1 for the likeliest. exp(-200) is 0 in f32.
fn weightOf(key: u32, largest: u32) -> f32 {
  return exp(max((logitOf(key) - logitOf(largest)) * dims.inverseTemperature, -200.0));
}
