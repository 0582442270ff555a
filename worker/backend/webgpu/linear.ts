/** Linear layers and the embedding on the device. */
import { at, type LinearTarget, type View, type Weight, type WeightType } from '../backend.ts';
import { weightBytes } from '../layout/records.ts';
import type { GpuBlock, Segment } from './buffers.ts';
import { type Gpu, withScratch } from './gpu.ts';
import type { ShaderName } from './pipelines.ts';
import { segmentAt } from './places.ts';
import { fold } from './recorder.ts';

/** Rows of a matrix that lie in one piece of its buffer. Matrices are cut between groups of four rows. */
interface RowRun {
  readonly weight: Weight;
  readonly segment: Segment;
  readonly first: number;
  readonly rows: number;
  readonly start: View; // of row `first`
}

const GROUP = 4;
/** Of what a shader reads at once. */
const ELEMENT_BYTES: Readonly<Record<WeightType, number>> = { f32: 16, f16: 8, bf16: 8, q8: 8, q4: 16 };

function runsOf(weight: Weight): RowRun[] {
  const { type, rows, cols, offset } = weight;
  const { segments } = weight.buffer as GpuBlock;
  const groupBytes = weightBytes(type, GROUP, cols);
  const runs: RowRun[] = [];
  for (let first = 0; first < rows; ) {
    const start = { buffer: weight.buffer, offset: offset + (first / GROUP) * groupBytes };
    const segment = segments[segmentAt(weight.buffer as GpuBlock, start.offset)];
    const within = start.offset - segment.start;
    const bytes = segment.bytes - within;
    const count = bytes >= weightBytes(type, rows - first, cols) ? rows - first : Math.floor(bytes / groupBytes) * GROUP;
    if (count === 0) throw new Error(`${weight.buffer.label} is cut within four rows of a ${type} matrix`);
    if (within % ELEMENT_BYTES[type] !== 0)
      throw new Error(`${weight.buffer.label}: ${type} rows begin ${within} bytes into a piece, a multiple of ${ELEMENT_BYTES[type]} is expected`);
    runs.push({ weight, segment, first, rows: count, start });
    first += count;
  }
  return runs;
}

interface TargetRun extends RowRun {
  readonly target: LinearTarget;
  readonly out: Segment;
}

/** A shader takes so many matrices at once: one type, one width, all in the same piece of a buffer, each with an output of its own. */
const MOST_MATRICES = 3;

function* batches(targets: readonly LinearTarget[]): Generator<TargetRun[]> {
  let batch: TargetRun[] = [];
  for (const target of targets) {
    const block = target.out.buffer as GpuBlock;
    const out = block.segments[segmentAt(block, target.out.offset)];
    for (const run of runsOf(target.weight)) {
      const fits = ({ weight, segment, out: other }: TargetRun) =>
        weight.type === run.weight.type && weight.cols === run.weight.cols && segment === run.segment && out !== other;
      if (batch.length === MOST_MATRICES || !batch.every(fits)) {
        yield batch;
        batch = [];
      }
      batch.push({ ...run, target, out });
    }
  }
  if (batch.length > 0) yield batch;
}

/**
 * `decode` reads W once for 4 tokens: four times for so many, three of them from a cache. `prefill` would leave 3/4 of its tiles of 64 tokens empty, in
 * 1/8 as many workgroups; on lavapipe it has 2.7 GOPS at 32 tokens where `decode` has 4.0 at 16 (q4, 576 x 576). Not measured on a GPU.
 */
const DECODE_MOST = 16;

interface Way {
  readonly entry: 'decode' | 'prefill' | 'alone' | 'ragged';
  readonly height: number; // rows of a workgroup
  readonly tokens: number; // of a workgroup
}

function wayOf({ software }: Gpu, cols: number, n: number): Way {
  if (cols % 4 !== 0) return { entry: 'ragged', height: 64, tokens: 1 };
  // Against prefill on lavapipe with 128 tokens: 10 to 20% faster for q4, the same for q8, 1.4 times slower for f16 and f32, and half the time to compile.
  if (software) return { entry: 'alone', height: 64, tokens: 4 };
  return n <= DECODE_MOST ? { entry: 'decode', height: 8, tokens: 4 } : { entry: 'prefill', height: 64, tokens: 64 };
}

const SHADERS: Readonly<Record<WeightType, ShaderName>> = {
  f32: 'linear-f32',
  f16: 'linear-f16',
  bf16: 'linear-f16',
  q8: 'linear-q8',
  q4: 'linear-q4',
};

/** The shader and its entry: where the device has what it takes, a variant. `alone` has none. */
function kernelOf({ features }: Gpu, type: WeightType, entry: Way['entry']): { name: ShaderName; entry: string } {
  if (type === 'q4' && entry === 'decode' && features.has('subgroups')) return { name: 'linear-q4.subgroups', entry: 'decodeBySubgroups' };
  if (type === 'f16' && (entry === 'decode' || entry === 'prefill') && features.has('shader-f16')) return { name: 'linear-f16.shader-f16', entry };
  return { name: SHADERS[type], entry };
}

export function linear(gpu: Gpu, targets: readonly LinearTarget[], x: View, n: number): void {
  if (n === 0) return;
  for (const batch of batches(targets)) multiply(gpu, batch, x, n);
}

function multiply(gpu: Gpu, batch: readonly TargetRun[], x: View, n: number): void {
  const [{ weight, segment }] = batch;
  const { type, cols } = weight;
  const { entry, height, tokens } = wayOf(gpu, cols, n);
  const block = x.buffer as GpuBlock;
  if (entry !== 'ragged' && (x.offset - block.segments[segmentAt(block, x.offset)].start) % 16 !== 0) {
    const bytes = n * cols * 4;
    withScratch(gpu, bytes, 'aligned rows', (aligned) => {
      gpu.recorder.copy(aligned, x, bytes);
      multiply(gpu, batch, aligned, n);
    });
    return;
  }
  const each = <T>(value: (run: TargetRun) => T): (T | undefined)[] => Array.from({ length: MOST_MATRICES }, (_, i) => batch[i] && value(batch[i]));
  const [bias0 = null, bias1 = null, bias2 = null] = each(({ target, first }) => target.bias && at(target.bias, first * 4));
  const [out0 = null, out1 = null, out2 = null] = each(({ target, first }) => at(target.out, first * 4));
  const [, w1At = 0, w2At = 0] = each(({ start }) => (start.offset - segment.start) / 4);
  const [rows0 = 0, rows1 = 0, rows2 = 0] = each(({ rows }) => rows);
  const [stride0 = 0, stride1 = 0, stride2 = 0] = each((run) => run.weight.rows);
  const bits = (is: (target: LinearTarget) => boolean) => batch.reduce((sum, { target }, i) => sum + (is(target) ? 1 << i : 0), 0);
  const perRow = entry === 'alone' || entry === 'ragged';
  const groups = perRow ? Math.ceil((rows0 + rows1 + rows2) / height) : batch.reduce((sum, { rows }) => sum + Math.ceil(rows / height), 0);
  const [across, down] = fold(groups);
  const kernel = kernelOf(gpu, type, entry);
  gpu.recorder.dispatch(kernel.name, {
    entry: kernel.entry,
    views: { w: batch[0].start, x, bias0, bias1, bias2, out0, out1, out2 },
    dims: {
      ...{ w1At, w2At, rows0, rows1, rows2, stride0, stride1, stride2, cols, n },
      biased: bits(({ bias }) => Boolean(bias)),
      accumulate: bits(({ accumulate }) => accumulate === true),
      bf16: Number(type === 'bf16'),
    },
    grid: [across, down, Math.ceil(n / tokens)],
  });
}

/** As embed.wgsl numbers them. */
const KINDS: Readonly<Record<WeightType, number>> = { f32: 0, f16: 1, bf16: 2, q8: 3, q4: 4 };

export function embed(gpu: Gpu, out: View, table: Weight, tokens: View, n: number): void {
  const { type, cols } = table;
  for (const { start, first, rows } of runsOf(table)) {
    gpu.recorder.dispatch('embed', {
      views: { table: start, tokens, out },
      dims: { kind: KINDS[type], firstRow: first, rows, cols, n },
      grid: fold(Math.ceil((n * cols) / 256)),
    });
  }
}
