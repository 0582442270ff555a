import { beforeEach, expect, test } from 'vitest';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();
beforeEach(() => kernels.reset());

interface Case {
  readonly k: Float32Array;
  readonly q: Float32Array;
  readonly window: number;
  readonly kept: readonly (readonly number[])[]; // [H]
  readonly zeroed: number;
  readonly group: number;
  readonly d: number;
}

function pruneChannels({ k, q, window, kept, zeroed, group, d }: Case): Float32Array {
  const H = kept.length;
  const stride = Math.max(1, ...kept.map((list) => list.length));
  const order = new Uint32Array(H * stride).fill(12345);
  for (const [h, list] of kept.entries()) order.set(list, h * stride);
  const scratchBytes = kernels.exports.pruneChannelsScratchBytes(d);
  const [kAt, qAt, orderAt] = [kernels.put(k), kernels.put(q), kernels.put(order)];
  const counts = kernels.put(Uint32Array.from(kept, (list) => list.length));
  const scratch = kernels.alloc(scratchBytes + 64);
  kernels.u8(scratch, scratchBytes + 64).fill(0xa5);
  kernels.exports.pruneChannels(kAt, qAt, window, orderAt, stride, counts, zeroed, H * group, H, d, scratch);
  expect(kernels.u8(scratch + scratchBytes, 64).every((x) => x === 0xa5)).toBe(true);
  return kernels.f32(kAt, k.length).slice();
}

test('prune-channels: the channels of least energy are 0 in every kept row, over 150 random shapes; all else keeps every bit', () => {
  const random = new Random(84);
  for (let i = 0; i < 150; i++) {
    kernels.reset();
    const [H, group, d, n] = [random.int(1, 3), random.int(1, 3), random.pick([2, 5, 16, 18, 64, 80]), random.pick([1, 2, 63, 65, 150])];
    const [window, zeroed] = [random.pick([1, 2, 33]), random.int(0, d)];
    const [k, q] = [random.normals(n * H * d, random.pick([1e-3, 1, 100])), random.normals(window * H * group * d)];
    const kept = Array.from({ length: H }, () => random.shuffled(Array.from({ length: n }, (_, t) => t)).slice(0, random.int(1, n)));
    const out = pruneChannels({ k: k.slice(), q, window, kept, zeroed, group, d });
    for (let h = 0; h < H; h++) {
      const energy = Array.from({ length: d }, (_, c) => {
        let [queries, keys] = [0, 0];
        for (let row = 0; row < window * group; row++) queries += q[(Math.floor(row / group) * H * group + h * group + (row % group)) * d + c] ** 2;
        for (const t of kept[h]) keys += k[(t * H + h) * d + c] ** 2;
        return (queries / (window * group)) * (keys / kept[h].length);
      });
      const least = Array.from({ length: d }, (_, c) => c).sort((a, b) => energy[a] - energy[b] || a - b);
      const pruned = new Set(least.slice(0, zeroed));
      for (let t = 0; t < n; t++) {
        for (let c = 0; c < d; c++) {
          const at = (t * H + h) * d + c;
          const want = kept[h].includes(t) && pruned.has(c) ? 0 : k[at];
          if (out[at] !== want) throw new Error(`n ${n} d ${d} [${h},${t},${c}]: ${out[at]}, not ${want}`);
        }
      }
    }
  }
});

test('prune-channels: toy numbers; of channels with equal energy the lower ones go', () => {
  const k = Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8); // two rows of four channels; energies of keys: 13, 20, 29, 40
  const q = Float32Array.of(1, 1, 0, 0); // of queries: only the first two count
  expect([...pruneChannels({ k, q, window: 1, kept: [[1, 0]], zeroed: 1, group: 1, d: 4 })]).toEqual([1, 2, 0, 4, 5, 6, 0, 8]);
  kernels.reset();
  expect([...pruneChannels({ k, q, window: 1, kept: [[1]], zeroed: 3, group: 1, d: 4 })]).toEqual([1, 2, 3, 4, 0, 6, 0, 0]);
});
