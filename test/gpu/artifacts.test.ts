/** Artefacts on the GPU: what a layer needs of one is given back with the layer. That scores are those of WASM is in model.test.ts. */
import { expect, test } from 'vitest';
import { parsePress } from '../../presses/config.ts';
import { withArtifacts } from '../support/artifacts.ts';
import { openOnGpu } from '../support/gpu-backends.ts';

test('presses that read files, good and missing, leave no buffer behind', async () => {
  const { engine, backend } = await openOnGpu('needle', { contextLength: 512 });
  const prompt = { kind: 'tokens' as const, tokens: Array.from({ length: 140 }, (_, i) => 5 + ((i * 7) % 900)) };
  await engine.inspect(prompt, parsePress('knorm'));
  const held = () => {
    backend.trim();
    return [...backend.buffers.live].sort();
  };
  const before = held();
  for (const preset of ['qfilter', 'kvzap_mlp_head', 'fastkvzip', 'duo_attention', 'lukv']) {
    await engine.inspect(prompt, parsePress(withArtifacts(preset)));
    expect(held(), preset).toEqual(before);
  }
  const missing = parsePress({ preset: 'qfilter', artifact: 'nowhere.safetensors' });
  await expect(engine.inspect(prompt, missing)).rejects.toMatchObject({ code: 'press_artifact' });
  expect(held()).toEqual(before);
  engine.close();
  expect(backend.buffers.live).toEqual([]);
});
