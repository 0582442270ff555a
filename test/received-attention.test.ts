/** CaM's attention: what rows received from the last tokens, where a sliding window hides some and others went before. */
import { expect, test } from 'vitest';
import { receivedAttention } from '../presses/received-attention.ts';
import { Borrowed } from '../worker/backend/borrowed.ts';
import { runtimes } from './support/press-runtimes.ts';
import { Random } from './support/random.ts';

/** The formula, in float64: rows at `positions`, queries of the last of them. */
function expected(q: Float32Array, k: Float32Array, positions: readonly number[], window: number, G: number, d: number, sliding: number): number[] {
  const n = positions.length;
  const sums = Array<number>(n).fill(0);
  for (let i = 0; i < window; i++) {
    const own = positions[n - window + i];
    const seen = positions.flatMap((position, t) => (position <= own && (sliding === 0 || position > own - sliding) ? [t] : []));
    for (let g = 0; g < G; g++) {
      const logits = seen.map((t) => {
        let dot = 0;
        for (let c = 0; c < d; c++) dot += q[(i * G + g) * d + c] * k[t * d + c];
        return dot / Math.sqrt(d);
      });
      const most = Math.max(...logits);
      const all = logits.reduce((sum, x) => sum + Math.exp(x - most), 0);
      for (const [s, t] of seen.entries()) sums[t] += Math.exp(logits[s] - most) / all / G;
    }
  }
  return sums;
}

for (const { name, make } of runtimes) {
  test(`${name}: attention goes by positions, over 40 random sequences with gaps, with and without a sliding window`, async () => {
    const { backend } = await make();
    const random = new Random(31);
    let [hidden, farther] = [0, 0];
    for (let trial = 0; trial < 40; trial++) {
      const [G, d, n] = [random.pick([1, 2, 4]), 8, random.int(2, 40)];
      const window = random.int(1, Math.min(n, 12));
      const sliding = random.pick([0, 3, 10, 25]);
      const before = new Set<number>();
      while (before.size < n - window) before.add(random.int(0, 3 * n));
      const positions = [...before].sort((a, b) => a - b);
      const next = 3 * n + 1;
      for (let i = 0; i < window; i++) positions.push(next + i); // what was read since is all there
      const [q, k] = [random.normals(window * G * d), random.normals(n * d)];
      const borrowed = new Borrowed(backend);
      try {
        const [onQ, onK] = [borrowed.scratch(q.byteLength, 'q'), borrowed.scratch(k.byteLength, 'k')];
        backend.write(onQ, q);
        backend.write(onK, k);
        const shape = { queryHeads: G, kvHeads: 1, headDim: d, slidingWindow: sliding, scale: 1 / Math.sqrt(d) };
        const got = await receivedAttention({ backend, scratch: borrowed.scratch }, onQ, onK, positions, window, shape);
        const want = expected(q, k, positions, window, G, d, sliding);
        for (const [t, value] of got.entries()) expect(Math.abs(value - want[t])).toBeLessThan(1e-5);
        hidden += want.filter((value) => value === 0).length;
        if (sliding > 0 && positions[n - 1] - positions[0] >= sliding && n <= sliding) farther++; // rows alone would hide none of these
      } finally {
        borrowed.giveBack();
      }
    }
    expect(hidden).toBeGreaterThan(50);
    expect(farther).toBeGreaterThan(3);
  });
}
