/** Presses while decoding against the real kvpress, under compat "kvpress": what every compression leaves, and the tokens (test/golden/README.md). */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parsePress } from '../presses/config.ts';
import type { EdgeEngine } from '../worker/engine/engine.ts';
import type { KvSequence } from '../worker/engine/kv-cache.ts';
import { golden, greedy, openGolden } from './support/golden.ts';
import { DECODING, type Library, PENDING, unpack } from './support/golden-library.ts';
import { configOf } from './support/golden-library-suite.ts';
import { type Choose, watchRetained } from './support/watch-retained.ts';

/** Keys of one token have one norm wherever they stand: in the lowest layer nearly all are ties, which are settled as kvpress did. */
const BY_NORM = ['decoding_knorm', 'decoding_ratio_knorm', 'prefill_decoding'];
/**
 * Which compressions say the same, where not all do: kvpress reads its cache in the order of the last scores ever after. It leaves that open among
 * equal scores, as all sinks and recent tokens have; and SnapKV pools over neighbours in it, so that two scores closer than f32 sums can tell
 * (3e-6 of each other, in layer 0 of llama) make other neighbours, and then other scores.
 */
const COMPARABLE: Record<string, number> = { decoding_streaming_llm: 1, 'llama decoding_snapkv': 2 };
/** Relative, of two norms: torch sums in another order. */
const TIE = 1e-5;

describe.each(['needle', 'qwen3', 'llama'])('%s', (model) => {
  const library = golden<Library>(`library/${model}.json`);
  const [L, H] = library.shape;
  let engine: EdgeEngine;
  beforeAll(async () => {
    engine = await openGolden(model, { artifacts: `test/golden/library/artifacts/${model}` });
  });
  afterAll(() => engine.close());

  /** Keeps what `wanted` has, compression after compression; what was chosen otherwise must be as good. Resolves once that is checked. */
  function settled(wanted: readonly number[][][][]): { choose: Choose; checked(): Promise<void> } {
    const checks: Promise<void>[] = [];
    let at = 0;
    const norms = async (sequence: KvSequence, layer: number, head: number, entries: number[]): Promise<Map<number, number>> => {
      const d = sequence.layer(layer).pageBytes / 128; // worker/engine/kv-cache.ts
      const [k, v] = [0, 0].map(() => engine.backend.alloc(entries.length * d * 4, 'rows'));
      sequence.read(layer, head, [Uint32Array.from(entries)], k, v);
      const bytes = engine.backend.read(k, entries.length * d * 4);
      for (const buffer of [k, v]) engine.backend.free(buffer);
      const rows = new Float32Array((await bytes).slice().buffer);
      return new Map(entries.map((entry, i) => [entry, Math.hypot(...rows.subarray(i * d, (i + 1) * d))]));
    };
    const choose: Choose = (sequence, layer, kept) => {
      const theirs = kept.map((ours, head) => {
        const positions = sequence.positions(layer, head);
        const entries = wanted[at][layer][head].map((position) => positions.indexOf(position));
        expect(entries, 'what kvpress keeps is there').not.toContain(-1);
        expect(entries.length).toBe(ours.length);
        const [we, they] = [[...ours].filter((entry) => !entries.includes(entry)), entries.filter((entry) => !ours.includes(entry))];
        if (we.length > 0)
          checks.push(
            norms(sequence, layer, head, [...we, ...they]).then((norm) => {
              const [a, b] = [we, they].map((list) => list.map((entry) => norm.get(entry)!).sort((x, y) => x - y));
              for (const [i, x] of a.entries()) expect(Math.abs(x - b[i]) / x, `layer ${layer}, head ${head}`).toBeLessThan(TIE);
            }),
          );
        return Uint32Array.from(entries);
      });
      if (layer === L - 1) at++;
      return theirs;
    };
    return {
      choose,
      async checked() {
        await Promise.all(checks);
        expect(at).toBe(wanted.length);
      },
    };
  }

  test.each(Object.keys(DECODING).filter((name) => !PENDING.includes(name)))('%s: keeps and continues as kvpress does', async (name) => {
    const run = library.decoding[name];
    const { context_ids, suffix_ids } = library;
    const wanted = run.compressions.map(({ tokens, kept }) => unpack(kept, library.shape, tokens));
    const request = { ...parsePress(configOf(name, library, null)), scope: { protect_last: suffix_ids.length } };
    const settle = BY_NORM.includes(name) ? settled(wanted) : null;
    const watch = watchRetained(L, settle?.choose);
    const ids: number[] = [];
    const prompt = { kind: 'tokens' as const, tokens: [...context_ids, ...suffix_ids] };
    const sampling = { ...greedy, maxTokens: run.generated.length, ignoreEos: true };
    try {
      for await (const event of engine.generate({ prompt, press: request, sampling })) if (event.type === 'text') ids.push(...event.tokenIds);
    } finally {
      watch.stop();
    }
    await settle?.checked();
    expect(watch.seen.length).toBe(wanted.length);
    const first = COMPARABLE[name] ?? COMPARABLE[`${model} ${name}`] ?? wanted.length;
    const last = first < wanted.length ? run.compressions[first].tokens - context_ids.length - suffix_ids.length : Infinity;
    expect(watch.seen.slice(0, first)).toEqual(wanted.slice(0, first));
    expect(watch.seen.every((left) => left.every((heads) => heads.length === H))).toBe(true);
    const differs = ids.findIndex((id, i) => id !== run.generated[i] && i <= last);
    if (differs >= 0) expect(run.margins[differs], `token ${differs} is ${ids[differs]}, not ${run.generated[differs]}`).toBeLessThan(0.02);
  });
});
