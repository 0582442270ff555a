/**
 * The hidden states of a whole prompt while it is read, [rows, D]: f32, or f16 in half the memory. Compute is f32 either way: as f16 a piece is widened into a buffer of its
 * own, worked on there and rounded again, once a layer: to nearest, off by at most 2^-11 of each number; beyond +-65504 that.
 */
import { at, type Backend, type DeviceBuffer, type View } from '../backend/backend.ts';
import type { Borrowed } from '../backend/borrowed.ts';

export const hiddenTypes = ['f32', 'f16'] as const;
export type HiddenType = (typeof hiddenTypes)[number];

const F32 = 4;
const BYTES: Readonly<Record<HiddenType, number>> = { f32: F32, f16: 2 };

/** Device bytes of so many rows in all, worked on in pieces. */
export function hiddenRowsBytes(type: HiddenType, rows: number, hiddenSize: number, pieceRows: number): number {
  return hiddenSize * (rows * BYTES[type] + (type === 'f32' || rows === 0 ? 0 : Math.min(rows, pieceRows) * F32));
}

export class HiddenRows {
  readonly #backend: Backend;
  readonly #type: HiddenType;
  readonly #hiddenSize: number;
  readonly #rows: DeviceBuffer;
  /** [pieceRows, D] f32; null where the rows are. */
  readonly #piece: DeviceBuffer | null;

  constructor(backend: Backend, borrowed: Borrowed, type: HiddenType, rows: number, hiddenSize: number, pieceRows: number, label: string) {
    this.#backend = backend;
    this.#type = type;
    this.#hiddenSize = hiddenSize;
    this.#rows = borrowed.scratch(Math.max(rows * BYTES[type] * hiddenSize, F32), label);
    this.#piece = type === 'f32' ? null : borrowed.scratch(Math.max(Math.min(rows, pieceRows) * F32 * hiddenSize, F32), `${label}, a piece`);
  }

  /** Where rows start..start+n-1 are to be written as f32; `keep` follows within the same piece of work. n is at most a piece. */
  blank(start: number): View {
    return this.#piece ?? this.#at(start);
  }

  /** Rows start..start+n-1 as f32, to be read, and changed where `keep` follows, until the next call of either. */
  open(start: number, n: number): View {
    if (this.#piece === null) return this.#at(start);
    this.#backend.widen(this.#piece, this.#at(start), n * this.#hiddenSize);
    return this.#piece;
  }

  /** What was done to the rows that were opened stays. */
  keep(start: number, n: number): void {
    if (this.#piece) this.#backend.halve(this.#at(start), this.#piece, n * this.#hiddenSize);
  }

  #at(start: number): View {
    return at(this.#rows, start * this.#hiddenSize * BYTES[this.#type]);
  }
}
