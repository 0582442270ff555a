/** What `edgepress calibrate` makes, against numbers that kvpress 0.5.4 made of the same tokens on the same models. */
import { describe, expect, test } from 'vitest';
import { calibrate } from '../worker/engine/calibrate.ts';
import { readSafetensorsHeader } from '../worker/engine/weights/safetensors.ts';
import { readerOfBytes, readTensor } from '../worker/engine/weights/source.ts';
import { openGolden } from './support/golden.ts';

describe('calibration', () => {
  // Token ids, and what kvpress 0.5.4 makes of them on these models.
  const samples = [
    Array.from({ length: 60 }, (_, i) => 3 + ((i * 7919 + Math.floor(i / 9)) % 150)),
    Array.from({ length: 45 }, (_, i) => 3 + ((i * 104729 + Math.floor(i / 5)) % 150)),
  ];
  const duo = async (name: string) => {
    const engine = await openGolden(name);
    const { scores, ...rest } = JSON.parse(new TextDecoder().decode(await calibrate(engine, { kind: 'duo', samples })));
    expect(engine.health().memory).toMatchObject({ kv_used_bytes: 0, kv_reserved_bytes: 0 });
    engine.close();
    expect(rest).toEqual({ sink: 128, recent: 256 });
    return (scores as number[][]).flat();
  };

  test('duo: the scores that kvpress computes on the fly', async () => {
    const want = [0.500677, 0.500777, 0.512553, 0.506342];
    for (const [i, score] of (await duo('llama')).entries()) expect(Math.abs(score - want[i])).toBeLessThan(3e-6);
  });

  test('kvpress row 21: with the norms of queries and keys, which kvpress looks for in the wrong module', async () => {
    const scores = await duo('qwen3');
    const withNorms = [0.500096, 0.502515, 0.49674, 0.50353]; // kvpress, told where they are
    const without = [0.499572, 0.502685, 0.49289, 0.504429]; // as it is
    for (const [i, score] of scores.entries()) {
      expect(Math.abs(score - withNorms[i])).toBeLessThan(3e-6);
      expect(Math.abs(score - without[i])).toBeGreaterThan(1e-4);
    }
  });

  const statistics = async (name: string, given: Parameters<typeof calibrate>[1]['samples'], tokens?: number) => {
    const engine = await openGolden(name);
    const file = readerOfBytes(
      'statistics.safetensors',
      new Uint8Array(await calibrate(engine, { kind: 'expected_attention', samples: given, tokens })),
    );
    const found = new Map((await readSafetensorsHeader(file)).map((tensor) => [tensor.name, tensor]));
    const values = async (tensor: string) => new Float32Array((await readTensor(found.get(tensor)!, 0, found.get(tensor)!.bytes)).buffer);
    const { layers } = engine.info;
    engine.close();
    return { mean: await values('mean'), cov: await values('cov'), layers };
  };

  test.each([
    ['llama', [0.273134, -0.878254, -0.062966, 0.045808], [1.273775, -0.542659, -0.019432], 247.521484],
    ['qwen3', [0.283161, -0.48479, 0.200101, 0.202218], [0.74426, -0.228555, 0.036623], 488.310669],
  ])('expected_attention: the mean and the unbiased covariance that kvpress collects on %s', async (name, means, row, total) => {
    const { mean, cov, layers } = await statistics(name, samples);
    const heads = 4;
    const width = mean.length / layers / heads;
    const at = (heads + 2) * width; // layer 1, head 2
    for (const [c, want] of means.entries()) expect(Math.abs(mean[at + c] - want)).toBeLessThan(1e-5);
    for (const [c, want] of row.entries()) expect(Math.abs(cov[at * width + c] - want)).toBeLessThan(1e-5);
    expect(Math.abs(cov.reduce((a, b) => a + b, 0) / total - 1)).toBeLessThan(1e-5);
  });

  test('kvpress row 23: texts are cut by tokens, not by characters', async () => {
    const engine = await openGolden('needle');
    const text = 'The grass is green and the sky is blue. Anna lives in Oslo. '.repeat(8);
    const ids = engine.tokenise({ kind: 'text', text });
    engine.close();
    expect(ids.length).toBeGreaterThan(60);
    const [asText, asTokens] = [await statistics('needle', [text], 50), await statistics('needle', [ids.slice(0, 50)])];
    expect(asText).toEqual(asTokens);
    expect(asText.mean).not.toEqual((await statistics('needle', [text.slice(0, 50)])).mean);
  });

  test('what cannot be calibrated with is refused by name', async () => {
    const engine = await openGolden('needle');
    const told = (options: Partial<Parameters<typeof calibrate>[1]>) =>
      calibrate(engine, { kind: 'duo', samples, ...options }).then(
        () => 'taken',
        ({ code, message }) => `${code}: ${message}`,
      );
    expect(await told({ samples: [] })).toMatch(/^samples_missing: .* got none/);
    expect(await told({ samples: ['a'] })).toMatch(/^samples_short: sample 0 has \d tokens; 8 or more would work/);
    expect(await told({ kind: 'knorm' as never })).toMatch(/^invalid_value: kind must be one of duo, expected_attention, got "knorm"/);
    engine.close();
  });
});
