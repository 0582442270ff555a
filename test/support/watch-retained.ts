/** What a press leaves: of a prompt, and while decoding compression after compression. */
import { vi } from 'vitest';
import { KvSequence } from '../../worker/engine/kv-cache.ts';

/** [layer][head] positions, ascending. */
export type Left = number[][][];

export interface Retained {
  /** After each compression that removed something. */
  readonly seen: Left[];
  stop(): void;
}

/** From now on, of whichever sequence is compressed. */
export function watchRetained(layers: number): Retained {
  const seen: Left[] = [];
  let before = layers; // the layer that was compressed before
  const { retain } = KvSequence.prototype;
  const spy = vi.spyOn(KvSequence.prototype, 'retain').mockImplementation(function (this: KvSequence, layer, kept) {
    const stand = retain.call(this, layer, kept);
    if (layer <= before) seen.push(Array.from({ length: layers }, () => []));
    before = layer;
    seen.at(-1)![layer] = kept.map((_, head) => [...this.positions(layer, head)].sort((a, b) => a - b));
    return stand;
  });
  return { seen, stop: () => spy.mockRestore() };
}

/** From now on, of every prompt that is read, what its press kept: as `entries` has it once the prompt's end is known. Presses on the prompt alone. */
export function watchKept(layers: number, heads: number): { readonly seen: Left[]; stop(): void } {
  const seen: Left[] = [];
  const { shrinkReservation } = KvSequence.prototype;
  const spy = vi.spyOn(KvSequence.prototype, 'shrinkReservation').mockImplementation(function (this: KvSequence, pages) {
    shrinkReservation.call(this, pages);
    const list = (length: number) => Array.from({ length }, (_, i) => i);
    seen.push(list(layers).map((layer) => list(heads).map((head) => [...this.positions(layer, head)].sort((a, b) => a - b))));
  });
  return { seen, stop: () => spy.mockRestore() };
}
