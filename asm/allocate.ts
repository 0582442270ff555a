// allocate: deals `total` tokens over m layers by integer weights, above a floor, below caps. Exact integers.
//   n_i = min(c_i, b + R u_i / U), R = what is left above the floors, U = sum of u, both over the layers that are not full (water-filling)
//   rounding: largest remainder, ties to the lower layer, so that sum n = min(total, sum c). `ceiling`: every share rounded up instead, for
//   the stages before the last layer is known: ceilings only fall from stage to stage and never below the final n.
// All-zero weights deal evenly; so do the zero weights that are left when every other layer is full.
//
// in    weights [m] f64, integers 0 .. 2^53-1    caps [m] u32    total below 2^53; m up to 256
// out   budgets [m] u32
// scratch allocateScratchBytes(m), 8-byte aligned: share weight [m] u64, remainder [m] u64 (FULL = the layer is at its cap)

export const ALLOCATE_BAD_WEIGHT: i32 = -1; // negative, not an integer, 2^53 or more
export const ALLOCATE_FLOORS: i32 = -2; // the floors alone exceed the total
export const ALLOCATE_CAP: i32 = -3; // a cap is below the floor
export const ALLOCATE_TOO_MANY: i32 = -4; // more than 256 layers: sums of weights would not be safe

const MOST_LAYERS: i32 = 256;
const FULL: u64 = u64.MAX_VALUE;

export function allocateScratchBytes(layers: i32): usize {
  return (<usize>layers) << 4;
}

let remainder: u64 = 0; // of the last divide()

/** floor(count * weight / sum), remainder in `remainder`; weight <= sum < 2^62. Bit by bit, for the product can exceed 64 bits. */
function divide(count: u64, weight: u64, sum: u64): u64 {
  let quotient: u64 = 0;
  let rest: u64 = 0;
  for (let bit = 63 - <i32>clz<u64>(count | 1); bit >= 0; bit--) {
    rest <<= 1;
    quotient <<= 1;
    if ((count >> bit) & 1) rest += weight; // below 3 sum
    while (rest >= sum) {
      rest -= sum;
      quotient++;
    }
  }
  remainder = rest;
  return quotient;
}

export function allocate(budgets: usize, weights: usize, caps: usize, layers: i32, total: f64, floor: u32, ceiling: bool, scratch: usize): i32 {
  if (<u32>layers > <u32>MOST_LAYERS) return ALLOCATE_TOO_MANY;
  const weightAt = scratch;
  const remainderAt = scratch + ((<usize>layers) << 3);
  let capacity: u64 = 0;
  for (let i: usize = 0; i < <usize>layers; i++) {
    const weight = load<f64>(weights + (i << 3));
    if (!(weight >= 0 && weight < 9007199254740992 && weight === Math.floor(weight))) return ALLOCATE_BAD_WEIGHT;
    const cap = load<u32>(caps + (i << 2));
    if (cap < floor) return ALLOCATE_CAP;
    store<u64>(weightAt + (i << 3), <u64>weight);
    store<u64>(remainderAt + (i << 3), 0);
    store<u32>(budgets + (i << 2), cap);
    capacity += cap;
  }
  if (<f64>capacity <= total) return 0;
  let left = <u64>max<f64>(total, 0); // to deal out among the layers that are not full, their floors included
  if (<u64>floor * layers > left) return ALLOCATE_FLOORS;

  let open = layers; // layers that are not full
  let sum: u64 = 0; // of their weights
  let variable: u64 = 0; // what they share above their floors
  for (let full = true; full; ) {
    full = false;
    sum = 0;
    for (let i: usize = 0; i < <usize>layers; i++) if (load<u64>(remainderAt + (i << 3)) !== FULL) sum += load<u64>(weightAt + (i << 3));
    if (sum === 0) {
      for (let i: usize = 0; i < <usize>layers; i++) store<u64>(weightAt + (i << 3), 1);
      sum = open;
    }
    variable = left - <u64>floor * open;
    const shared = variable; // one round judges all layers by the same share
    for (let i: usize = 0; i < <usize>layers; i++) {
      if (load<u64>(remainderAt + (i << 3)) === FULL) continue;
      const cap = load<u32>(caps + (i << 2));
      const quotient = divide(shared, load<u64>(weightAt + (i << 3)), sum);
      if (quotient >= <u64>(cap - floor)) {
        full = true;
        store<u64>(remainderAt + (i << 3), FULL);
        store<u32>(budgets + (i << 2), cap);
        left -= cap;
        open--;
      } else {
        store<u64>(remainderAt + (i << 3), remainder);
        store<u32>(budgets + (i << 2), floor + <u32>quotient);
      }
    }
  }

  // The last round filled nobody: budgets are floors of the shares, and fewer than `open` tokens are left.
  for (let i: usize = 0; i < <usize>layers; i++) {
    const rest = load<u64>(remainderAt + (i << 3));
    if (rest === FULL) continue;
    const budget = load<u32>(budgets + (i << 2));
    left -= budget;
    if (ceiling && rest > 0) store<u32>(budgets + (i << 2), budget + 1);
  }
  if (ceiling) return 0;
  for (; left > 0; left--) {
    let best: usize = 0;
    let bestRest: u64 = 0;
    for (let i: usize = 0; i < <usize>layers; i++) {
      const rest = load<u64>(remainderAt + (i << 3));
      if (rest === FULL || rest <= bestRest) continue;
      best = i;
      bestRest = rest;
    }
    store<u32>(budgets + (best << 2), load<u32>(budgets + (best << 2)) + 1);
    store<u64>(remainderAt + (best << 3), 0);
  }
  return 0;
}
