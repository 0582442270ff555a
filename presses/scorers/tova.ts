/** TOVA: what the last token attends to stays, the same tokens for every head.          arXiv 2401.06104
 *      s_j = mean over all query heads a of P[a, N-1, j];   the last token is protected */
import { at } from '../../worker/backend/backend.ts';
import type { Scorer } from '../contract.ts';
import { noParams } from '../params.ts';
import { windowAttention } from '../window-attention.ts';

export const tova: Scorer<typeof noParams> = {
  name: 'tova',
  summary: 'keeps what the last token attends to, the same tokens for every head',
  paper: 'arXiv 2401.06104',
  formula: 's[j] = mean over all query heads of attention(last token, j)',
  needs: 'keys, the last query',
  params: noParams,
  comparable: true, // shares of attention
  massMap: 'identity',
  protectedBy: null,
  queries: () => 1,
  protect: () => ({ first: 0, last: 1 }),
  score(context) {
    const { backend, n, shape } = context;
    const scores = context.scratch(shape.kvHeads * n * 4, 'tova scores'); // [H, n]
    backend.groupMean(scores, windowAttention(context, 1), 1, shape.queryHeads, n);
    for (let h = 1; h < shape.kvHeads; h++) backend.copy(at(scores, h * n * 4), scores, n * 4);
    return scores;
  },
};
