import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { LinearTarget, View, Weight, WeightType } from '../../../worker/backend/backend.ts';
import { pack } from '../../../worker/backend/layout/pack.ts';
import { unpack, weightBytes } from '../../../worker/backend/layout/records.ts';
import { GpuBlock } from '../../../worker/backend/webgpu/buffers.ts';
import { type Backends, Bench, expectClose, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

const types: readonly WeightType[] = ['f32', 'f16', 'bf16', 'q8', 'q4'];
const isQuantized = (type: WeightType): boolean => type === 'q8' || type === 'q4';

/** How far an output may be from the float64 product, of the sum of |x w|: f32 sums of 32 products, then of the blocks. The largest seen is 2.1e-7. */
const ROOM = 5e-7;

interface Matrix {
  readonly type: WeightType;
  readonly rows: number;
  readonly cols: number;
  readonly bytes: Uint8Array;
  readonly bias: Float32Array | null;
  readonly accumulate: boolean;
}

function draw(
  random: Random,
  type: WeightType,
  rows: number,
  cols: number,
  { bias = random.next() < 0.5, accumulate = random.next() < 0.5 } = {},
): Matrix {
  return {
    ...{ type, rows, cols, accumulate },
    bytes: pack(type, random.normals(rows * cols, 0.05), rows, cols),
    bias: bias ? random.normals(rows) : null,
  };
}

/** Matrices one after another as in an arena, each at a multiple of 64 bytes. */
function arena(matrices: readonly Matrix[]): { bytes: Uint8Array; offsets: number[] } {
  let end = 0;
  const offsets = matrices.map(({ bytes }) => {
    const offset = end;
    end += Math.ceil(bytes.length / 64) * 64;
    return offset;
  });
  const all = new Uint8Array(end);
  for (const [i, { bytes }] of matrices.entries()) all.set(bytes, offsets[i]);
  return { bytes: all, offsets };
}

interface Run {
  readonly matrices: readonly Matrix[];
  readonly n: number;
  readonly x: Float32Array;
  readonly before: readonly Float32Array[];
  /** Floats in front of x in its buffer. */
  readonly shift: number;
}

function drawRun(random: Random, matrices: readonly Matrix[], n: number, shift = 0): Run {
  return { matrices, n, shift, x: random.normals(n * matrices[0].cols), before: matrices.map(({ rows }) => random.normals(n * rows)) };
}

/** Records it; hands back a promise for each output. `place` puts the weights into device memory. */
function record(bench: Bench, run: Run, place = (bytes: Uint8Array): View => bench.put(bytes, 'weights')): Promise<Float32Array>[] {
  const { bytes, offsets } = arena(run.matrices);
  const weights = place(bytes);
  const xs = new Float32Array(run.shift + run.x.length);
  xs.set(run.x, run.shift);
  const x = { buffer: bench.put(xs).buffer, offset: run.shift * 4 };
  const targets = run.matrices.map(({ type, rows, cols, bias, accumulate }, i): LinearTarget => {
    const weight: Weight = { buffer: weights.buffer, offset: weights.offset + offsets[i], type, rows, cols };
    return { out: bench.put(run.before[i]), weight, bias: bias && bench.put(bias), accumulate };
  });
  bench.backend.linear(targets, x, run.n);
  return targets.map(({ out, weight }) => bench.f32(out, run.n * weight.rows));
}

/** The float64 product, and the sum of the terms' sizes. */
function exact({ matrices, n, x, before }: Run, which: number): { y: Float64Array; size: Float64Array } {
  const { type, rows, cols, bytes, bias, accumulate } = matrices[which];
  const w = unpack(type, bytes, rows, cols);
  const [y, size] = [new Float64Array(n * rows), new Float64Array(n * rows)];
  for (let t = 0; t < n; t++) {
    for (let r = 0; r < rows; r++) {
      const o = t * rows + r;
      const rest = (bias ? bias[r] : 0) + (accumulate ? before[which][o] : 0);
      y[o] = rest;
      size[o] = Math.abs(rest);
      for (let c = 0; c < cols; c++) {
        const product = x[t * cols + c] * w[r * cols + c];
        y[o] += product;
        size[o] += Math.abs(product);
      }
    }
  }
  return { y, size };
}

const named = ({ matrices, n }: Run): string => `${matrices.map(({ type, rows, cols }) => `${type} ${rows}x${cols}`).join(' + ')}, ${n} tokens`;

/** Runs them all at once, for a readback takes its time whatever it brings. */
async function check({ gpu }: Backends, runs: readonly Run[], place?: (bytes: Uint8Array) => View): Promise<number> {
  const bench = new Bench(gpu);
  let worst = 0;
  try {
    const results = await Promise.all(runs.map((run) => Promise.all(record(bench, run, place))));
    for (const [i, run] of runs.entries()) {
      for (const [which, got] of results[i].entries()) {
        const { y, size } = exact(run, which);
        expectClose(named(run), got, y, (_, o) => ROOM * size[o]);
        for (let o = 0; o < y.length; o++) worst = Math.max(worst, Math.abs(got[o] - y[o]) / size[o]);
      }
    }
  } finally {
    bench.close();
  }
  return worst;
}

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends({ without: ['shader-f16', 'subgroups'] });
});
afterAll(() => {
  expect(backends.gpu.buffers.live).toEqual([]);
  backends.gpu.close();
});

/** Which entries run: those for software adapters, or those for the others. */
function as(kind: 'software' | 'hardware'): void {
  Object.defineProperty(backends.gpu, 'software', { value: kind === 'software', configurable: true });
}

describe.each(['software', 'hardware'] as const)('linear as on a %s adapter', (kind) => {
  beforeAll(() => as(kind));

  test.each(types)('%s: every shape is the float64 product to 5e-7 of the sum of |x w|', async (type) => {
    const random = new Random(types.indexOf(type) + 1);
    const runs: Run[] = [];
    for (const [rows, cols] of [
      [1, 32],
      [3, 96],
      [64, 576],
      [130, 320],
      [9, 2080],
    ]) {
      for (const n of [1, 2, 3, 5, 16, 17, 65]) if (rows * n < 2500) runs.push(drawRun(random, [draw(random, type, rows, cols)], n));
    }
    if (!isQuantized(type)) {
      for (const cols of [1, 3, 4, 5, 33, 36, 577, 132]) for (const n of [1, 6, 18]) runs.push(drawRun(random, [draw(random, type, 11, cols)], n));
    }
    console.log(`${type} ${kind}: at most ${(await check(backends, runs)).toExponential(1)} of the sum of |x w|`);
  });

  test.each(types)('%s: up to three matrices of one input in one dispatch, more in further ones', async (type) => {
    const random = new Random(31);
    const { gpu } = backends;
    for (const [rows, dispatches] of [
      [[192, 64, 64], 1],
      [[9, 1, 6], 1],
      [[65, 5], 1],
      [[4, 7, 66, 3, 12], 2],
    ] as const) {
      for (const n of [1, 20]) {
        const before = gpu.recorder.counts.dispatches;
        const matrices = rows.map((count) => draw(random, type, count, 192));
        await check(backends, [drawRun(random, matrices, n)]);
        expect(gpu.recorder.counts.dispatches - before).toBe(dispatches);
      }
    }
  });

  test('matrices of different types or widths, outputs in one buffer: a dispatch each', async () => {
    const random = new Random(32);
    const before = backends.gpu.recorder.counts.dispatches;
    await check(backends, [drawRun(random, [draw(random, 'q4', 9, 64), draw(random, 'q8', 9, 64), draw(random, 'f16', 5, 64)], 2)]);
    expect(backends.gpu.recorder.counts.dispatches - before).toBe(3);

    const bench = new Bench(backends.gpu);
    const w = draw(random, 'f32', 8, 4, { bias: false, accumulate: false });
    const weight = { buffer: bench.put(w.bytes).buffer, offset: 0, type: w.type, rows: 8, cols: 4 };
    const out = bench.room(64);
    const x = random.normals(4);
    const targets = [0, 32].map((offset) => ({ out: { buffer: out.buffer, offset }, weight }));
    bench.backend.linear(targets, bench.put(x), 1);
    const got = await bench.f32(out, 16);
    const { y } = exact({ matrices: [w], n: 1, x, before: [], shift: 0 }, 0);
    expectClose('outputs in one buffer', got, [...y, ...y], () => 1e-6);
    bench.close();
  });

  test.each(types)('%s: a matrix in several buffers', async (type) => {
    const random = new Random(33);
    const { gpu } = backends;
    const matrices = [draw(random, type, 40, 64), draw(random, type, 27, 64), draw(random, type, 12, 64)];
    const { bytes, offsets } = arena(matrices);
    const group = weightBytes(type, 4, 64);
    // Cut within the first, between two, and within the second twice.
    const cuts = [0, offsets[0] + 8 * group, offsets[1], offsets[1] + group, offsets[1] + 4 * group, bytes.length];
    const segments = cuts.slice(1).map((end, i) => {
      const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
      return { gpu: gpu.recorder.device.createBuffer({ size: end - cuts[i], usage }), start: cuts[i], bytes: end - cuts[i] };
    });
    const block = new GpuBlock(bytes.length, 'weights in pieces', segments);
    gpu.write(block, bytes);
    await check(
      backends,
      [1, 19].map((n) => drawRun(random, matrices, n)),
      () => block,
    );
    gpu.recorder.forget();
    for (const segment of segments) segment.gpu.destroy();
  });

  test.each(types)('%s: rows of x that begin anywhere', async (type) => {
    const random = new Random(34);
    await check(
      backends,
      [1, 2, 3, 4].flatMap((shift) => [1, 17].map((n) => drawRun(random, [draw(random, type, 6, 64)], n, shift))),
    );
  });

  test.each(types)('%s: zero rows and zero activations give exactly the bias', async (type) => {
    const random = new Random(35);
    for (const n of [1, 17]) {
      const drawn = drawRun(random, [draw(random, type, 6, 64, { bias: true, accumulate: false })], n);
      const [matrix] = drawn.matrices;
      const zeroX = { ...drawn, x: new Float32Array(n * 64) };
      const zeroW = { ...drawn, matrices: [{ ...matrix, bytes: pack(type, new Float32Array(6 * 64), 6, 64) }] };
      const bench = new Bench(backends.gpu);
      for (const got of await Promise.all([...record(bench, zeroX), ...record(bench, zeroW)])) {
        expect([...got]).toEqual(Array.from({ length: n * 6 }, (_, o) => matrix.bias![o % 6]));
      }
      bench.close();
    }
  });

  test.each(types)('%s: NaN and infinite activations never become numbers, and spoil no other token', async (type) => {
    const random = new Random(36);
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
      for (const n of [2, 18]) {
        const drawn = drawRun(random, [draw(random, type, 5, 64)], n);
        drawn.x[64 * (n - 1) + 40] = bad;
        const bench = new Bench(backends.gpu);
        const [got] = await Promise.all(record(bench, drawn));
        for (let o = 0; o < got.length; o++) expect(Number.isFinite(got[o])).toBe(o < (n - 1) * 5);
        bench.close();
      }
    }
  });

  test.each(types)('%s: as far from WASM as WASM is from float64, which rounds x where weights are quantised', async (type) => {
    const random = new Random(37);
    const off: Record<WeightType, number> = { f32: 1e-6, f16: 1e-6, bf16: 1e-6, q8: 7e-4, q4: 1e-3 }; // test/parity/linear.test.ts: rms error over rms result
    for (const n of [1, 6]) {
      const run = drawRun(random, [draw(random, type, 96, 576)], n);
      const [onGpu, onWasm] = [new Bench(backends.gpu), new Bench(backends.wasm)];
      const [[got], [want]] = await Promise.all([Promise.all(record(onGpu, run)), Promise.all(record(onWasm, run))]);
      const rms = (numbers: Float32Array): number => Math.sqrt(numbers.reduce((sum, number) => sum + number * number, 0));
      expect(rms(got.map((value, o) => value - want[o])) / rms(want)).toBeLessThan(off[type]);
      for (const bench of [onGpu, onWasm]) bench.close();
    }
  });

  test.each(types)('%s: the same bits every time', async (type) => {
    const random = new Random(38);
    const bench = new Bench(backends.gpu);
    for (const n of [1, 40]) {
      const run = drawRun(random, [draw(random, type, 70, 320), draw(random, type, 70, 320)], n);
      const [first, second] = [await Promise.all(record(bench, run)), await Promise.all(record(bench, run))];
      expect(second).toEqual(first);
    }
    bench.close();
  });
});

describe.each(['software', 'hardware'] as const)('the largest codes on a %s adapter', (kind) => {
  test('q8 and q4: exact to 1e-6, and nothing overflows', async () => {
    as(kind);
    const bench = new Bench(backends.gpu);
    const q8 = new Uint8Array((2048 / 32) * 136).fill(0x80); // q = -128
    const q4 = new Uint8Array((2048 / 32) * 80).fill(0xff); // q = 15
    for (let at = 0; at < q8.length; at += 136) new Uint16Array(q8.buffer, at, 4).fill(0x3c00); // scale 1
    for (let at = 0; at < q4.length; at += 80) new Uint16Array(q4.buffer, at, 8).set([0x3c00, 0x3c00, 0x3c00, 0x3c00, 0, 0, 0, 0]); // scale 1, min 0
    for (const [type, bytes, value] of [
      ['q8', q8, -128],
      ['q4', q4, 15],
    ] as const) {
      for (const n of [1, 17]) {
        const matrix = { type, rows: 4, cols: 2048, bytes, bias: null, accumulate: false };
        const [got] = await Promise.all(
          record(bench, { matrices: [matrix], n, shift: 0, x: new Float32Array(n * 2048).fill(-3), before: [new Float32Array(4 * n)] }),
        );
        for (const y of got) expect(Math.abs(y / (-3 * value * 2048) - 1)).toBeLessThan(1e-6);
      }
    }
    bench.close();
  });
});

/**
 * The variants, where the adapter has the feature. Dawn on lavapipe 25 has both, wgpu no subgroups, SwiftShader no f16: there the plain kernels, which all
 * tests above run, are all that there is, and the backend opened with everything must take those.
 */
describe('variants', () => {
  let all: Backends;
  beforeAll(async () => {
    all = await openBackends();
    Object.defineProperty(all.gpu, 'software', { value: false, configurable: true });
  });
  afterAll(() => all.gpu.close());

  test.each([
    ['q4', 'subgroups', [1, 4, 6], ['linear-q4.subgroups/decodeBySubgroups'], ['linear-q4/decode']],
    ['f16', 'shader-f16', [1, 5, 40], ['linear-f16.shader-f16/decode', 'linear-f16.shader-f16/prefill'], ['linear-f16/decode', 'linear-f16/prefill']],
  ] as const)('%s by %s: the float64 product, as by the plain kernel', async (type, feature, tokens, with_, without) => {
    const random = new Random(41);
    const ran = new Set<string>();
    const { recorder } = all.gpu;
    const dispatch = recorder.dispatch.bind(recorder);
    recorder.dispatch = (name, what) => {
      ran.add(`${name}/${what.entry}`);
      dispatch(name, what);
    };
    const shapes = [
      [[3, 32]],
      [
        [64, 576],
        [20, 576],
        [7, 576],
      ],
      [[9, 2080]],
    ];
    await check(
      all,
      shapes.flatMap((rows) =>
        tokens.map((n) =>
          drawRun(
            random,
            rows.map(([count, cols]) => draw(random, type, count, cols)),
            n,
          ),
        ),
      ),
    );
    recorder.dispatch = dispatch;
    expect([...ran].sort()).toEqual(all.gpu.features.has(feature) ? with_ : without);
    expect(all.gpu.buffers.live).toEqual([]);
  });
});
