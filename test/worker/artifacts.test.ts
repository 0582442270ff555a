/** Artefacts in workerd: packed with the model, fetched from its assets, for nobody but the worker. */
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { packModel } from '../../cli/pack.ts';
import { type Completion, startWorker, type TestWorker, type WireError } from '../support/worker.ts';

const work = mkdtempSync(join(tmpdir(), 'edgepress-worker-artifacts-'));
let worker: TestWorker;
beforeAll(async () => {
  cpSync('models/needle', join(work, 'needle'), { recursive: true });
  cpSync('test/golden/library/artifacts/needle', join(work, 'needle', 'artifacts'), { recursive: true });
  await packModel(join(work, 'needle'), join(work, 'packed'));
  worker = await startWorker({ assets: join(work, 'packed') });
});
afterAll(async () => {
  await worker?.dispose();
  rmSync(work, { recursive: true });
});

const prompt = Array.from({ length: 150 }, (_, i) => 5 + ((i * 7) % 900));
const ask = <T>(press: unknown) => worker.post<T>('/v1/completions', { prompt, press, max_tokens: 2, temperature: 0 });

test('presses that read files answer, twice the same, and leave no page', async () => {
  for (const press of [
    { preset: 'qfilter', artifact: 'qfilter.safetensors' },
    { preset: 'kvzap_mlp_head', artifact: 'kvzap-mlp.safetensors' },
    { preset: 'fastkvzip', artifact: 'fastkvzip.safetensors' },
    { preset: 'duo_attention', artifact: 'duo.json' },
  ]) {
    const [first, second] = [await ask<Completion>(press), await ask<Completion>(press)];
    expect(first, JSON.stringify(press)).toMatchObject({ status: 200, body: { usage: { kv_cache: { press: press.preset } } } });
    expect(second.body.usage.kv_cache).toEqual(first.body.usage.kv_cache);
    expect(first.body.usage.kv_cache.bytes_kept).toBeLessThan(first.body.usage.kv_cache.bytes_full);
  }
  expect((await worker.idle()).memory).toMatchObject({ kv_used_bytes: 0, kv_reserved_bytes: 0 });
});

test('a file that is not there, and a name that is a path, are a 400 that names the field', async () => {
  for (const [artifact, code] of [
    ['nowhere.safetensors', 'press_artifact'],
    ['../manifest.json', 'press_param_range'],
    ['../weights-000.bin', 'press_param_range'],
  ]) {
    const { status, body } = await ask<WireError>({ preset: 'qfilter', artifact });
    expect({ status, error: body.error }).toMatchObject({ status: 400, error: { code, param: 'press.artifact' } });
  }
});

test('nobody fetches them from outside', async () => {
  expect((await worker.get('/artifacts/qfilter.safetensors')).status).toBe(404);
});
