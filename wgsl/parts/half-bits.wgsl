// half-bits: an f32, as its bits, to the bits of an f16: to nearest, ties to even; subnormals too. Beyond +-65504, infinities among them, it is +-65504.
// NaN becomes 0x7e00. In integers, because stacks differ in what they round and overflow to. Bit for bit as halfBits in asm/half.ts.

fn halfBits(x: u32) -> u32 {
  let magnitude = x & 0x7fffffffu;
  if (magnitude > 0x7f800000u) { return 0x7e00u; }
  let bounded = min(magnitude, 0x477fe000u); // 65504
  let subnormal = bounded < 0x38800000u; // 2^-14: its last bit will be 2^-24; what is below half of that is 0 from a shift of 25 on
  let shift = select(13u, 126u - max(bounded >> 23u, 101u), subnormal);
  let bits = select(bounded - 0x38000000u, (bounded & 0x7fffffu) | 0x800000u, subnormal); // exponent bias 127 - 15 = 112
  let rounded = (bits + (1u << (shift - 1u)) - 1u + ((bits >> shift) & 1u)) >> shift;
  return rounded | ((x >> 16u) & 0x8000u);
}

/** Two to a word. */
fn halfPair(x: vec2u) -> u32 {
  return halfBits(x.x) | (halfBits(x.y) << 16u);
}
