/** The worker of test/worker/relaxed.test.ts. GET /<name> runs test/parity/<name>.test.ts here, on the relaxed build; GET / holds both builds against each other. */
import parity from 'parity-tests'; // made by the test: the name of each file, and how to import it
import simd from '../../build/kernels.wasm';
import relaxed from '../../build/kernels-relaxed.wasm';
import { pack } from '../../worker/backend/layout/pack.ts';
import { placeKernels } from './placed-kernels.ts';
import { Random } from './random.ts';
import { runTests } from './vitest-in-workerd.ts';

export interface Comparison {
  /** What relaxedSelfTest says. */
  readonly selfTest: number;
  /** One token through a q4 matrix, on each build. */
  readonly q4: { readonly plain: number[]; readonly relaxed: number[] };
}

export default {
  async fetch(request: Request): Promise<Response> {
    const name = new URL(request.url).pathname.slice(1);
    return Response.json(name === '' ? compare() : await runTests(parity[name]));
  },
};

function compare(): Comparison {
  const plain = decode(simd);
  return { selfTest: placeKernels(relaxed, true).exports.relaxedSelfTest(), q4: { plain, relaxed: decode(relaxed) } };
}

function decode(module: WebAssembly.Module): number[] {
  const [rows, cols] = [64, 576];
  const k = placeKernels(module, false);
  const random = new Random(1);
  const [w, x, out] = [k.put(pack('q4', random.normals(rows * cols, 0.05), rows, cols)), k.put(random.normals(cols)), k.alloc(rows * 4)];
  k.exports.linearQ4(out, x, w, 0, rows, cols, 1, 0, k.alloc(k.exports.linearQ4Scratch(rows, cols, 1)));
  return [...k.f32(out, rows)];
}
