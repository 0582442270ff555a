// topK: the rank order of one head. Protected tokens first, by position, then the others by score, higher first, ties to the lower
// position; -0 equals +0, NaN comes last.
//   order = 0 .. first-1, n-last .. n-1, then the `count` - first - last best of first .. n-last-1
//
// in    scores [n] f32      n, count, first, last: first + last <= count <= n (first and last are cut to what fits n)
// out   order [count] u32
// scratch topKScratchBytes(n): histograms [3, 2048] u32, then two arrays [n] of (rank u32, position u32)
//
// Radix sort on `rank`, the scores' monotone image, in digits of 10, 11 and 11 bits, lowest first. When less than everything is
// wanted, keys whose highest digit is beyond the digit of the last one wanted are left out before sorting.

// @ts-ignore: decorator
@inline const BUCKETS: usize = 2048;
// @ts-ignore: decorator
@inline const HISTOGRAM_BYTES: usize = BUCKETS << 2;

export function topKScratchBytes(n: i32): usize {
  return 3 * HISTOGRAM_BYTES + ((<usize>n) << 4);
}

/** From the bits of an f32 to a u32 that is lower for a higher score; the highest of all for NaN. */
export function scoreRank(bits: u32): u32 {
  if ((bits & 0x7fffffff) > 0x7f800000) return 0xffffffff;
  if (bits === 0x80000000) bits = 0;
  return bits & 0x80000000 ? bits : bits ^ 0x7fffffff;
}

export function topK(order: usize, scores: usize, n: i32, count: i32, first: i32, last: i32, scratch: usize): void {
  const low = scratch;
  const middle = low + HISTOGRAM_BYTES;
  const high = middle + HISTOGRAM_BYTES;
  let keys = high + HISTOGRAM_BYTES;
  let spare = keys + ((<usize>n) << 3);

  first = min(first, n);
  last = min(last, n - first);
  for (let j = 0; j < first; j++) store<u32>(order + ((<usize>j) << 2), j);
  order += (<usize>first) << 2;
  for (let j = 0; j < last; j++) store<u32>(order + ((<usize>j) << 2), n - last + j);
  order += (<usize>last) << 2;
  const wanted = count - first - last;
  if (wanted <= 0) return;
  const end = n - last;

  memory.fill(scratch, 0, 3 * HISTOGRAM_BYTES);
  for (let j = first; j < end; j++) bump(high, scoreRank(load<u32>(scores + ((<usize>j) << 2))) >>> 21);
  let lastDigit: u32 = 0; // the highest digit that is wanted; histogram `high` up to there becomes start offsets
  let held: u32 = 0;
  for (; ; lastDigit++) {
    const at = high + ((<usize>lastDigit) << 2);
    const here = load<u32>(at);
    store<u32>(at, held);
    held += here;
    if (held >= <u32>wanted) break;
  }

  let to = keys;
  for (let j = first; j < end; j++) {
    const key = scoreRank(load<u32>(scores + ((<usize>j) << 2)));
    if (key >>> 21 > lastDigit) continue;
    bump(low, key & 1023);
    bump(middle, (key >>> 10) & 2047);
    store<u32>(to, key);
    store<u32>(to, j, 4);
    to += 8;
  }
  startsOf(low, 1024);
  startsOf(middle, 2048);
  scatter(spare, keys, held, low, 0, 1023);
  scatter(keys, spare, held, middle, 10, 2047);
  scatter(spare, keys, held, high, 21, 2047);
  for (let i = 0; i < wanted; i++) store<u32>(order + ((<usize>i) << 2), load<u32>(spare + ((<usize>i) << 3), 4));
}

// @ts-ignore: decorator
@inline
function bump(histogram: usize, digit: u32): void {
  const at = histogram + ((<usize>digit) << 2);
  store<u32>(at, load<u32>(at) + 1);
}

/** Counts become the offsets at which each digit's keys start. */
function startsOf(histogram: usize, digits: usize): void {
  let sum: u32 = 0;
  for (let at = histogram; at < histogram + (digits << 2); at += 4) {
    const here = load<u32>(at);
    store<u32>(at, sum);
    sum += here;
  }
}

/** One stable pass: moves (key, position) pairs to where their digit's keys go. */
function scatter(target: usize, source: usize, count: u32, starts: usize, shift: u32, mask: u32): void {
  const end = source + ((<usize>count) << 3);
  for (; source < end; source += 8) {
    const pair = load<u64>(source);
    const at = starts + ((<usize>((<u32>pair >>> shift) & mask)) << 2);
    const slot = load<u32>(at);
    store<u32>(at, slot + 1);
    store<u64>(target + ((<usize>slot) << 3), pair);
  }
}
