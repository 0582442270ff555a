// adaCounts: how many evictable tokens each head keeps when the heads of a layer compete (AdaKV in its floor form).
// Each head's best `safe` are pinned; the rest of `total` go to the best scores of all heads, raw, by a merge of the sorted lists.
// Equal scores: the lower head first. NaN ranks last, -0 equals +0, as in topK. Counts nest: a smaller total, with the same safe or a
// smaller one (safe falling by no more than total / heads), never gives a head more.
//
// in    sorted f32, the heads' lists one after the other, each best first    lengths [heads] u32
// out   counts [heads] u32, sum = total
import { scoreRank } from './top-k';

export const ADA_TOTAL: i32 = -1; // total is below the pinned tokens or above all tokens

export function adaCounts(counts: usize, sorted: usize, lengths: usize, heads: i32, total: u32, safe: u32): i32 {
  let left = <i64>total;
  let tokens: u64 = 0;
  for (let h: usize = 0; h < <usize>heads; h++) {
    const length = load<u32>(lengths + (h << 2));
    const pinned = min<u32>(safe, length);
    store<u32>(counts + (h << 2), pinned);
    left -= pinned;
    tokens += length;
  }
  if (left < 0 || <u64>total > tokens) return ADA_TOTAL;
  for (; left > 0; left--) {
    let best: usize = usize.MAX_VALUE;
    let bestRank: u32 = u32.MAX_VALUE;
    let list = sorted;
    for (let h: usize = 0; h < <usize>heads; h++) {
      const length = load<u32>(lengths + (h << 2));
      const count = load<u32>(counts + (h << 2));
      if (count < length) {
        const head = scoreRank(load<u32>(list + ((<usize>count) << 2)));
        if (head < bestRank || best === usize.MAX_VALUE) {
          best = h;
          bestRank = head;
        }
      }
      list += (<usize>length) << 2;
    }
    store<u32>(counts + (best << 2), load<u32>(counts + (best << 2)) + 1);
  }
  return 0;
}
