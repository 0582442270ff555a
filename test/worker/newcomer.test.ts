/**
 * As the README begins: `npm start` is a build and `edgepress serve --runtime workerd`; the line that it prints is run as it stands. `npm test` builds first.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { afterAll, expect, test } from 'vitest';
import type { Completion } from '../support/worker.ts';

interface Process {
  readonly pid: number;
  readonly parent: number;
  readonly state: string;
}

/** All that run, or have ended and nobody asked how (state Z). From /proc, or where there is none from ps. */
function processes(): Process[] {
  if (!existsSync('/proc/self/stat')) {
    const lines = execFileSync('ps', ['-A', '-o', 'pid=,ppid=,stat='], { encoding: 'utf8' }).trim().split('\n');
    return lines.map((line) => line.trim().split(/\s+/)).map(([pid, parent, state]) => ({ pid: Number(pid), parent: Number(parent), state }));
  }
  return readdirSync('/proc').flatMap((pid) => {
    try {
      const [, state, parent] = /^\d+ \(.*\) (\S) (\d+)/s.exec(readFileSync(`/proc/${Number(pid)}/stat`, 'latin1'))!;
      return [{ pid: Number(pid), parent: Number(parent), state }];
    } catch {
      return []; // no process, or one that has just ended
    }
  });
}

/** Processes whose parents lead to `pid`, and itself. */
function family(pid: number): number[] {
  const all = processes();
  const below = (of: number): number[] => [of, ...all.filter(({ parent }) => parent === of).flatMap((child) => below(child.pid))];
  return below(pid);
}

function living(pids: readonly number[]): number[] {
  return processes()
    .filter(({ pid, state }) => pids.includes(pid) && !state.startsWith('Z'))
    .map(({ pid }) => pid);
}

const started: number[] = [];
afterAll(() => {
  for (const pid of living(started)) process.kill(pid, 'SIGKILL');
});

/** Starts it on a free port and waits for the curl line. */
async function start(): Promise<{ serve: ChildProcess; curl: string; origin: string; all: number[] }> {
  // CI's environment may hold settings of its own; a newcomer's does not.
  const { API_KEYS: _, HOST: __, ...env } = process.env;
  const serve = spawn(process.execPath, ['dist/cli/index.js', 'serve', '--runtime', 'workerd'], {
    env: { ...env, PORT: '0' },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true, // a process group of its own, as a terminal gives
  });
  started.push(serve.pid!);
  let output = '';
  const curl = await new Promise<string>((resolve, reject) => {
    const read = (piece: Buffer) => {
      output += piece;
      const line = /^curl .*$/m.exec(output);
      if (line && output.includes('\n', line.index)) resolve(line[0]);
    };
    serve.stdout!.on('data', read);
    serve.stderr!.on('data', read);
    serve.once('exit', (code) => reject(new Error(`it ended with ${code}: ${output}`)));
  });
  const all = family(serve.pid!);
  started.push(...all);
  expect(all.length).toBeGreaterThan(1); // workerd at least
  const origin = /http:\/\/127\.0\.0\.1:\d+/.exec(curl)![0];
  expect(output).toContain(`serves needle on ${origin}`);
  return { serve, curl, origin, all };
}

/** Sends the signal, and waits until nothing of it is left. */
async function stopped({ serve, origin, all }: Awaited<ReturnType<typeof start>>, send: () => void): Promise<void> {
  const ended = new Promise<number | null>((resolve) => serve.once('exit', resolve));
  send();
  expect(await ended).toBe(0);
  for (let tries = 0; tries < 200 && living(all).length > 0; tries++) await new Promise((resolve) => setTimeout(resolve, 50));
  expect(living(all)).toEqual([]);
  await expect(fetch(`${origin}/health`)).rejects.toThrow();
}

test('npm start: the printed curl line answers 4821 with half the cache, and SIGTERM leaves no process behind', async () => {
  const running = await start();
  const answer = JSON.parse(execFileSync('sh', ['-c', running.curl], { encoding: 'utf8', timeout: 60_000 })) as Completion;
  expect(answer.choices[0].message.content).toContain('4821');
  expect(answer.usage.kv_cache).toMatchObject({ press: 'zigzag_snapkv', compression_ratio: 0.5 });
  expect(answer.usage.kv_cache.bytes_kept).toBeLessThan(0.7 * answer.usage.kv_cache.bytes_full); // half, and rounding to pages
  await stopped(running, () => running.serve.kill('SIGTERM'));
});

test('Ctrl-C, which every process of the group gets, leaves none behind, not even while an answer is streamed', async () => {
  const running = await start();
  const body = { messages: [{ role: 'user', content: 'Anna lives in Oslo.' }], stream: true, ignore_eos: true, temperature: 1, max_tokens: 3000 };
  const answer = await fetch(`${running.origin}/v1/chat/completions`, { method: 'POST', body: JSON.stringify(body) });
  const reader = answer.body!.getReader();
  expect((await reader.read()).done).toBe(false);
  await stopped(running, () => process.kill(-running.serve.pid!, 'SIGINT'));
  await reader.cancel().catch(() => {});
});
