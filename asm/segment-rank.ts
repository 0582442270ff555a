// segment-rank: the place of each value among the `width` values of its segment, from 0 for the last to (width - 1) / width for the best.
//   out[r,j] = (how many of the segment j stands before) / width: higher values stand first, equal ones by column, NaN last
//   segments begin at column `first`; columns before and after them are copied
// in    x [rows, n] f32      out  [rows, n] f32, not x itself
// Every pair of a segment is compared: width comparisons a column.

export function segmentRank(out: usize, x: usize, rows: i32, n: i32, first: i32, width: i32, segments: i32): void {
  for (let r = 0; r < rows; r++) {
    const from = x + ((<usize>r * n) << 2);
    const to = out + ((<usize>r * n) << 2);
    memory.copy(to, from, (<usize>n) << 2);
    for (let s = 0; s < segments; s++) {
      const start = (<usize>(first + s * width)) << 2;
      for (let j = 0; j < width; j++) store<f32>(to + start + ((<usize>j) << 2), <f32>countBehind(from + start, j, width) / <f32>width);
    }
  }
}

function countBehind(x: usize, j: i32, width: i32): i32 {
  const own = load<f32>(x + ((<usize>j) << 2));
  let count = 0;
  if (own != own) {
    for (let t = j + 1; t < width; t++) {
      const other = load<f32>(x + ((<usize>t) << 2));
      count += i32(other != other);
    }
    return count;
  }
  // "not at least" where an equal value stands before, "not above" where it stands behind: both hold for NaN
  const owns = f32x4.splat(own);
  let masks = i32x4.splat(0);
  let t = 0;
  for (; t + 4 <= j; t += 4) masks = i32x4.add(masks, v128.not(f32x4.ge(v128.load(x + ((<usize>t) << 2)), owns)));
  for (; t < j; t++) count += i32(!(load<f32>(x + ((<usize>t) << 2)) >= own));
  for (t = j + 1; t + 4 <= width; t += 4) masks = i32x4.add(masks, v128.not(f32x4.gt(v128.load(x + ((<usize>t) << 2)), owns)));
  for (; t < width; t++) count += i32(!(load<f32>(x + ((<usize>t) << 2)) > own));
  return count - i32x4.extract_lane(masks, 0) - i32x4.extract_lane(masks, 1) - i32x4.extract_lane(masks, 2) - i32x4.extract_lane(masks, 3);
}
