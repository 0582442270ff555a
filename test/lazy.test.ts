/** SimLayerKV's layer budget, on layers whose attention is known: zero keys, so that every query looks at all that it sees alike. */
import { expect, test } from 'vitest';
import { parsePress } from '../presses/config.ts';
import { InputError } from '../presses/input-error.ts';
import { blankLayers, runPress, shapeOf } from './support/press-run.ts';
import { runtimes } from './support/press-runtimes.ts';

const N = 50;
const press = (lazy: Record<string, unknown>, more: Record<string, unknown> = {}) => ({
  scorer: { name: 'streaming_llm', n_sink: 3 },
  layer_budget: { name: 'lazy', n_initial: 3, n_recent: 7, ...lazy },
  ...more,
});

for (const { name, make } of runtimes) {
  const kept = async (config: unknown): Promise<number[][]> => {
    const shape = shapeOf(4, 2, 8);
    const { kept, report } = await runPress(await make(), config, N, shape, blankLayers(2, N, shape));
    for (const heads of kept) expect(heads[1]).toEqual(heads[0]);
    expect(report.keptPerLayer).toEqual(kept.map(([list]) => list.length));
    return kept.map(([list]) => [...list].sort((a, b) => a - b));
  };
  const ends = [0, 1, 2, 43, 44, 45, 46, 47, 48, 49];
  const all = Array.from({ length: N }, (_, t) => t);

  test(`${name}: lazy above the threshold, and whole below: the last query pays 10 of its 50 keys a fifth`, async () => {
    expect(await kept(press({ lazy_threshold: 0.199 }))).toEqual([ends, ends]);
    expect(await kept(press({ lazy_threshold: 0.201 }))).toEqual([all, all]);
  });

  test(`${name}: several last queries: each over what it sees`, async () => {
    // Queries 48 and 49 of 50 see 49 and 50 keys; of the last 7, position 49 is seen by one of them only.
    const share = ((3 + 6) / 49 + (3 + 7) / 50) / 2;
    expect(await kept(press({ n_last: 2, lazy_threshold: share - 1e-4 }))).toEqual([ends, ends]);
    expect(await kept(press({ n_last: 2, lazy_threshold: share + 1e-4 }))).toEqual([all, all]);
  });

  test(`${name}: kvpress row 13: as many recent tokens as last queries, and none is there twice; its own count under compat is refused`, async () => {
    expect(await kept(press({ n_last: 7, lazy_threshold: 0.05 }))).toEqual([ends, ends]);
    const same = () => kept(press({ n_last: 7, lazy_threshold: 0.05 }, { compat: 'kvpress' }));
    await expect(same()).rejects.toMatchObject({ code: 'press_param_range', param: 'press.layer_budget.n_recent' });
    expect(await kept(press({ n_last: 2, lazy_threshold: 0.05 }, { compat: 'kvpress' }))).toEqual([
      ends.filter((t) => t < 43 || t > 44),
      ends.filter((t) => t < 43 || t > 44),
    ]);
  });

  test(`${name}: a prompt no longer than what stays is kept whole`, async () => {
    expect(await kept(press({ lazy_threshold: 0, n_recent: 47 }))).toEqual([all, all]);
  });

  test(`${name}: where everything stays the report says why: too many recent tokens, or no lazy layer`, async () => {
    const shape = shapeOf(4, 2, 8);
    const notes = async (lazy: Record<string, unknown>, more = {}): Promise<readonly string[]> =>
      (await runPress(await make(), press(lazy, more), N, shape, blankLayers(2, N, shape))).report.notes;
    expect(await notes({ n_recent: 47, lazy_threshold: 0 })).toEqual([
      'layer_budget "lazy" removes nothing: lazy layers keep the first 3 and the last 47 tokens, and there are 50; a smaller n_recent would remove some',
    ]);
    expect(await notes({ lazy_threshold: 0.201 })).toEqual([
      'layer_budget "lazy": no layer is lazy: first and recent tokens get 0.20 of a layer\'s attention at most, and lazy_threshold is 0.201',
    ]);
    expect(await notes({ lazy_threshold: 0.199 })).toEqual([]);
    expect((await notes({ lazy_threshold: 1 }, { compat: 'kvpress' }))[0]).toMatch(/removes nothing: no share is above a lazy_threshold of 1/);
  });
}

test('takes no ratio: it settles how much is kept by itself', () => {
  const asked = () => parsePress({ ...press({}), compression_ratio: 0.5 });
  expect(asked).toThrow(InputError);
  expect(asked).toThrow(/settles how much is kept by its lazy_threshold, n_initial and n_recent; leave compression_ratio out/);
});
