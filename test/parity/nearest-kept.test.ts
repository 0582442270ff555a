import { beforeEach, expect, test } from 'vitest';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();
beforeEach(() => kernels.reset());

const NONE = 0xffffffff;

interface Case {
  readonly k: Float32Array;
  readonly n: number;
  readonly H: number;
  readonly d: number;
  readonly kept: readonly (readonly number[])[]; // [H]
  readonly among?: readonly (readonly number[])[];
}

function nearestKept({ k, n, H, d, kept, among }: Case): { target: Uint32Array; similarity: Float32Array } {
  const stride = Math.max(1, ...kept.map((list) => list.length));
  const order = new Uint32Array(H * stride).fill(12345);
  for (const [h, list] of kept.entries()) order.set(list, h * stride);
  const norms = new Float32Array(H * n);
  for (let h = 0; h < H; h++)
    for (let t = 0; t < n; t++) norms[h * n + t] = Math.sqrt(k.subarray((t * H + h) * d, (t * H + h + 1) * d).reduce((sum, x) => sum + x * x, 0));
  const scratchBytes = kernels.exports.nearestKeptScratchBytes(n, d);
  const [kAt, normsAt, orderAt] = [kernels.put(k), kernels.put(norms), kernels.put(order)];
  const counts = kernels.put(Uint32Array.from(kept, (list) => list.length));
  const amongAt = among ? kernels.put(Uint32Array.from(among.flat())) : 0;
  const [target, similarity] = [kernels.put(new Uint32Array(H * n + 1).fill(7)), kernels.put(new Float32Array(H * n + 1).fill(7))];
  const scratch = kernels.alloc(scratchBytes + 64);
  kernels.u8(scratch, scratchBytes + 64).fill(0xa5);
  kernels.exports.nearestKept(target, similarity, kAt, normsAt, orderAt, stride, counts, amongAt, among?.[0].length ?? 0, n, H, d, scratch);
  expect([kernels.u32(target, H * n + 1)[H * n], kernels.f32(similarity, H * n + 1)[H * n]]).toEqual([7, 7]);
  expect(kernels.u8(scratch + scratchBytes, 64).every((x) => x === 0xa5)).toBe(true);
  return { target: kernels.u32(target, H * n).slice(), similarity: kernels.f32(similarity, H * n).slice() };
}

test('nearest-kept: the largest cosine within 2e-6 of float64, of a kept row that has it, over 150 random shapes; the others have none', () => {
  const random = new Random(82);
  for (let i = 0; i < 150; i++) {
    kernels.reset();
    const [H, d, n] = [random.int(1, 3), random.pick([2, 5, 16, 18, 64, 80]), random.pick([1, 2, 63, 65, 150])];
    const k = random.normals(n * H * d, random.pick([1e-3, 1, 100]));
    if (random.next() < 0.3) k.fill(0, 0, d); // a key without a direction
    const present = random.next() < 0.4 ? random.int(1, n) : n;
    const rows = Array.from({ length: H }, () => random.shuffled(Array.from({ length: n }, (_, t) => t)).slice(0, present));
    const kept = rows.map((list) => list.slice(0, random.int(0, present)));
    const { target, similarity } = nearestKept({ k, n, H, d, kept, among: present < n ? rows : undefined });
    for (let h = 0; h < H; h++) {
      for (let e = 0; e < n; e++) {
        const [got, s] = [target[h * n + e], similarity[h * n + e]];
        if (!rows[h].includes(e) || kept[h].includes(e) || kept[h].length === 0) {
          expect([got, s]).toEqual([NONE, -2]);
          continue;
        }
        const row = (t: number): Float32Array => k.subarray((t * H + h) * d, (t * H + h + 1) * d);
        const dot = (x: Float32Array, y: Float32Array): number => x.reduce((sum, value, c) => sum + value * y[c], 0);
        const cosine = (r: number): number =>
          dot(row(e), row(r)) / (Math.max(Math.sqrt(dot(row(e), row(e))), 1e-6) * Math.max(Math.sqrt(dot(row(r), row(r))), 1e-6));
        const most = Math.max(...kept[h].map(cosine));
        expect(kept[h]).toContain(got);
        expect(Math.abs(s - most)).toBeLessThan(2e-6);
        expect(Math.abs(cosine(got) - most)).toBeLessThan(2e-6);
      }
    }
  }
});

test('nearest-kept: of equally near rows the lower one, in whatever order they rank', () => {
  const k = Float32Array.of(1, 1, 2, 2, 2, 2, 1, -1); // the second and the third are equal
  expect([...nearestKept({ k, n: 4, H: 1, d: 2, kept: [[3, 2, 1]] }).target]).toEqual([1, NONE, NONE, NONE]);
  kernels.reset();
  expect([...nearestKept({ k, n: 4, H: 1, d: 2, kept: [[1, 2]] }).target]).toEqual([1, NONE, NONE, 1]);
});
