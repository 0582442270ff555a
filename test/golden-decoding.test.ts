/** Presses while decoding against the real kvpress, under compat "kvpress": what every compression leaves, and the tokens (test/golden/README.md). */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parsePress } from '../presses/config.ts';
import type { Press } from '../presses/contract.ts';
import type { EdgeEngine } from '../worker/engine/engine.ts';
import { golden, greedy, openGolden } from './support/golden.ts';
import { DECODING, type Library, unpack } from './support/golden-library.ts';
import { configOf } from './support/golden-library-suite.ts';
import { type Left, watchRetained } from './support/watch-retained.ts';

/** Keys of one token have one norm wherever they stand: in the lowest layer nearly all are ties, which are settled as kvpress did. */
const BY_NORM = ['cam_knorm', 'decoding_knorm', 'decoding_ratio_knorm', 'prefill_decoding'];
/**
 * Which compressions say the same, where not all do: kvpress reads its cache in the order of the last scores ever after. It leaves that open among
 * equal scores, as all sinks and recent tokens have; and SnapKV pools over neighbours in it, so that two scores closer than f32 sums can tell
 * (3e-6 of each other, in layer 0 of llama) make other neighbours, and then other scores. Under cam_knorm ties decide which values are merged too, and later
 * layers' keys follow: what CaM does over all compressions is held against the other scorers.
 */
const COMPARABLE: Record<string, number> = {
  decoding_streaming_llm: 1,
  'llama decoding_snapkv': 2,
  'needle decoding_snapkv': 3,
  cam_knorm: 1,
};
/** Relative, of two norms: torch sums in another order. */
const TIE = 1e-5;

/** With AdaKV kvpress masks, and puts fake keys there, which it scores the next time: the files have what the first compression leaves. */
const MASKED = ['decoding_adakv_snapkv', 'decoding_adakv_expected_attention'];

const INTERVAL = 8;
const WINDOW_OF_DMS = 16;

/** What each layer holds of the positions below `end`: what was left when something of it went last, and all that came since. */
function everyLayer(seen: readonly Left[], layers: number, end: number): number[][][] {
  return Array.from({ length: layers }, (_, l) => {
    const last = seen.findLast((left) => left[l].length > 0)![l];
    const since = Math.max(...last.flat()) + 1; // the newest are never judged
    const came = Array.from({ length: Math.max(0, end - since) }, (_, i) => since + i);
    return last.map((list) => [...list.filter((t) => t < end), ...came]);
  });
}

/** CaM draws this number each time, as in the files. */
function drawn(press: Press, uniform: number): Press {
  const transforms = press.transforms.map(({ part, params }): Press['transforms'][number] => ({
    params,
    part: { ...part, apply: (context) => part.apply!({ ...context, running: { ...context.running!, random: () => uniform } }, params) },
  }));
  return { ...press, transforms };
}

describe.each(['needle', 'qwen3', 'llama'])('%s', (model) => {
  const library = golden<Library>(`library/${model}.json`);
  const [L, H] = library.shape;
  let engine: EdgeEngine;
  beforeAll(async () => {
    engine = await openGolden(model, { artifacts: `test/golden/library/artifacts/${model}` });
  });
  afterAll(() => engine.close());

  /** The press, but what it keeps is what `wanted` has, compression after compression; what it would have kept instead must be as good. */
  function settled(press: Press, wanted: readonly number[][][][]): Press {
    const { part, params } = press.selection;
    let at = -1;
    const rank: typeof part.rank = async (context) => {
      const { backend, layer, n, shape, count, positions, start, scratch } = context;
      if (layer === 0) at++;
      const ranked = await part.rank(context, params);
      if (at >= wanted.length) return ranked;
      const scores = new Float32Array((await backend.read(ranked.scores, shape.kvHeads * n * 4)).slice().buffer);
      const rows = new Uint32Array((await backend.read(ranked.order, shape.kvHeads * count * 4)).slice().buffer);
      for (let h = 0; h < shape.kvHeads; h++) {
        const order = rows.subarray(h * count, (h + 1) * count);
        const score = (row: number): number => scores[h * n + row];
        const theirs = wanted[at][layer][h].map(
          (position) => Array.from({ length: n }, (_, row) => row).find((row) => positions![h][start + row] === position)!,
        );
        expect(theirs, 'what kvpress keeps is there').not.toContain(undefined);
        const ours = [...order.subarray(0, theirs.length)];
        const [we, they] = [ours.filter((row) => !theirs.includes(row)), theirs.filter((row) => !ours.includes(row))];
        const sorted = (list: number[]): number[] => list.map(score).sort((a, b) => a - b);
        for (const [i, x] of sorted(we).entries())
          expect(Math.abs((x - sorted(they)[i]) / x), `compression ${at}, layer ${layer}, head ${h}`).toBeLessThan(TIE);
        const rest = [...order].filter((row) => !theirs.includes(row));
        order.set([...theirs.sort((a, b) => score(b) - score(a)), ...rest].slice(0, count));
      }
      const order = scratch(rows.byteLength, 'settled order');
      backend.write(order, rows);
      return { ...ranked, order };
    };
    return { ...press, selection: { params, part: { ...part, rank } } };
  }

  test.each(Object.keys(DECODING))('%s: keeps and continues as kvpress does', async (name) => {
    const run = library.decoding[name];
    const { context_ids, suffix_ids } = library;
    const wanted = run.compressions.map(({ tokens, kept }) => unpack(kept, library.shape, tokens));
    const parsed = parsePress(configOf(name, library, null));
    const first = COMPARABLE[name] ?? COMPARABLE[`${model} ${name}`] ?? wanted.length;
    const settle = (press: Press): Press => (BY_NORM.includes(name) && press.schedule.part.decoding ? settled(press, wanted.slice(0, first)) : press);
    const presses = parsed.presses.map((press) => settle(drawn(press, library.settings.cam_uniform)));
    const request = { ...parsed, presses, scope: { protect_last: suffix_ids.length } };
    const watch = watchRetained(L);
    const ids: number[] = [];
    const prompt = { kind: 'tokens' as const, tokens: [...context_ids, ...suffix_ids] };
    const sampling = { ...greedy, maxTokens: run.generated.length, ignoreEos: true };
    try {
      for await (const event of engine.generate({ prompt, press: request, sampling })) if (event.type === 'text') ids.push(...event.tokenIds);
    } finally {
      watch.stop();
    }
    if (name.startsWith('dms_decoding')) {
      // The file has what is left at the end. Nobody reads on after the last token here, so that the newest ones were not judged: the older ones were.
      const judged = run.compressions[0].tokens - WINDOW_OF_DMS - 2;
      expect(everyLayer(watch.seen, L, judged)).toEqual(wanted[0].map((heads) => heads.map((list) => list.filter((t) => t < judged))));
      expect(ids).toEqual(run.generated);
      return;
    }
    if (MASKED.includes(name)) expect(watch.seen.length).toBeGreaterThan(wanted.length);
    else expect(watch.seen.length).toBe(wanted.length);
    const next = MASKED.includes(name) ? run.compressions[0].tokens + INTERVAL : first < wanted.length ? run.compressions[first].tokens : Infinity;
    const last = next - context_ids.length - suffix_ids.length;
    expect(watch.seen.slice(0, first)).toEqual(wanted.slice(0, first));
    expect(watch.seen.every((left) => left.every((heads) => heads.length === H))).toBe(true);
    expect(ids.slice(0, last + 1)).toEqual(run.generated.slice(0, last + 1));
  });
});
