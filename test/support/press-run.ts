/** Runs a press over made-up layers, without a model: what it keeps, what it reports, how much it held at once. */
import { checkPress, type PressSize } from '../../presses/check-press.ts';
import { Compressor } from '../../presses/compressor.ts';
import { parsePress } from '../../presses/config.ts';
import type { KeptRows, KeptStore, LayerTensors, PressReport, PressRequest, Scorer } from '../../presses/contract.ts';
import { noParams } from '../../presses/params.ts';
import { type AttentionShape, at, type Backend, type DeviceBuffer, type MassMap, type Protected, type View } from '../../worker/backend/backend.ts';
import { ropeTable } from '../../worker/backend/rope-table.ts';
import { artifactsOf } from './artifacts.ts';
import { passLengths, runPasses } from './pass-run.ts';
import type { PressRuntime } from './press-runtimes.ts';
import { Random } from './random.ts';

/** Kept positions by layer and head, in rank order. Checks that lists only shrink, and that truncation is the only way they do. */
export class PositionStore implements KeptStore {
  readonly lists = new Map<string, number[]>();
  readonly scores = new Map<string, Float32Array>();
  heldMost = 0; // entries over all lists
  readonly #backend: Backend;
  readonly #withRows: boolean;
  readonly #rows = new Map<string, { k: Float32Array; v: Float32Array }>();
  constructor(backend: Backend, withRows = false) {
    this.#backend = backend;
    this.#withRows = withRows;
  }
  rowsOf(layer: number, head: number, d: number): { k: Float32Array; v: Float32Array } {
    const length = (this.lists.get(`${layer}.${head}`)?.length ?? 0) * d; // lists may have been truncated since
    const { k, v } = this.#rows.get(`${layer}.${head}`) ?? { k: new Float32Array(), v: new Float32Array() };
    return { k: k.subarray(0, length), v: v.subarray(0, length) };
  }
  get held(): number {
    return [...this.lists.values()].reduce((sum, list) => sum + list.length, 0);
  }
  /** The device's order and the host's must say the same. */
  async keep({ layer, n, k, v, shape }: LayerTensors, { order, counts, host }: KeptRows): Promise<void> {
    const stored = counts.map((count, head) => this.#backend.read(at(order.rows, head * order.stride * 4), count * 4)); // now: the order is gone later
    const whole = this.#withRows ? [k, v].map((view) => this.#backend.read(view, n * shape.kvHeads * shape.headDim * 4)) : [];
    const { ranks, scores } = await host;
    for (const [head, bytes] of (await Promise.all(stored)).entries()) {
      const name = `${layer}.${head}`;
      if (this.lists.has(name)) throw new Error(`list ${name} is kept twice`);
      const list = [...new Uint32Array(bytes.slice().buffer)];
      if (list.some((row, i) => row !== ranks[head][i])) throw new Error(`list ${name}: the ledger is told other rows than the device stores`);
      this.scores.set(name, scores[head].slice());
      this.lists.set(name, list);
    }
    const [keys, values] = (await Promise.all(whole)).map((bytes) => new Float32Array(bytes.slice().buffer));
    if (keys === undefined) return this.#noteMost();
    const { kvHeads: H, headDim: d } = shape;
    for (const [head] of counts.entries()) {
      const list = this.lists.get(`${layer}.${head}`)!;
      const of = (x: Float32Array): Float32Array =>
        Float32Array.from(list.flatMap((row) => [...x.subarray((row * H + head) * d, (row * H + head + 1) * d)]));
      this.#rows.set(`${layer}.${head}`, { k: of(keys), v: of(values) });
    }
    this.#noteMost();
  }
  #noteMost(): void {
    this.heldMost = Math.max(this.heldMost, this.held);
  }
  truncate(layer: number, head: number, count: number): void {
    const list = this.lists.get(`${layer}.${head}`);
    if (list === undefined || count > list.length) throw new Error(`list ${layer}.${head} cannot grow to ${count}`);
    list.length = count;
  }
}

/** One layer's numbers: keys and values [n, H, d], the last queries [window, Hq, d] of the longest window asked for. */
export interface LayerNumbers {
  readonly k: Float32Array;
  readonly v?: Float32Array;
  readonly q?: Float32Array;
  /** W_o [Hq d, Hq d]; without it some at random, the same in every run. */
  readonly output?: Float32Array;
  /** [n, D]; random where a part reads it and none is given. */
  readonly hidden?: Float32Array;
  /** [n] cosines of hidden states before and after attention. */
  readonly change?: Float32Array;
}

export interface PressRun {
  readonly report: PressReport;
  readonly kept: number[][][]; // [layer][head] positions, best first
  readonly scores: Float32Array[][]; // [layer][head] as handed to the store
  readonly heldMost: number;
  /** [layer][head] keys and values as they were stored, [kept, d] each, best first; empty unless `rows` asked for them. */
  readonly rows: { k: Float32Array; v: Float32Array }[][];
}

export async function runPress(
  runtime: PressRuntime,
  press: unknown,
  n: number,
  shape: AttentionShape,
  layers: readonly LayerNumbers[],
  options: { massWindow?: number; size?: Partial<PressSize>; rows?: boolean } = {},
): Promise<PressRun> {
  const { backend, math } = runtime;
  const request = isRequest(press) ? press : parsePress(press);
  const { hiddenSize } = noModel(shape).model;
  const artifact =
    options.size?.artifact ?? (await artifactsOf(request, { ...shape, layers: layers.length, hiddenSize, intermediateSize: hiddenSize }));
  const checked = checkPress(request, { tokens: n, layers: layers.length, kvHeads: shape.kvHeads, math, artifact, ...options.size });
  const store = new PositionStore(backend, options.rows);
  const compressor = new Compressor({ backend, checked, store, massWindow: options.massWindow });
  const window = compressor.reads.queries;
  const table = ropeTable(noModel(shape).model.invFreq, 0, n);
  const passes = passLengths(request, n);
  for (const [layer, numbers] of layers.entries()) {
    const row = shape.queryHeads * shape.headDim;
    const queries = numbers.q ?? new Float32Array(window * row);
    const tail = queries.subarray(queries.length - window * row); // the last of them
    const output = numbers.output ?? new Random(2000 + layer).normals(row * row, 0.1);
    const input = compressor.reads.hidden ? (numbers.hidden ?? new Random(100 + layer).normals(n * hiddenSize)) : new Float32Array();
    const cosines = compressor.reads.change ? (numbers.change ?? new Float32Array(n).fill(0.9 + layer / 100)) : new Float32Array();
    const blocks = [numbers.k, numbers.v ?? numbers.k, tail, output, table, input, cosines].map((data, i) => {
      const block = backend.alloc(Math.max(4, data.byteLength), `layer ${layer} ${'kvqorxc'[i]}`);
      backend.write(block, data);
      return block;
    });
    const [k, v, q, weights, rope, x, change] = blocks;
    const { model } = noModel(shape);
    try {
      runPasses(compressor, backend, passes, { layer, n, k: numbers.k, v: numbers.v ?? numbers.k, shape });
      await compressor.layer({
        layer,
        n,
        k,
        v,
        q,
        window,
        shape,
        hidden: compressor.reads.hidden ? x : null,
        change: compressor.reads.change ? { cosines: change, tokens: n } : null,
        rope,
        model: { ...model, output: { ...model.output, ...viewOf(weights) } },
      });
    } finally {
      for (const block of blocks) backend.free(block);
    }
  }
  const report = await compressor.finish();
  compressor.close();
  const heads = Array.from({ length: shape.kvHeads }, (_, h) => h);
  return {
    report,
    kept: layers.map((_, l) => heads.map((h) => store.lists.get(`${l}.${h}`) as number[])),
    scores: layers.map((_, l) => heads.map((h) => store.scores.get(`${l}.${h}`) as Float32Array)),
    heldMost: store.heldMost,
    rows: layers.map((_, l) => heads.map((h) => store.rowsOf(l, h, shape.headDim))),
  };
}

/** Of layers that are random numbers: no hidden states, no weights, no rotary table. */
export function noModel({ queryHeads, headDim: d }: AttentionShape): Pick<LayerTensors, 'hidden' | 'rope' | 'model'> {
  const nothing = { buffer: { bytes: 0, label: 'no weights', offset: 0 } as DeviceBuffer, offset: 0 };
  const invFreq = Float32Array.from({ length: d / 2 }, (_, c) => 10000 ** ((-2 * c) / d));
  return {
    hidden: null,
    rope: nothing,
    model: { hiddenSize: queryHeads * d, invFreq, output: { ...nothing, type: 'f32', rows: queryHeads * d, cols: queryHeads * d } },
  };
}

function viewOf(buffer: DeviceBuffer): View {
  return { buffer, offset: 0 };
}

function isRequest(press: unknown): press is PressRequest {
  return typeof press === 'object' && press !== null && 'presses' in press;
}

/** A scorer whose scores are written down: scores[layer] is [H, n]. */
export function givenScores(scores: readonly Float32Array[], keep: Protected = { first: 0, last: 0 }, massMap: MassMap | null = 'identity'): Scorer {
  return {
    name: 'given',
    summary: '',
    paper: null,
    formula: '',
    needs: '',
    params: noParams,
    comparable: true,
    massMap,
    protectedBy: null,
    queries: () => 0,
    protect: () => keep,
    score({ backend, scratch, layer }) {
      const block = scratch(scores[layer].byteLength, 'given scores');
      backend.write(at(block, 0), scores[layer]);
      return block;
    },
  };
}

/** The press of `json` with another scorer in it. */
export function withScorer(json: Record<string, unknown>, scorer: Scorer): PressRequest {
  const request = parsePress({ scorer: 'snapkv', ...json });
  return { ...request, presses: request.presses.map((press) => ({ ...press, scorer: { part: scorer, params: {} } })) };
}

export function shapeOf(queryHeads: number, kvHeads: number, headDim: number): AttentionShape {
  return { queryHeads, kvHeads, headDim, scale: 1 / Math.sqrt(headDim), slidingWindow: 0 };
}

/** Layers without meaning, for scorers that do not look at them. */
export function blankLayers(layers: number, n: number, shape: AttentionShape): LayerNumbers[] {
  return Array.from({ length: layers }, () => ({ k: new Float32Array(n * shape.kvHeads * shape.headDim).fill(1) }));
}

/** Layers of normal numbers; `sharpness` of layer l scales its keys, so that attention is concentrated differently. */
export function randomLayers(
  random: Random,
  layers: number,
  n: number,
  shape: AttentionShape,
  sharpness: (layer: number) => number = () => 1,
): LayerNumbers[] {
  return Array.from({ length: layers }, (_, l) => ({
    k: random.normals(n * shape.kvHeads * shape.headDim, sharpness(l)),
    v: random.normals(n * shape.kvHeads * shape.headDim),
    q: allQueries(random, l, n, shape.queryHeads * shape.headDim),
  }));
}

/** Of all tokens, for some scorers read them. Those before the last 64 have numbers of their own: tests without them draw the same layers. */
function allQueries(random: Random, layer: number, n: number, row: number): Float32Array {
  const last = random.normals(Math.min(n, 64) * row);
  const queries = new Random(1000 + layer).normals(n * row);
  queries.set(last, queries.length - last.length);
  return queries;
}
