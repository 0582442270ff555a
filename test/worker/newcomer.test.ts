/** As the README begins: `npm start` is a build and `edgepress serve --runtime workerd`; the line that it prints is run as it stands. `npm test` builds first. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { afterAll, expect, test } from 'vitest';
import type { Completion } from '../support/worker.ts';

/** A port that nobody has now. */
function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer();
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}

/** Processes whose parents lead to `pid`. */
function descendants(pid: number): number[] {
  const parents = execFileSync('ps', ['-eo', 'pid=,ppid='], { encoding: 'utf8' })
    .trim()
    .split('\n')
    .map((line) => line.trim().split(/\s+/).map(Number));
  const below = (of: number): number[] => parents.filter(([, parent]) => parent === of).flatMap(([child]) => [child, ...below(child)]);
  return below(pid);
}

const lives = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

let serve: ChildProcess | null = null;
let family: number[] = [];
afterAll(() => {
  for (const pid of family) if (lives(pid)) process.kill(pid, 'SIGKILL');
});

test('npm start: the printed curl line answers 4821, and stopping leaves no process behind', async () => {
  const port = await freePort();
  // CI's environment may hold settings of its own; a newcomer's does not.
  const { API_KEYS: _, HOST: __, ...env } = process.env;
  serve = spawn(process.execPath, ['dist/cli/index.js', 'serve', '--runtime', 'workerd'], {
    env: { ...env, PORT: String(port) },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  const curl = await new Promise<string>((resolve, reject) => {
    const read = (piece: Buffer) => {
      output += piece;
      const line = /^curl .*$/m.exec(output);
      if (line && output.includes('\n', line.index)) resolve(line[0]);
    };
    serve!.stdout!.on('data', read);
    serve!.stderr!.on('data', read);
    serve!.once('exit', (code) => reject(new Error(`it ended with ${code}: ${output}`)));
  });
  expect(curl).toContain(`http://127.0.0.1:${port}/v1/chat/completions`);

  const answer = JSON.parse(execFileSync('sh', ['-c', curl], { encoding: 'utf8', timeout: 20_000 })) as Completion;
  expect(answer.choices[0].message.content).toContain('4821');
  expect(answer.usage.kv_cache.bytes_kept).toBeLessThan(answer.usage.kv_cache.bytes_full);

  family = [serve.pid!, ...descendants(serve.pid!)];
  expect(family.length).toBeGreaterThan(1); // workerd at least
  const ended = new Promise<void>((resolve) => serve!.once('exit', () => resolve()));
  serve.kill('SIGINT');
  await ended;
  for (let tries = 0; tries < 100 && family.some(lives); tries++) await new Promise((resolve) => setTimeout(resolve, 50));
  expect(family.filter(lives)).toEqual([]);
  await expect(fetch(`http://127.0.0.1:${port}/health`)).rejects.toThrow();
});
