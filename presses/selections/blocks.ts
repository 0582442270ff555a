/** Blocks: the prompt is read block after block, and what is kept so far must hold its own against each one (as KeyDiff does under a bounded cache).
 *  arXiv 2504.15364
 *      R = the first b tokens;   for every block of block_size tokens after them: R = the b best of R and the block, scored among themselves
 *  A scorer sees the rows of R and of the block in ascending position, as a shorter prompt. kvpress hands them R best first, where scorers by position
 *  (streaming_llm, lagkv, cur's windows) take other tokens for the first and the last ones: so under compat. A scorer is told where rows stand in the prompt
 *  needs     keys and values alone: kvpress gathers the attention's input by pieces of different tokens here, so that whatever projects queries
 *            from it reads noise; queries of other positions would be no better. Such scorers are refused
 *  waits     for the device once a block */
import * as z from 'zod';
import { type Protected, readFloats, readWords } from '../../worker/backend/backend.ts';
import type { Selection } from '../contract.ts';
import { joined } from '../gather.ts';
import { wholeNumber } from '../params.ts';
import { ReusedScratch } from '../part-of-layer.ts';
import { rankByScore } from './top-k.ts';

const params = z.strictObject({
  block_size: wholeNumber(1, 2 ** 20, 128, 'how many tokens join the kept ones at a time'),
});

export const blocks: Selection<typeof params> = {
  name: 'blocks',
  summary: 'block after block, the best of what is kept so far and the next block',
  paper: 'arXiv 2504.15364',
  formula: 'R = the b[l] best of R and the next block_size tokens, by scores among themselves',
  needs: 'scores of keys and values alone; the device is waited for once a block',
  params,
  exact: true,
  cost: 'what is kept is scored again with every block: the scorer runs N r / block_size times over N (1 - r) tokens',
  scratchBytes: ({ n, kvHeads, headDim }) => 4 * kvHeads * n * (2 * headDim + 3) + 6 * 64,
  refuses({ scorer: { part, params } }) {
    const reads = part.hidden ? "the attention's input" : part.queries(params) > 0 ? 'queries' : null;
    if (reads === null) return null;
    return `selection "blocks" scores kept tokens beside the next block, without what came between, and scorer "${part.name}" reads ${reads}, which would belong to other keys; use a scorer of keys and values alone, like "keydiff", or selection "top_k"`;
  },
  async rank(context, { block_size }) {
    const { backend, scratch, n, k, v, keep, count: b, shape, compat, start } = context;
    const { kvHeads: H, headDim: d } = shape;
    if (b >= n) return rankByScore(context, context.score(context));
    const most = Math.min(n, b + block_size);
    const reused = new ReusedScratch(context);
    const heads = Array.from({ length: H }, (_, h) => h);
    const [rows, order] = [scratch(H * most * 4, 'candidates'), scratch(H * b * 4, 'best of the candidates')];
    const [keys, values] = [scratch(most * H * d * 4, 'keys of the candidates'), scratch(most * H * d * 4, 'values of the candidates')]; // [m, H, d]
    const spread = new Float32Array(H * n).fill(-Infinity); // [H, n]
    const standing = (row: number, h: number): number => context.positions?.[h][start + row] ?? start + row;
    let best = Array.from({ length: H }, () => Uint32Array.from({ length: b }, (_, t) => t)); // positions, best first
    for (let first = b; first < n; first += block_size) {
      const end = Math.min(n, first + block_size);
      const m = b + end - first;
      const block = Uint32Array.from({ length: end - first }, (_, i) => first + i);
      const candidates = best.map((kept) => Uint32Array.from([...(compat ? kept : kept.slice().sort()), ...block]));
      backend.write(rows, joined(candidates, m));
      backend.gather(keys, k, { rows, stride: m }, m, H, d);
      backend.gather(values, v, { rows, stride: m }, m, H, d);
      reused.again();
      const where = {
        start: 0,
        positions: candidates.map((list, h) => list.map((row) => standing(row, h))),
        end: compat ? m : end === n && context.end !== undefined ? context.end : Math.max(...heads.map((h) => standing(end - 1, h))) + 1,
      };
      const scored = context.score({ ...context, ...where, n: m, k: keys, v: values, window: 0, hidden: null, scratch: reused.lend });
      backend.topK(order, scored, H, m, b, compat ? cut(context.protects(m), b) : { first: keep.first, last: Math.max(0, end - n + keep.last) });
      const ranks = await readWords(backend, order, H * b);
      best = best.map((_, h) => ranks.slice(h * b, (h + 1) * b).map((row) => candidates[h][row]));
      if (end < n) continue;
      const last = await readFloats(backend, scored, H * m);
      for (const [i, score] of last.entries()) spread[Math.floor(i / m) * n + candidates[Math.floor(i / m)][i % m]] = score;
    }
    backend.write(order, joined(best, b));
    const scores = scratch(H * n * 4, 'scores of the last candidates');
    backend.write(scores, spread);
    return { scores, order };
  },
};

/** No more protected tokens than are kept. */
function cut({ first, last }: Protected, count: number): Protected {
  return { first: Math.min(first, count), last: Math.min(last, Math.max(0, count - first)) };
}
