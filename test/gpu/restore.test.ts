/** Rows that an adapted model reads over the prompt, on WebGPU beside WASM: a whole run of RestoreKV. */
import { expect, test } from 'vitest';
import { parsePress } from '../../presses/config.ts';
import type { EdgeEngine } from '../../worker/engine/engine.ts';
import { generation } from '../support/generation.ts';
import { golden, openGolden } from '../support/golden.ts';
import type { Library } from '../support/golden-library.ts';
import { openOnGpu } from '../support/gpu-backends.ts';

const { context_ids, suffix_ids, settings, entries, shape } = golden<Library>('library/restore.json');
const tokens = [...context_ids, ...suffix_ids];
const press = {
  preset: 'RestoreKV',
  adapter: 'restore.safetensors',
  ...settings.kvzip,
  compression_ratio: 0.5,
  explain: true,
  scope: { protect_last: suffix_ids.length },
};

test('entries but for ties, logits and tokens are those of WASM, and no buffer is left behind', async () => {
  const onWasm = await openGolden('needle');
  const { engine: onGpu, backend } = await openOnGpu('needle');
  const run = (engine: EdgeEngine) => generation(engine, tokens, press, { maxTokens: 16, ignoreEos: true });
  const logits = (engine: EdgeEngine) => engine.logits({ kind: 'tokens', tokens }, parsePress(press));
  await onGpu.inspect({ kind: 'tokens', tokens: tokens.slice(0, 40) }, parsePress('knorm'));
  const held = () => {
    backend.trim();
    return [...backend.buffers.live].sort();
  };
  const before = held();
  const [want, seen] = [await run(onWasm), await run(onGpu)];
  expect(seen.usage).toMatchObject({ added_per_layer: 8, bytes_kept: expect.any(Number) });
  const entriesOf = ({ usage }: typeof want): Set<string> =>
    new Set(usage.explain!.kept.flatMap((heads, l) => heads.flatMap((kept, h) => kept.map((t) => `${l}.${h}.${t}`))));
  const [here, there] = [entriesOf(want), entriesOf(seen)];
  expect(there.size).toBe(here.size);
  expect(there.size).toBe(shape[0] * shape[1] * (Math.floor(context_ids.length / 2) - 8));
  expect([...there].filter((entry) => !here.has(entry)).length).toBeLessThanOrEqual(2); // ties
  expect(seen.tokens).toEqual(want.tokens);
  expect(entries.RestoreKV[1].margins.slice(0, 16).every((margin) => margin > 0.1)).toBe(true); // none of them is close
  const [ours, theirs] = [await logits(onGpu), await logits(onWasm)];
  const largest = theirs.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  expect(theirs.reduce((worst, x, i) => Math.max(worst, Math.abs(x - ours[i])), 0) / largest).toBeLessThan(1e-3);
  expect(held()).toEqual(before);

  const gone = parsePress({ ...press, adapter: 'nowhere.safetensors' });
  await expect(onGpu.inspect({ kind: 'tokens', tokens }, gone)).rejects.toMatchObject({ code: 'press_artifact' });
  expect(held()).toEqual(before);
  onGpu.close();
  expect(backend.buffers.live).toEqual([]);
  onWasm.close();
});
