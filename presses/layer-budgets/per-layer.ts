/** Per layer: the caller gives every layer its own compression ratio (measured offline, or to reproduce a table).
 *      b_l = N (1 - r_l) */
import * as z from 'zod';
import type { PlannedBudget } from '../contract.ts';
import { InputError } from '../input-error.ts';

const error = 'must be a list with one number per layer, each 0 or more and below 1';
const params = z.strictObject({
  compression_ratios: z
    .array(z.number({ error }).min(0, { error }).lt(1, { error }), { error })
    .min(1, { error })
    .describe('the fraction removed from each layer; takes the place of compression_ratio'),
});

export const perLayer: PlannedBudget<typeof params> = {
  name: 'per_layer',
  summary: 'every layer keeps its own share, given by the caller',
  paper: null,
  formula: 'b[l] = N(1 - r[l])',
  needs: 'one ratio per layer',
  params,
  signal: 'none',
  ragged: true,
  ownRatio: {
    param: 'compression_ratios',
    mean: ({ compression_ratios: r }) => r.reduce((sum, ratio) => sum + ratio, 0) / r.length,
  },
  limits(_signals, { layers, caps, compat, math }, { compression_ratios: r }) {
    if (r.length !== layers) {
      const message = `compression_ratios must hold one ratio per layer: the model has ${layers} layers, got ${r.length} ratios`;
      throw new InputError('press_param_range', 'press.layer_budget.compression_ratios', message);
    }
    return caps.map((N, l) => math.keptCount(N, r[l], compat));
  },
  bounds(context, params) {
    return perLayer.limits([], context, params).map((b) => ({ min: b, max: b }));
  },
};
