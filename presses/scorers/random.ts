/** Random: the baseline that every scorer must beat.
 *      s[h,t] ~ U[0, 1), independent over layers, heads and tokens, and anew each time while decoding
 *  kvpress draws the same scores in all layers, and every time, when it is given a seed; here layer and time are mixed into it. */
import * as z from 'zod';
import type { Scorer } from '../contract.ts';
import { seedNumber } from '../params.ts';

const params = z.strictObject({
  seed: seedNumber('the same seed keeps the same tokens; without one, that of the request, or one that is drawn and reported'),
});

export const random: Scorer<typeof params> = {
  name: 'random',
  summary: 'keeps tokens by lot: the baseline',
  paper: null,
  formula: 's[h,t] ~ U[0, 1)',
  needs: 'nothing',
  params,
  comparable: true, // all drawn from U[0, 1)
  massMap: null, // the same distribution in every layer
  protectedBy: null,
  queries: () => 0,
  protect: () => ({ first: 0, last: 0 }),
  score(context, params) {
    const { backend, n, layer, shape, start, firstHead = 0, step = 0 } = context;
    const seed = params.seed ?? context.seed;
    if (params.seed === undefined) context.note(`random: seed ${seed}`);
    const draws = new Float32Array(shape.kvHeads * n); // [H, n]
    const lots = (seed + Math.imul(step, 0x9e3779b9) + Math.imul(firstHead, 0x7feb352d)) >>> 0; // of this time, and of these heads
    for (let i = 0; i < draws.length; i++) draws[i] = uniform(lots, layer, start * shape.kvHeads + i);
    const scores = context.scratch(draws.byteLength, 'random scores');
    backend.write(scores, draws);
    return scores;
  },
};

/** 24 random bits of a counter: murmur3's finaliser over (seed, layer, i), so that no draw depends on another. */
export function uniform(seed: number, layer: number, i: number): number {
  return (mix(mix(mix(seed) ^ layer) ^ i) >>> 8) / 2 ** 24;
}

/** A normal number: Box-Muller, over two draws of its own. */
export function normal(seed: number, layer: number, i: number): number {
  const radius = Math.sqrt(-2 * Math.log(1 - uniform(seed, layer, 2 * i)));
  return radius * Math.cos(2 * Math.PI * uniform(seed, layer, 2 * i + 1));
}

function mix(x: number): number {
  let h = (x + 0x9e3779b9) | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}
