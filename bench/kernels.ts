/**
 * Speed of the linear kernels, one thread, by weight type and shape.
 *   npx tsx bench/kernels.ts [--type q4] [--kernels build/kernels.wasm] [--shapes 576x576,49152x576] [--tokens 1,64]
 * Relaxed SIMD needs a host that has it (Node 20's is wrong): npx deno run -A bench/kernels.ts --kernels build/kernels-relaxed.wasm
 * GOPS counts a multiplication and an addition; GB/s is the weights read once a call. Best of 40 rounds of about 10 ms: other
 * work on the machine only ever makes a round slower. Rows are multiples of 4 here.
 */
import { parseArgs } from 'node:util';
import { loadKernels } from '../test/support/kernels.ts';
import { Random } from '../test/support/random.ts';
import type { WeightType } from '../worker/backend/backend.ts';
import { pack } from '../worker/backend/layout/pack.ts';
import { weightBytes } from '../worker/backend/layout/records.ts';

const { values: options } = parseArgs({
  options: {
    kernels: { type: 'string', default: 'build/kernels.wasm' },
    type: { type: 'string', default: 'f32,f16,bf16,q8,q4' },
    shapes: { type: 'string', default: '192x576,576x576,1536x576,576x1536,49152x576,2048x8192' },
    tokens: { type: 'string', default: '1,64' },
  },
});

const names: Record<WeightType, string> = { f32: 'F32', f16: 'F16', bf16: 'Bf16', q8: 'Q8', q4: 'Q4' };
const random = new Random(1);

console.log('type   rows x cols     n      ms/call     GOPS     GB/s');
for (const type of options.type.split(',') as WeightType[]) {
  for (const shape of options.shapes.split(',')) {
    for (const n of options.tokens.split(',').map(Number)) {
      const [rows, cols] = shape.split('x').map(Number);
      const bytes = weightBytes(type, rows, cols);
      if (bytes > 2 ** 29 || (n > 1 && rows * n > 1e7)) continue;
      const k = loadKernels(options.kernels);
      const linear = k.exports[`linear${names[type]}`];
      const w = k.alloc(bytes);
      const x = k.put(random.normals(n * cols));
      const out = k.alloc(n * rows * 4);
      const scratch = k.alloc(k.exports[`linear${names[type]}Scratch`](rows, cols, n));
      const fourRows = pack(type, random.normals(4 * cols, 0.05), 4, cols);
      for (let at = 0; at < bytes; at += fourRows.length) k.u8(w + at, fourRows.length).set(fourRows);
      const time = (calls: number): number => {
        const start = performance.now();
        for (let i = 0; i < calls; i++) linear(out, x, w, 0, rows, cols, n, 0, scratch);
        return (performance.now() - start) / calls;
      };
      time(3);
      time(Math.ceil(50 / time(1))); // V8 tiers up
      const calls = Math.ceil(10 / time(3));
      const ms = Math.min(...Array.from({ length: 40 }, () => time(calls)));
      const gops = (2 * rows * cols * n) / ms / 1e6;
      console.log(
        `${type.padEnd(5)} ${shape.padStart(12)} ${String(n).padStart(5)} ${ms.toFixed(4).padStart(12)} ${gops.toFixed(1).padStart(8)} ${(bytes / ms / 1e6).toFixed(1).padStart(8)}`,
      );
    }
  }
}
