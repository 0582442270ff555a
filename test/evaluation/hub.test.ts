/** Data sets from a hub: a server on this machine that lists files, serves ranges, cuts, stalls and lies. */
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { hostname, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { downloadFiles, type HubOptions } from '../../evaluation/datasets/hub.ts';
import { loadSamples } from '../../evaluation/datasets/load.ts';
import { InputError } from '../../presses/input-error.ts';

const SHA = 'a'.repeat(40);
const HUB = { hub: 'simonjegou/ruler', split: 'test' };
const FILE = '4096/test-00000-of-00001.parquet';
const small = readFileSync('test/golden/evaluation/ruler.parquet');
const large = Buffer.alloc(300_000, 'edgepress');

interface Listed {
  rfilename: string;
  size: number;
  blobId?: string;
  lfs?: { sha256: string } | null;
}
type Answer = (request: IncomingMessage, response: ServerResponse) => void;

const lfs = (content: Buffer) => ({ sha256: createHash('sha256').update(content).digest('hex') });
const listed = (content: Buffer, rfilename = FILE): Listed => ({ rfilename, size: content.length, lfs: lfs(content) });

let [cache, endpoint, requests] = ['', '', [] as string[]];
let siblings: Listed[] = [];
let answer: Answer = serve(large);
const server = createServer((request, response) => {
  requests.push(`${request.url}${request.headers.range ? ` ${request.headers.range}` : ''}`);
  if (request.url === `/api/datasets/${HUB.hub}/revision/main?blobs=true`) response.end(JSON.stringify({ sha: SHA, siblings, private: false }));
  else if (request.url?.startsWith(`/datasets/${HUB.hub}/resolve/${SHA}/`)) answer(request, response);
  else response.writeHead(404).end();
});

/** The file, from where the request's range begins. */
function serve(content: Buffer): Answer {
  return (request, response) => {
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
    response.writeHead(from > 0 ? 206 : 200, from > 0 ? { 'content-range': `bytes ${from}-${content.length - 1}/${content.length}` } : {});
    response.end(content.subarray(from));
  };
}

/** At most `bytes` of what the range asks for, and then the connection is torn down. */
function cutting(content: Buffer, bytes: number): Answer {
  return (request, response) => {
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
    if (from + bytes >= content.length) return serve(content)(request, response);
    response.writeHead(from > 0 ? 206 : 200, {
      'content-length': content.length - from,
      ...(from > 0 ? { 'content-range': `bytes ${from}-${content.length - 1}/${content.length}` } : {}),
    });
    response.write(content.subarray(from, from + bytes), () => setTimeout(() => response.destroy(), 50));
  };
}

const download = (options: HubOptions = {}) => downloadFiles(HUB, '4096', { endpoint, cache, ...options });
const files = (): string[] =>
  readdirSync(cache, { recursive: true, withFileTypes: true })
    .flatMap((entry) => (entry.isFile() ? [entry.name] : []))
    .sort();
const part = (): string => join(cache, 'simonjegou__ruler', SHA, `${FILE}.part`);

beforeAll(async () => {
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});
beforeEach(() => {
  cache = mkdtempSync(join(tmpdir(), 'hub-'));
  requests = [];
  siblings = [listed(large)];
  answer = serve(large);
});
afterEach(() => {
  rmSync(cache, { recursive: true });
  vi.unstubAllEnvs();
});

test('samples by name, from HF_ENDPOINT into the cache; the second time without the network', async () => {
  siblings = [listed(small), listed(large, 'README.md'), listed(large, '8192/test-00000-of-00001.parquet')];
  answer = serve(small);
  vi.stubEnv('HF_ENDPOINT', `${endpoint}/`);
  vi.stubEnv('XDG_CACHE_HOME', cache);
  const tasks = async () => {
    const found: string[] = [];
    for await (const { id } of loadSamples({ dataset: 'ruler', config: '4096' })) found.push(id);
    return found;
  };
  expect(await tasks()).toEqual(['ruler/niah_single_1/4096/0', 'ruler/vt/4096/1', 'ruler/qa_1/4096/2']);
  expect(requests).toEqual([`/api/datasets/${HUB.hub}/revision/main?blobs=true`, `/datasets/${HUB.hub}/resolve/${SHA}/${FILE}`]);
  expect(existsSync(join(cache, 'edgepress/datasets/simonjegou__ruler', SHA, FILE))).toBe(true);
  requests = [];
  expect(await tasks()).toHaveLength(3);
  expect(requests).toEqual([]);
});

test('a transfer that is cut goes on where it stopped, in the same run', async () => {
  answer = cutting(large, 120_000);
  const seen: number[] = [];
  const [file] = await download({ onProgress: (_, bytes, of) => seen.push(bytes / of) });
  expect(readFileSync(file).equals(large)).toBe(true);
  expect(requests.slice(2)).toEqual([expect.stringContaining('bytes=120000-'), expect.stringContaining('bytes=240000-')]);
  expect(seen.at(-1)).toBe(1);
  expect(files()).toEqual(['main.json', 'test-00000-of-00001.parquet']);
});

test('and in a later run; the file is not there before it is whole', async () => {
  let sent = 0;
  answer = (request, response) => (sent++ === 0 ? cutting(large, 50_000)(request, response) : response.writeHead(503).end());
  await expect(download()).rejects.toThrow(/HTTP 503; try again/);
  expect(files()).toEqual(['main.json', 'test-00000-of-00001.parquet.part']);
  answer = serve(large);
  requests = [];
  expect(readFileSync((await download())[0]).equals(large)).toBe(true);
  expect(requests).toEqual([expect.stringContaining('bytes=50000-')]);
});

test('a connection that brings nothing new is given up, and says how far it came', async () => {
  answer = (_, response) => void response.socket?.destroy();
  await expect(download()).rejects.toThrow(/was cut after 0 of 300000 bytes: .*; run again to go on from there/);
  answer = (_, response) => void response.writeHead(200).write('x');
  await expect(download({ stallMs: 200 })).rejects.toThrow(/was cut after 1 of 300000 bytes: nothing came for 200 ms/);
});

test('several runs at once get a file once: one downloads it, the others wait for it', async () => {
  answer = (request, response) => setTimeout(() => serve(large)(request, response), 400);
  const started = Array.from({ length: 4 }, () =>
    spawn(
      process.execPath,
      [
        '--import',
        'tsx',
        '--input-type=module',
        '-e',
        `import { downloadFiles } from './evaluation/datasets/hub.ts';
         console.log((await downloadFiles(${JSON.stringify(HUB)}, '4096', ${JSON.stringify({ endpoint, cache })}))[0]);`,
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    ),
  );
  const said = await Promise.all(
    started.map(async (child) => {
      let out = '';
      for await (const text of child.stdout.setEncoding('utf8')) out += text;
      return out.trim();
    }),
  );
  for (const file of said) expect(readFileSync(file).equals(large)).toBe(true);
  expect(requests.filter((url) => url.includes('/resolve/'))).toHaveLength(1);
  expect(files()).toEqual(['main.json', 'test-00000-of-00001.parquet']);
});

test('a run that was killed while it downloaded is taken over; one elsewhere is waited for, as long as it brings something', async () => {
  mkdirSync(dirname(part()), { recursive: true });
  writeFileSync(part(), large.subarray(0, 1000));
  writeFileSync(`${part()}.lock`, JSON.stringify({ pid: spawnSync(process.execPath, ['-e', '']).pid, host: hostname() }));
  expect(readFileSync((await download())[0]).equals(large)).toBe(true);
  expect(requests.at(-1)).toContain('bytes=1000-');
  rmSync(join(cache, 'simonjegou__ruler', SHA), { recursive: true });
  mkdirSync(dirname(part()), { recursive: true });
  writeFileSync(`${part()}.lock`, JSON.stringify({ pid: 1, host: 'elsewhere' }));
  const started = performance.now();
  expect(readFileSync((await download({ stallMs: 300 }))[0]).equals(large)).toBe(true);
  expect(performance.now() - started).toBeGreaterThan(600);
  expect(files()).toEqual(['main.json', 'test-00000-of-00001.parquet']);
});

test('redirects are followed, with the range that is asked for; those that go round are told', async () => {
  mkdirSync(dirname(part()), { recursive: true });
  writeFileSync(part(), large.subarray(0, 1000));
  answer = (request, response) => {
    if (request.url?.endsWith('?store')) serve(large)(request, response);
    else response.writeHead(302, { location: `${endpoint}${request.url}?store` }).end();
  };
  expect(readFileSync((await download())[0]).equals(large)).toBe(true);
  expect(requests.at(-1)).toMatch(/\?store bytes=1000-$/);
  rmSync(join(cache, 'simonjegou__ruler', SHA), { recursive: true });
  answer = (request, response) => void response.writeHead(302, { location: `${endpoint}${request.url}` }).end();
  await expect(download()).rejects.toThrow(/was cut after 0 of 300000 bytes: fetch failed: redirect count exceeded/);
  answer = (_, response) => void response.writeHead(302, { location: 'file:///etc/passwd' }).end();
  await expect(download()).rejects.toThrow(/was cut after 0 of 300000 bytes: fetch failed/);
  expect(files()).toEqual(['main.json']);
});

test('a server without ranges is asked for the whole file again', async () => {
  mkdirSync(dirname(part()), { recursive: true });
  writeFileSync(part(), large.subarray(0, 1000));
  answer = (_, response) => void response.writeHead(200).end(large);
  expect(readFileSync((await download())[0]).equals(large)).toBe(true);
});

test('a part that is longer than the file, or of another one, is thrown away', async () => {
  mkdirSync(dirname(part()), { recursive: true });
  writeFileSync(part(), Buffer.alloc(large.length + 1));
  expect(readFileSync((await download())[0]).equals(large)).toBe(true);
  rmSync(join(cache, 'simonjegou__ruler', SHA), { recursive: true });
  mkdirSync(dirname(part()), { recursive: true });
  writeFileSync(part(), Buffer.alloc(1000));
  await expect(download()).rejects.toThrow(/does not have the checksum [0-9a-f]{64}; it was thrown away, run again/);
  expect(files()).toEqual(['main.json']);
  expect(readFileSync((await download())[0]).equals(large)).toBe(true);
});

test('small files are held against their git blob; an empty file is a file', async () => {
  const blobId = createHash('sha1').update(`blob ${small.length}\0`).update(small).digest('hex');
  siblings = [{ rfilename: FILE, size: small.length, blobId, lfs: null }];
  answer = serve(small);
  expect(readFileSync((await download())[0]).equals(small)).toBe(true);
  rmSync(cache, { recursive: true });
  answer = serve(Buffer.from(small).fill(0, 5, 6));
  await expect(download()).rejects.toThrow(`does not have the checksum ${blobId}`);
  rmSync(cache, { recursive: true });
  siblings = [listed(Buffer.alloc(0))];
  answer = serve(Buffer.alloc(0));
  expect(readFileSync((await download())[0])).toHaveLength(0);
});

test('a server that sends more than it said is stopped', async () => {
  answer = serve(Buffer.alloc(10_000_000));
  await expect(download()).rejects.toThrow(/sends more than the 300000 bytes that the list of files says/);
  expect(files()).toEqual(['main.json']);
});

test.each([['../../outside/test.parquet'], ['/etc/test.parquet'], ['4096/../../test.parquet'], ['4096\\..\\test.parquet']])(
  'no path of the list leaves the cache: %s',
  async (rfilename) => {
    siblings = [{ ...listed(large), rfilename }];
    await expect(download()).rejects.toThrow(/the list of files cannot be used: siblings\.0\.rfilename/);
    expect(files()).toEqual([]);
  },
);

test('what cannot be had is told: no data set, no configuration, no server, a list that is none', async () => {
  await expect(downloadFiles({ hub: 'nobody/nothing', split: 'test' }, undefined, { endpoint, cache })).rejects.toThrow(
    /HTTP 404: no such data set, revision or file/,
  );
  await expect(downloadFiles(HUB, '32768', { endpoint, cache })).rejects.toThrow(/simonjegou\/ruler on http.* has no files of configuration "32768"/);
  await expect(download({ endpoint: 'ftp://x', cache: `${cache}/a` })).rejects.toThrow(
    /HF_ENDPOINT must be an http or https address, got "ftp:\/\/x"/,
  );
  await expect(download({ revision: '../main' })).rejects.toThrow(/a revision is a branch, tag or commit/);
  await expect(download({ endpoint: 'http://127.0.0.1:9', cache: `${cache}/b` })).rejects.toThrow(
    /cannot be reached: fetch failed.*; HF_ENDPOINT names another server/,
  );
  for (const place of ['/proc/edgepress', 'package.json'])
    await expect(download({ cache: place })).rejects.toThrow(/the folder .* for downloads cannot be made: .*XDG_CACHE_HOME names another place/);
  answer = (_, response) => void response.writeHead(401).end();
  await expect(download()).rejects.toThrow(/HTTP 401: a private or gated data set/);
  mkdirSync(join(cache, 'c/simonjegou__ruler'), { recursive: true });
  writeFileSync(join(cache, 'c/simonjegou__ruler/main.json'), '<html>');
  await expect(download({ cache: join(cache, 'c') })).rejects.toThrow(/main\.json: the list of files is not JSON, it begins with "<html>"/);
  await expect(download({ cache: join(cache, 'c') })).rejects.toThrow(InputError);
});
