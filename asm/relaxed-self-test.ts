// relaxed-self-test: does this host's relaxed SIMD compute what the kernels rely on? Some hosts run the instructions and get
// them wrong (a dot product twice its value, say). Plain builds pass by definition.
//   dot: 16 products of i8 and 7-bit operands, four a lane, exact in i32;  madd: a*b + c, fused or not

// The operands come from memory so that the compiler cannot fold them.
const operands = memory.data<i8>([-100, -100, -100, -100, 127, -127, 1, -1, 0, 5, -6, 7, -128, -128, -128, -128]);
const sevenBit = memory.data<i8>([100, 100, 100, 100, 127, 127, 1, 1, 9, 2, 3, 4, 127, 127, 127, 127]);

/** 1 when the numbers are right, 0 when this host must use the plain build. */
export function relaxedSelfTest(): i32 {
  if (ASC_FEATURE_RELAXED_SIMD) {
    const a = v128.load(operands);
    const b = v128.load(sevenBit);
    const dot = i32x4.relaxed_dot_i8x16_i7x16_add_s(a, b, i32x4.splat(7));
    if (i32x4.extract_lane(dot, 0) != -40000 + 7) return 0;
    if (i32x4.extract_lane(dot, 1) != 7) return 0;
    if (i32x4.extract_lane(dot, 2) != 10 - 18 + 28 + 7) return 0;
    if (i32x4.extract_lane(dot, 3) != -65024 + 7) return 0;
    const madd = f32x4.relaxed_madd(f32x4.convert_i32x4_s(dot), f32x4.splat(0.5), f32x4.splat(1));
    if (f32x4.extract_lane(madd, 0) != (-40000.0 + 7.0) * 0.5 + 1.0) return 0;
  }
  return 1;
}
