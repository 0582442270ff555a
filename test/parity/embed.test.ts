import { describe, expect, it } from 'vitest';
import type { WeightType } from '../../worker/backend/backend.ts';
import { pack } from '../../worker/backend/layout/pack.ts';
import { unpack } from '../../worker/backend/layout/records.ts';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const names: Record<WeightType, string> = { f32: 'F32', f16: 'F16', bf16: 'Bf16', q8: 'Q8', q4: 'Q4' };

describe('embed', () => {
  it.each(Object.keys(names) as WeightType[])('%s: row tokens[i] comes out as row i, every bit', (type) => {
    const k = loadKernels();
    const random = new Random(21);
    for (const cols of type === 'q8' || type === 'q4' ? [32, 64, 576] : [1, 3, 4, 6, 33, 576]) {
      for (const rows of [1, 3, 8, 29]) {
        k.reset();
        const values = random.normals(rows * cols);
        values[0] = 0;
        values[cols - 1] = 1e-6; // subnormal as f16
        const bytes = pack(type, values, rows, cols);
        const expected = unpack(type, bytes, rows, cols);
        const tokens = Uint32Array.from({ length: 11 }, (_, i) => (i === 0 ? rows - 1 : i === 1 ? 0 : random.int(0, rows - 1)));
        const out = k.put(new Float32Array(11 * cols + 4).fill(7));
        const ids = k.put(tokens);
        k.exports[`embed${names[type]}`](out, k.put(bytes), ids, cols, 11);
        for (let i = 0; i < 11; i++) {
          const row = k.f32(out + i * cols * 4, cols);
          for (let c = 0; c < cols; c++) {
            const want = expected[tokens[i] * cols + c];
            if (row[c] !== want) expect.fail(`${type} ${rows}x${cols}: token ${tokens[i]} column ${c} is ${row[c]}, expected ${want}`);
          }
        }
        expect([...k.f32(out + 11 * cols * 4, 4)]).toEqual([7, 7, 7, 7]);
      }
    }
  });
});
