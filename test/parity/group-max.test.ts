import { beforeEach, expect, test } from 'vitest';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();
beforeEach(() => kernels.reset());

test('group-max: the largest of each group, exactly, over 200 random shapes', () => {
  const random = new Random(31);
  for (let i = 0; i < 200; i++) {
    kernels.reset();
    const [groups, group, n] = [random.int(1, 8), random.int(1, 8), random.pick([1, 2, 3, 4, 5, 63, 65, 300])];
    const x = random.normals(groups * group * n);
    const [xAt, outAt] = [kernels.put(x), kernels.put(new Float32Array(groups * n + 4).fill(-7))];
    kernels.exports.groupMax(outAt, xAt, groups, group, n);
    const out = kernels.f32(outAt, groups * n + 4);
    for (let g = 0; g < groups; g++)
      for (let j = 0; j < n; j++) {
        const column = Array.from({ length: group }, (_, r) => x[(g * group + r) * n + j]);
        if (out[g * n + j] !== Math.max(...column)) throw new Error(`groups ${groups} group ${group} n ${n} [${g},${j}]`);
      }
    expect([...out.subarray(groups * n)]).toEqual([-7, -7, -7, -7]);
  }
});
