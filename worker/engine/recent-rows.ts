/**
 * The last rows of something that every layer makes of every token, its queries for one: a ring of `size` rows per layer. What presses look at that act
 * while decoding. The forward pass computes a single token's row right where it belongs, so that keeping it costs nothing.
 */
import { at, type Backend, type DeviceBuffer, readFloats, type View } from '../backend/backend.ts';
import { GivenUp } from './given-up.ts';

const F32 = 4;

export class RecentRows {
  readonly size: number;
  readonly bytes: number;
  readonly #backend: Backend;
  readonly #rowBytes: number;
  readonly #ring: DeviceBuffer; // [L, size, floats] f32: the row of token t in slot t % size
  #seen = 0; // tokens whose rows were put here
  #closed = false;

  static bytes(layers: number, size: number, floats: number): number {
    return layers * size * floats * F32;
  }

  constructor(backend: Backend, layers: number, size: number, floats: number, label: string) {
    this.#backend = backend;
    this.size = size;
    this.#rowBytes = floats * F32;
    this.bytes = RecentRows.bytes(layers, size, floats);
    this.#ring = backend.alloc(this.bytes, label);
  }

  /** Goes on from the same rows as another of its size. */
  goOn(from: RecentRows): void {
    this.#backend.copy(this.#slot(0, 0), from.#slot(0, 0), this.bytes);
    this.#seen = from.#seen;
  }

  /** The rows of a layer that are there, oldest first, on the host. */
  async kept(layer: number): Promise<Float32Array> {
    const oldest = this.#seen - this.held;
    const floats = this.#rowBytes / F32;
    const rows = await Promise.all(Array.from({ length: this.held }, (_, i) => readFloats(this.#backend, this.#slot(layer, oldest + i), floats)));
    const all = new Float32Array(rows.length * floats);
    for (const [i, row] of rows.entries()) all.set(row, i * floats);
    return all;
  }

  /** Goes on as one does that has seen so many tokens, of which it kept these rows of every layer. */
  restore(seen: number, layers: readonly Float32Array[]): void {
    this.#seen = seen;
    const floats = this.#rowBytes / F32;
    for (const [layer, rows] of layers.entries())
      for (let i = 0; i < this.held; i++) this.#backend.write(this.#slot(layer, seen - this.held + i), rows.subarray(i * floats, (i + 1) * floats));
  }

  /** Rows of a layer that are there. */
  get held(): number {
    return Math.min(this.size, this.#seen);
  }

  /** Where the next token's row goes. */
  next(layer: number): View {
    return this.#slot(layer, this.#seen);
  }

  /** The last rows of the next `count` tokens: as many of them as `rows` [n, floats] has, the last n. */
  put(layer: number, rows: View, n: number, count: number): void {
    const kept = Math.min(n, this.size);
    for (let i = n - kept; i < n; ) {
      const token = this.#seen + count - n + i;
      const run = Math.min(n - i, this.size - (token % this.size)); // up to the ring's end
      this.#backend.copy(this.#slot(layer, token), at(rows, i * this.#rowBytes), run * this.#rowBytes);
      i += run;
    }
  }

  /** All layers have the rows of the next `count` tokens. */
  advance(count: number): void {
    this.#seen += count;
  }

  /** The last `count` rows of a layer, oldest first, to `out` [count, floats]. */
  read(out: View, layer: number, count: number): void {
    for (let i = 0; i < count; ) {
      const token = this.#seen - count + i;
      const run = Math.min(count - i, this.size - (token % this.size));
      this.#backend.copy(at(out, i * this.#rowBytes), this.#slot(layer, token), run * this.#rowBytes);
      i += run;
    }
  }

  close(): void {
    if (!this.#closed) this.#backend.free(this.#ring);
    this.#closed = true;
  }

  #slot(layer: number, token: number): View {
    if (this.#closed) throw new GivenUp('the last rows are gone: their request was given up');
    return at(this.#ring, (layer * this.size + (token % this.size)) * this.#rowBytes);
  }
}
