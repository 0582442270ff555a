/**
 * Rows that a press adds to the prompt: what the forward pass reads them with, and where their keys and values wait until the press has done with
 * the prompt's own. Matrices of one layer lie on the device at a time, as f32, B times the scale.
 */
import type { AddedRows, LowRank, Projection } from '../../presses/contract.ts';
import { at, type Backend, type DeviceBuffer, readFloats, type View, type Weight } from '../backend/backend.ts';
import { Borrowed } from '../backend/borrowed.ts';

const F32 = 4;
/** What a device may want of a matrix's address. */
const ALIGNMENT = 256;

/** One layer's low-rank products, on the device. */
export interface Adapter {
  readonly products: Readonly<Partial<Record<Projection, { readonly a: Weight; readonly b: Weight }>>>;
  /** What A leaves of every row: [rows at once, the highest rank]. */
  readonly low: View;
}

interface Shape {
  readonly layers: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

export class AddedOnDevice {
  readonly rows: number;
  readonly embeddings: Float32Array; // [R, D]
  readonly #backend: Backend;
  readonly #shape: Shape;
  readonly #added: AddedRows;
  readonly #borrowed: Borrowed;
  readonly #kept: DeviceBuffer; // [2, L, R, H * d]: keys, then values
  readonly #matrices: DeviceBuffer;
  readonly #low: DeviceBuffer;

  constructor(backend: Backend, shape: Shape, added: AddedRows, chunkTokens: number) {
    this.rows = added.rows;
    this.embeddings = added.embeddings;
    this.#backend = backend;
    this.#shape = shape;
    this.#added = added;
    this.#borrowed = new Borrowed(backend);
    const sizes = bytesOf(added, shape, chunkTokens);
    try {
      this.#kept = this.#borrowed.scratch(sizes.kept, 'keys and values of added rows');
      this.#matrices = this.#borrowed.scratch(sizes.matrices, 'adapter of one layer');
      this.#low = this.#borrowed.scratch(sizes.low, 'adapted rows');
    } catch (error) {
      this.#borrowed.giveBack();
      throw error;
    }
  }

  /** Puts a layer's matrices where the last layer's were; null where the layer is as it was. */
  adapter(layer: number): Adapter | null {
    const adapted = this.#added.adapters[layer];
    if (adapted === undefined) return null;
    const products: Partial<Record<Projection, { a: Weight; b: Weight }>> = {};
    let bytes = 0;
    const put = (values: Float32Array, rows: number, cols: number): Weight => {
      const view = at(this.#matrices, bytes);
      this.#backend.write(view, values);
      bytes += aligned(values.byteLength);
      return { ...view, type: 'f32', rows, cols };
    };
    for (const [projection, { rank, a, b }] of Object.entries(adapted) as [Projection, LowRank][]) {
      const scaled = b.map((value) => value * this.#added.scale);
      products[projection] = { a: put(a, rank, a.length / rank), b: put(scaled, b.length / rank, rank) };
    }
    return { products, low: this.#low };
  }

  /** k, v: the rows' own, [R, H, d]. */
  keep(layer: number, k: View, v: View): void {
    const bytes = this.#rowBytes;
    this.#backend.copy(at(this.#kept, layer * bytes), k, bytes);
    this.#backend.copy(at(this.#kept, (this.#shape.layers + layer) * bytes), v, bytes);
  }

  /** Whether all that was kept are numbers: f32 ends at 3.4e38, and one that is none would spoil every answer. */
  async areNumbers(): Promise<boolean> {
    const values = await readFloats(this.#backend, at(this.#kept, 0), (2 * this.#shape.layers * this.#rowBytes) / F32);
    return values.every(Number.isFinite);
  }

  /** Hands over what was kept, [R, H, d] a layer. */
  each(take: (layer: number, k: View, v: View) => void): void {
    const { layers } = this.#shape;
    for (let layer = 0; layer < layers; layer++) {
      const k = at(this.#kept, layer * this.#rowBytes);
      take(layer, k, at(k, layers * this.#rowBytes));
    }
  }

  close(): void {
    this.#borrowed.giveBack();
  }

  get #rowBytes(): number {
    return this.rows * this.#shape.kvHeads * this.#shape.headDim * F32;
  }
}

/** Device bytes of an AddedOnDevice. */
export function addedBytes(added: AddedRows, shape: Shape, chunkTokens: number): number {
  const { kept, matrices, low } = bytesOf(added, shape, chunkTokens);
  return kept + matrices + low + 3 * 64; // blocks are of whole 64 bytes
}

/** Every matrix that is put on the device, as it will lie there; but for the address. */
export function adapterWeights({ adapters }: AddedRows): Pick<Weight, 'type' | 'rows' | 'cols'>[] {
  return lowRanks(adapters).flatMap(({ rank, a, b }) => [
    { type: 'f32' as const, rows: rank, cols: a.length / rank },
    { type: 'f32' as const, rows: b.length / rank, cols: rank },
  ]);
}

function bytesOf(
  { rows, adapters }: AddedRows,
  { layers, kvHeads, headDim }: Shape,
  chunkTokens: number,
): { kept: number; matrices: number; low: number } {
  const layerBytes = (layer: AddedRows['adapters'][number]): number =>
    lowRanks([layer]).reduce((sum, { a, b }) => sum + aligned(a.byteLength) + aligned(b.byteLength), 0);
  const rank = lowRanks(adapters).reduce((most, one) => Math.max(most, one.rank), 1);
  return {
    kept: 2 * layers * rows * kvHeads * headDim * F32,
    matrices: adapters.reduce((most, layer) => Math.max(most, layerBytes(layer)), F32),
    low: Math.min(rows, chunkTokens) * rank * F32,
  };
}

/** Layers that are as they were have none; an array with holes is no matter. */
function lowRanks(adapters: AddedRows['adapters']): LowRank[] {
  return adapters.flatMap((layer) => Object.values(layer ?? {}));
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}
