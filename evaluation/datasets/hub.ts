/**
 * Data sets by name from the Hugging Face hub, or from what HF_ENDPOINT names. Files lie in a cache folder under the commit that they are of; a commit's list of files
 * is kept there too, so that a second run needs no network and reads the same rows.
 *
 * A file is whole or not there: it is written to NAME.part, held against the hub's checksum and then renamed. A transfer that was cut goes on where it stopped, now or
 * in a later run. Of several runs that want the same file, such as the shards of one evaluation, one gets it and the others wait.
 */
import { createHash, randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import * as z from 'zod';
import { shownName } from '../../presses/did-you-mean.ts';
import { InputError } from '../../presses/input-error.ts';
import { makeFolder } from '../../worker/regular-file.ts';
import { releaseLock, takeLock } from '../lock.ts';
import type { Dataset } from './dataset.ts';
import { chooseFiles } from './read/choose-files.ts';

export interface HubOptions {
  /** Default: HF_ENDPOINT, else https://huggingface.co. */
  readonly endpoint?: string;
  /** Default: edgepress/datasets in XDG_CACHE_HOME, else in ~/.cache. */
  readonly cache?: string;
  /** A branch, tag or commit. */
  readonly revision?: string;
  /** A transfer that brings nothing for so long is given up. */
  readonly stallMs?: number;
  readonly onProgress?: (file: string, bytes: number, of: number) => void;
}

const MOST_LISTING_BYTES = 32 * 2 ** 20;
const MOST_FILES = 1000;
const MOST_FILE_BYTES = 8 * 2 ** 30;
/** Of one file in one run, each of which must bring it further. */
const ATTEMPTS = 5;
/** Between two looks at what another run downloads. */
const LOOK_MS = 200;

/** Paths are put together with the cache folder's: none may leave it. */
const pathSchema = z
  .string()
  .max(500)
  .refine((path) => /^[^\\\0]+$/.test(path) && path.split('/').every((part) => part !== '' && part !== '.' && part !== '..'));
const listingSchema = z.object({
  sha: z.string().regex(/^[0-9a-f]{40}$/),
  siblings: z.array(
    z.object({
      rfilename: pathSchema,
      size: z.number().int().nonnegative(),
      blobId: z
        .string()
        .regex(/^[0-9a-f]{40}$/)
        .optional(),
      lfs: z.object({ sha256: z.string().regex(/^[0-9a-f]{64}$/) }).nullish(),
    }),
  ),
});
type Listing = z.infer<typeof listingSchema>;
type HubFile = Listing['siblings'][number];

/** The files of a configuration, downloaded where they are not yet. */
export async function downloadFiles(
  { hub, split }: Pick<Dataset, 'hub' | 'split'>,
  config: string | undefined,
  options: HubOptions = {},
): Promise<string[]> {
  const { endpoint = process.env.HF_ENDPOINT || 'https://huggingface.co', revision = 'main', stallMs = 60_000, onProgress } = options;
  const base = checkedEndpoint(endpoint);
  if (!/^[\w.-]{1,100}$/.test(revision) || revision.startsWith('.'))
    throw failure(`a revision is a branch, tag or commit, got ${JSON.stringify(shownName(revision))}`);
  const folder = join(options.cache ?? defaultCache(), hub.replace('/', '__'));
  const { sha, siblings } = await listing(`${base}/api/datasets/${hub}/revision/${revision}?blobs=true`, join(folder, `${revision}.json`), stallMs);
  const chosen = chooseFiles(
    siblings.map(({ rfilename }) => rfilename),
    config,
    split,
    `${hub} on ${base}`,
  );
  if (chosen.length > MOST_FILES) throw failure(`${hub} has ${chosen.length} files in this configuration, at most ${MOST_FILES} are downloaded`);
  const targets: string[] = [];
  for (const path of chosen) {
    const file = siblings.find(({ rfilename }) => rfilename === path)!;
    if (file.size > MOST_FILE_BYTES) throw failure(`${hub}: ${path} has ${file.size} bytes, files of at most ${MOST_FILE_BYTES} are downloaded`);
    const target = join(folder, sha, path);
    const url = `${base}/datasets/${hub}/resolve/${sha}/${path.split('/').map(encodeURIComponent).join('/')}`;
    const progress = (bytes: number): void => onProgress?.(path, bytes, file.size);
    await alone(target, file.size, stallMs, () => download(url, target, file, stallMs, progress));
    targets.push(target);
  }
  return targets;
}

function checkedEndpoint(endpoint: string): string {
  const url = URL.canParse(endpoint) ? new URL(endpoint) : null;
  if (url?.protocol !== 'https:' && url?.protocol !== 'http:')
    throw failure(`HF_ENDPOINT must be an http or https address, got ${JSON.stringify(shownName(endpoint))}`);
  return endpoint.replace(/\/+$/, '');
}

function defaultCache(): string {
  return join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'edgepress', 'datasets');
}

async function listing(url: string, kept: string, stallMs: number): Promise<Listing> {
  const cached = await readFile(kept, 'utf8').catch(() => null);
  if (cached !== null) return parsed(cached, kept);
  const chunks: Uint8Array[] = [];
  let size = 0;
  await transfer(url, {}, stallMs, async (response) => {
    if (!response.ok) throw refused(url, response.status);
    return (bytes) => {
      chunks.push(bytes);
      size += bytes.length;
      if (size > MOST_LISTING_BYTES) throw failure(`${url}: the list of files has more than ${MOST_LISTING_BYTES} bytes`);
    };
  }).catch((error) => {
    throw error instanceof InputError ? error : unreachable(url, error);
  });
  const text = Buffer.concat(chunks).toString('utf8');
  const result = parsed(text, url);
  makeCache(dirname(kept));
  const own = `${kept}.${randomUUID()}.part`; // another run may be writing it too
  await writeFile(own, text);
  await rename(own, kept);
  return result;
}

function parsed(text: string, where: string): Listing {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw failure(`${where}: the list of files is not JSON, it begins with ${JSON.stringify(shownName(text))}`);
  }
  const result = listingSchema.safeParse(value);
  if (result.success) return result.data;
  const [{ path, message }] = result.error.issues;
  throw failure(`${where}: the list of files cannot be used: ${path.join('.')}: ${message}`);
}

/** Nothing where the file is there; else `get` it, when no other run does. One elsewhere that brings nothing for twice `stallMs` has ended. */
async function alone(target: string, size: number, stallMs: number, get: () => Promise<void>): Promise<void> {
  const part = `${target}.part`;
  let [seen, since] = [-1, performance.now()];
  while ((await sizeOf(target)) !== size) {
    makeCache(dirname(target));
    if (takeLock(part) === null) {
      try {
        if ((await sizeOf(target)) !== size) await get();
      } finally {
        releaseLock(part);
      }
      return;
    }
    const have = (await sizeOf(part)) ?? 0;
    if (have !== seen) [seen, since] = [have, performance.now()];
    else if (performance.now() - since > 2 * stallMs) releaseLock(part);
    await pause(LOOK_MS);
  }
}

async function download(url: string, target: string, file: HubFile, stallMs: number, progress: (bytes: number) => void): Promise<void> {
  const part = `${target}.part`;
  if (((await sizeOf(part)) ?? 0) > file.size) await rm(part);
  let have = (await sizeOf(part)) ?? 0;
  for (let attempt = 1; have < file.size || attempt === 1; attempt++) {
    const before = have;
    let problem: unknown = null;
    try {
      if (have < file.size || file.size === 0) await append(url, part, have, file.size, stallMs, progress);
    } catch (error) {
      if (error instanceof InputError) throw error;
      problem = error;
    }
    have = (await sizeOf(part)) ?? 0;
    const cut = have < file.size || (file.size === 0 && problem !== null);
    if (cut && (have <= before || attempt === ATTEMPTS)) {
      const why = problem instanceof Error ? `: ${causes(problem)}` : '';
      throw failure(`${url} was cut after ${have} of ${file.size} bytes${why}; run again to go on from there`);
    }
  }
  await checkSum(url, part, file);
  await rename(part, target);
}

/** Goes on from `have` where the server allows it, else begins again. */
async function append(url: string, part: string, have: number, size: number, stallMs: number, progress: (bytes: number) => void): Promise<void> {
  const range: Record<string, string> = have > 0 ? { range: `bytes=${have}-` } : {};
  let handle: Awaited<ReturnType<typeof open>> | null = null;
  let written = 0;
  try {
    await transfer(url, range, stallMs, async (response) => {
      const continues = response.status === 206 && response.headers.get('content-range')?.startsWith(`bytes ${have}-`);
      if (response.status !== 200 && !continues) {
        if (response.status === 206 || response.status === 416) await rm(part, { force: true });
        throw refused(url, response.status);
      }
      written = continues ? have : 0;
      handle = await open(part, continues ? 'a' : 'w');
      const file = handle;
      return async (bytes) => {
        written += bytes.length;
        if (written > size) {
          await rm(part, { force: true });
          throw failure(`${url} sends more than the ${size} bytes that the list of files says`);
        }
        await file.writeFile(bytes);
        progress(written);
      };
    });
    await (handle as Awaited<ReturnType<typeof open>> | null)?.sync();
  } finally {
    await (handle as Awaited<ReturnType<typeof open>> | null)?.close();
  }
}

type Take = (bytes: Uint8Array) => void | Promise<void>;

/** One request; every chunk of its body to what `begin` returns. Given up where nothing comes for `stallMs`. */
async function transfer(url: string, headers: Record<string, string>, stallMs: number, begin: (response: Response) => Promise<Take>): Promise<void> {
  const abort = new AbortController();
  const stalled = (): void => abort.abort(new Error(`nothing came for ${stallMs} ms`));
  let timer = setTimeout(stalled, stallMs);
  try {
    const response = await fetch(url, { headers: { 'accept-encoding': 'identity', ...headers }, signal: abort.signal });
    const take = await begin(response).catch(async (error) => {
      await response.body?.cancel();
      throw error;
    });
    for await (const bytes of response.body ?? []) {
      clearTimeout(timer);
      await take(bytes);
      timer = setTimeout(stalled, stallMs);
    }
  } finally {
    clearTimeout(timer);
  }
}

/** Large files have a SHA-256, small ones the SHA-1 of a git blob. */
async function checkSum(url: string, part: string, { size, lfs, blobId }: HubFile): Promise<void> {
  const hash = lfs ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`);
  for await (const chunk of createReadStream(part)) hash.update(chunk);
  const expected = lfs?.sha256 ?? blobId;
  if (expected === undefined || hash.digest('hex') === expected) return;
  await rm(part, { force: true });
  throw failure(`${url}: what came does not have the checksum ${expected}; it was thrown away, run again`);
}

function makeCache(folder: string): void {
  try {
    makeFolder(folder);
  } catch (error) {
    throw failure(`the folder ${folder} for downloads cannot be made: ${(error as Error).message}; XDG_CACHE_HOME names another place`);
  }
}

async function sizeOf(path: string): Promise<number | null> {
  return stat(path).then(
    ({ size }) => size,
    () => null,
  );
}

function refused(url: string, status: number): InputError {
  if (status === 401 || status === 403)
    return failure(`${url}: HTTP ${status}: a private or gated data set; download it yourself and give its folder`);
  if (status === 404) return failure(`${url}: HTTP 404: no such data set, revision or file`);
  return failure(`${url}: HTTP ${status}; try again, or download the data set yourself and give its folder`);
}

function unreachable(url: string, error: unknown): InputError {
  return failure(
    `${url} cannot be reached: ${causes(error)}; HF_ENDPOINT names another server, or download the data set yourself and give its folder`,
  );
}

/** fetch() says "fetch failed", and why in the cause. */
function causes(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? `${error.message}: ${error.cause.message}` : error.message;
}

function failure(message: string): InputError {
  return new InputError('dataset_download', null, message);
}
