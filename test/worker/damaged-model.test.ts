/** A model that is not whole, in workerd: refused by the name of the file, and no request brings the worker down. */
import { readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { packedInShards, removePacked, startWorker, type WireError } from '../support/worker.ts';

afterAll(removePacked);

const body = { messages: [{ role: 'user', content: 'The number for busy-cart is 82.\nWhat is the number for busy-cart?' }], max_tokens: 8 };

type Damage = [how: string, damage: (folder: string) => Promise<void>, says: RegExp];

const flip = async (path: string) => {
  const bytes = await readFile(path);
  bytes[bytes.length >> 1] ^= 1;
  await writeFile(path, bytes);
};

const damages: Damage[] = [
  ['one bit of a shard is wrong', (folder) => flip(join(folder, 'weights-002.bin')), /weights-002\.bin is damaged: SHA-256/],
  ['a shard is truncated', (folder) => truncate(join(folder, 'weights-003.bin'), 1000), /weights-003\.bin is truncated: 1000 of 1048576 bytes/],
  ['a shard is empty', (folder) => truncate(join(folder, 'weights-001.bin'), 0), /weights-001\.bin is truncated: 0 of/],
  ['a shard is too long', async (folder) => writeFile(join(folder, 'weights-000.bin'), new Uint8Array(2 << 20)), /weights-000\.bin is too long/],
  ['a shard is missing', (folder) => rm(join(folder, 'weights-004.bin')), /weights-004\.bin/],
  [
    'two shards changed places',
    async (folder) => {
      const [a, b, aside] = ['weights-001.bin', 'weights-002.bin', 'aside'].map((name) => join(folder, name));
      await rename(a, aside);
      await rename(b, a);
      await rename(aside, b);
    },
    /weights-001\.bin is damaged/,
  ],
  ['the manifest is missing', (folder) => rm(join(folder, 'manifest.json')), /manifest\.json cannot be read: status 404/],
  ['the manifest is no JSON', (folder) => writeFile(join(folder, 'manifest.json'), '{"format":'), /manifest\.json/],
  [
    'the manifest lies about a tensor',
    async (folder) => {
      const path = join(folder, 'manifest.json');
      const manifest = JSON.parse(await readFile(path, 'utf8'));
      manifest.tensors[3].offset += 1 << 20;
      await writeFile(path, JSON.stringify(manifest));
    },
    /manifest\.json: tensor .* lies at/,
  ],
  ['the tokenizer is truncated', (folder) => truncate(join(folder, 'tokenizer.json'), 500), /tokenizer\.json is truncated: 500 of/],
];

describe.concurrent('a packed model of which', () => {
  test.each(damages)('%s', async (_, damage, says) => {
    const assets = await packedInShards();
    await damage(assets);
    const worker = await startWorker({ assets });
    try {
      const early = await worker.post<WireError>('/v1/chat/completions', body); // while it loads
      expect(early).toMatchObject({ status: 503, body: { error: { type: 'server_error' } } });
      expect(await worker.diagnosis()).toMatch(says);
      for (const path of ['/v1/chat/completions', '/v1/press/plan']) {
        const { status, body: answer } = await worker.post<WireError>(path, path.includes('plan') ? { tokens: 100 } : body);
        expect({ status, answer }).toMatchObject({
          status: 503,
          answer: { error: { code: 'model_unavailable', message: expect.stringContaining('/health') } },
        });
      }
      // What needs no model is served on.
      for (const path of ['/', '/v1/presses', '/openapi.json']) expect((await worker.get(path)).status).toBe(200);
      expect((await worker.post('/v1/chat/completions', '{')).status).toBe(400);
    } finally {
      await worker.dispose();
    }
  });
});

test.concurrent('a model that is put right is loaded, at the first request some seconds after the failure', async () => {
  const assets = await packedInShards();
  await flip(join(assets, 'weights-002.bin'));
  const worker = await startWorker({ assets });
  try {
    expect(await worker.diagnosis()).toContain('weights-002.bin is damaged');
    await flip(join(assets, 'weights-002.bin'));
    let status = 503;
    for (let tries = 0; tries < 600 && status === 503; tries++) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      ({ status } = await worker.get('/health'));
    }
    expect(status).toBe(200);
    expect((await worker.chat(body)).choices[0].message.content).toBe(' 82');
    await worker.idle();
  } finally {
    await worker.dispose();
  }
});

test.concurrent('less memory than the weights need is said so, with a limit that then works', async () => {
  const worker = await startWorker({ vars: { MEMORY_LIMIT: '4MiB' } });
  let limit = '';
  try {
    const said = await worker.diagnosis();
    expect(said).toMatch(/5\.07 MiB of weights does not fit into a memory limit of 4\.00 MiB/);
    expect((await worker.post('/v1/chat/completions', body)).status).toBe(503);
    limit = /MEMORY_LIMIT/.test(said) ? /--memory-limit (\d+MiB)/.exec(said)![1] : '';
  } finally {
    await worker.dispose();
  }
  const roomier = await startWorker({ vars: { MEMORY_LIMIT: limit } });
  try {
    expect((await roomier.chat(body)).choices[0].message.content).toBe(' 82');
  } finally {
    await roomier.dispose();
  }
});

test.concurrent('a pool that does not fit beside the weights is said so', async () => {
  const worker = await startWorker({ vars: { KV_POOL: '100KiB' } });
  try {
    expect(await worker.diagnosis()).toMatch(/KV pool/);
  } finally {
    await worker.dispose();
  }
});
