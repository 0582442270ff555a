/** The command and the server on this stack's GPU: Deno on wgpu, Node on Dawn. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { exampleRequest } from '../../worker/api/example.ts';
import { stack } from '../support/gpu.ts';

const runtime = stack === 'wgpu' ? ['run', '-A', '--no-lock', 'cli/index.ts'] : ['--import', 'tsx', 'cli/index.ts'];

function edgepress(...args: string[]): { status: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [...runtime, ...args], { encoding: 'utf8' });
  return { status, out: stdout, err: stderr };
}

const QUESTION = 'Anna lives in Oslo. Where does Anna live?';

test('generate --backend webgpu answers as on WASM', () => {
  const [gpu, wasm] = [edgepress('generate', QUESTION, '--backend', 'webgpu'), edgepress('generate', QUESTION)];
  expect([gpu.status, gpu.out]).toEqual([0, wasm.out]);
  expect(wasm.out).toContain('Oslo');
});

test('press --backend webgpu writes a file that generate answers from on either backend', () => {
  const folder = mkdtempSync(join(tmpdir(), 'edgepress-gpu-'));
  const document = join(folder, 'document.txt');
  writeFileSync(document, 'Anna lives in Oslo. Boris lives in Rome. ');
  const out = join(folder, 'document.pressed.safetensors');
  expect(edgepress('press', document, '-p', 'knorm', '-r', '0.25', '--backend', 'webgpu', '--out', out)).toMatchObject({
    status: 0,
    err: expect.not.stringContaining('edgepress'), // drivers warn of what they like
    out: expect.stringContaining('as int8, for needle'),
  });
  expect(readdirSync(folder).sort()).toEqual(['document.pressed.safetensors', 'document.txt']);
  const [gpu, wasm] = ['webgpu', 'wasm'].map((backend) =>
    edgepress('generate', '--context-file', out, 'Where does Anna live?', '--backend', backend),
  );
  expect([gpu.status, gpu.out]).toEqual([0, wasm.out]);
  expect(wasm.out.trim()).not.toBe('');
});

test('--backend auto says what it chose and why', () => {
  const { status, out, err } = edgepress('generate', QUESTION, '--backend', 'auto');
  expect([status, out.trim()]).toEqual([0, 'Oslo']);
  expect(err).toMatch(/edgepress: chose (wasm|webgpu), for 32 \+ 8 tokens took \d+ ms on wasm \(.+\) and \d+ ms on webgpu \(.+\)/);
});

test('inspect --backend webgpu keeps what WASM keeps', () => {
  const file = join(mkdtempSync(join(tmpdir(), 'edgepress-gpu-')), 'ids.json');
  writeFileSync(file, JSON.stringify(Array.from({ length: 150 }, (_, i) => 100 + i)));
  const on = (backend: string) => JSON.parse(edgepress('inspect', '--tokens', file, '--press', 'zigzag_snapkv', '--json', '--backend', backend).out);
  const [gpu, wasm] = [on('webgpu'), on('wasm')];
  expect(gpu.layers.map(({ budget }: { budget: number }) => budget)).toEqual(wasm.layers.map(({ budget }: { budget: number }) => budget));
});

test('bench --backend webgpu tells dispatches, bytes and the time of each kernel', () => {
  const { status, out } = edgepress(
    'bench',
    '--backend',
    'webgpu',
    '--prompt-tokens',
    '140',
    '--decode-tokens',
    '8',
    '--runs',
    '1',
    '--press',
    'snapkv',
    '--json',
  );
  expect(status).toBe(0);
  const { gpu } = JSON.parse(out);
  expect(gpu.dispatches_per_token).toBeLessThanOrEqual(12 * 6 + 6);
  expect(gpu.copy_bytes_per_s).toBeGreaterThan(1e8);
  expect(gpu.decode_share_of_copy_bandwidth).toBeGreaterThan(0);
  const names = gpu.kernels.map(({ phase, kernel }: { phase: string; kernel: string }) => `${phase} ${kernel.split('/')[0]}`);
  for (const name of ['prefill attend-causal', 'prefill top-k', 'decode attend-paged', 'decode rms-norm']) expect(names).toContain(name);
});

test('bench --presses on the GPU parts reading from pressing by the time of each kernel', () => {
  const { status, out } = edgepress('bench', '--backend', 'webgpu', '--prompt-tokens', '140', '--runs', '1', '--presses', 'snapkv', '--json');
  expect(status).toBe(0);
  const [{ share_of_prefill, press_ms, prefill_ms, not_measured }] = JSON.parse(out).costs;
  expect(not_measured).toBe(null);
  expect(share_of_prefill).toBeGreaterThan(0);
  expect(share_of_prefill).toBe(press_ms / prefill_ms);
});

if (stack === 'wgpu') describe('deno serve', serving);

function serving(): void {
  const servers: ChildProcess[] = [];
  afterEach(stopAll);

  async function stopAll(): Promise<void> {
    for (const server of servers.splice(0)) {
      if (server.exitCode !== null) continue;
      const ended = new Promise((resolve) => server.once('exit', resolve));
      server.kill('SIGTERM');
      await ended;
    }
  }

  /** Starts `npm run start:gpu` without its build; resolves with what it printed once `sign` was there, or when it ended. */
  function start(args: string[], sign: RegExp, env: Record<string, string> = {}): Promise<string> {
    const server = spawn('node', ['--import', 'tsx', 'scripts/start-gpu.mjs', ...args], { env: { ...process.env, ...env } });
    servers.push(server);
    let printed = '';
    return new Promise((resolve) => {
      const take = (chunk: Buffer): void => {
        printed += chunk;
        if (sign.test(printed)) resolve(printed);
      };
      server.stdout.on('data', take);
      server.stderr.on('data', take);
      server.on('exit', () => resolve(printed));
    });
  }

  test('start:gpu serves the routes on wgpu: the printed request gets 4821 with half the cache; a signal ends it', async () => {
    const printed = await start(['--port', '0', '--kv-pool', '16MiB'], /curl -s/);
    expect(printed).toMatch(/edgepress serves needle on http:\/\/127\.0\.0\.1:\d+, webgpu: /);
    const [origin] = /http:\/\/127\.0\.0\.1:\d+/.exec(printed)!;
    const health = await (await fetch(`${origin}/health`)).json();
    expect(health.backend.name).toBe('webgpu');
    const answer = await fetch(`${origin}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', connection: 'close' },
      body: JSON.stringify(exampleRequest),
    });
    const { choices, usage } = await answer.json();
    expect(choices[0].message.content).toBe(' 4821');
    const { kept_per_layer, tokens } = usage.kv_cache;
    expect(kept_per_layer.reduce((sum: number, kept: number) => sum + kept, 0)).toBe((6 * tokens) / 2);
    expect(new Set(kept_per_layer).size).toBeGreaterThan(1); // dealt by ZigZag
    expect(health.memory).toMatchObject({ kv_pool_bytes: 16 * 2 ** 20, limit_bytes: null });

    const busy = await start(['--port', new URL(origin).port], /taken/);
    expect(busy).toMatch(/edgepress: port \d+ of 127\.0\.0\.1 is taken by another program; --port \d+/);

    await stopAll();
    await expect(fetch(`${origin}/health`)).rejects.toThrow(); // what listened is gone too, not only what started it
  });

  test.each([
    [['--backend', 'metal'], {}, /edgepress: BACKEND must be webgpu, wasm, auto, gpu-first, got "metal"/],
    [['--memory-limit', 'lots'], {}, /edgepress: MEMORY_LIMIT: /],
    [['--kv-pool', '4GiB'], {}, /edgepress: the KV pool is one buffer, and this GPU binds .* at most, got 4.00 GiB: --kv-pool \d+MiB would work/],
    [['--backnd', 'webgpu'], {}, /edgepress: Unknown option '--backnd'/],
    [['--port', '99999'], {}, /edgepress: A port is a whole number between 0 and 65535/],
    [[], { PORT: '0', MODEL: 'nowhere' }, /edgepress: .*nowhere/],
  ] as [string[], Record<string, string>, RegExp][])('%j %o is refused in words', async (args, env, message) => {
    const printed = await start(args.includes('--port') || env.PORT ? args : ['--port', '0', ...args], message, env);
    expect(printed).toMatch(message);
    expect(printed).not.toMatch(/\n\s+at /);
  });
}
