/** Files by fetch, for browsers: a packed model's folder, and a .gguf file that is read by HTTP ranges. */
import { InputError } from '../../../presses/input-error.ts';
import { invalidModel } from '../model/config.ts';
import { manifestFile } from './manifest.ts';
import type { FetchAsset } from './packed.ts';
import { type ModelFiles, type RangeReader, readerOfBlob } from './source.ts';

export interface WebOptions {
  /** In place of the browser's fetch. */
  readonly fetch?: typeof fetch;
  /** Sent with every request for the model, such as an authorization. */
  readonly headers?: HeadersInit;
  /** Ends the loading: what is thrown is the signal's reason. */
  readonly signal?: AbortSignal;
}

/** The last part of the address, as people read it. */
export function fileName({ pathname }: URL): string {
  const name = pathname.split('/').at(-1)!;
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}

/** The files of a packed model at `address`, with or without a last slash. `onBytes` is told of every piece that comes in. */
export function packedUrl(address: URL, options: WebOptions, onBytes: (bytes: number) => void): FetchAsset {
  const folder = new URL(address);
  if (!folder.pathname.endsWith('/')) folder.pathname += '/';
  return async (name) => {
    const url = new URL(name, folder);
    const { response, body } = await get(url, options, { onBytes });
    if (response.ok && !isWebPage(response)) return body;
    await body.cancel();
    const seen = response.ok ? 'answered with a web page' : `answered with status ${response.status}`;
    if (name === manifestFile)
      throw new InputError(
        'model_not_found',
        'model',
        `there is no packed model at ${folder}: ${name} is ${seen}; give the address of a folder that \`edgepress pack\` made, or of a .gguf file`,
      );
    throw invalidModel(`${name.startsWith('weights-') ? 'shard ' : ''}${name} is ${seen} at ${url}, though ${manifestFile} names it`);
  };
}

/** Whole files of a folder; what is not there is null, whatever the server answers for it. */
export function webFolder(address: URL, options: WebOptions): ModelFiles {
  const folder = new URL(address);
  if (!folder.pathname.endsWith('/')) folder.pathname += '/';
  return {
    async open(name) {
      const { response, body } = await get(new URL(name, folder), options);
      if (response.ok && !isWebPage(response)) return readerOfBlob(name, await new Response(body).blob());
      await body.cancel();
      return null;
    },
  };
}

/** A file of which only the ranges asked for come, where the server knows ranges; else all of it, which the browser may keep on its disk. */
export async function openUrl(url: URL, options: WebOptions, onNote?: (note: string) => void): Promise<RangeReader> {
  const name = fileName(url);
  const { response, body } = await get(url, options, { range: 'bytes=0-0' });
  const size = response.status === 206 ? sizeOf(response) : null;
  if (size !== null) {
    await body.cancel();
    return { name, size, read: (offset, length) => readRange(url, options, { offset, length, size }) };
  }
  if (response.status === 206) {
    // Another origin's Content-Range is hidden unless it says otherwise, and a part of unknown whole is of no use.
    await body.cancel();
    onNote?.(`${url} does not show Content-Range to pages of other origins: the file is read as a whole`);
    return wholeOf(url, name, await get(url, options));
  }
  if (response.ok && !isWebPage(response)) onNote?.(`${url} ignores Range: the file is read as a whole`);
  return wholeOf(url, name, { response, body });
}

async function wholeOf(url: URL, name: string, { response, body }: Answer): Promise<RangeReader> {
  if (response.ok && !isWebPage(response)) return readerOfBlob(name, await new Response(body).blob());
  await body.cancel();
  const seen = response.ok ? 'a web page' : `status ${response.status}`;
  throw new InputError('model_not_found', 'model', `there is no .gguf file at ${url}: the answer is ${seen}`);
}

async function readRange(
  url: URL,
  options: WebOptions,
  { offset, length, size }: { offset: number; length: number; size: number },
): Promise<Uint8Array<ArrayBuffer>> {
  if (length === 0) return new Uint8Array();
  const range = `bytes=${offset}-${offset + length - 1}`;
  const { response, body } = await get(url, options, { range });
  if (response.status !== 206 || sizeOf(response) !== size) {
    await body.cancel();
    throw invalidModel(`${url} changed while it was read, or its server does not keep to ranges: status ${response.status} for ${range} of ${size}`);
  }
  const bytes = new Uint8Array(await new Response(body).arrayBuffer());
  if (bytes.length !== length) throw invalidModel(`${url} is truncated: ${length} bytes wanted at ${offset}, got ${bytes.length}`);
  return bytes;
}

/** The whole file's, by a part's Content-Range; null where that is hidden or says none. */
function sizeOf(response: Response): number | null {
  const size = /\/(\d+)$/.exec(response.headers.get('content-range') ?? '')?.[1];
  return size === undefined ? null : Number(size);
}

/** What many servers answer for any address that they do not know. */
function isWebPage(response: Response): boolean {
  return response.headers.get('content-type')?.startsWith('text/html') ?? false;
}

interface Answer {
  readonly response: Response;
  readonly body: ReadableStream<Uint8Array<ArrayBuffer>>;
}

/** Any answer; InputError where there is none, or where it breaks off. */
async function get(
  url: URL,
  { fetch = globalThis.fetch, headers, signal }: WebOptions,
  { range, onBytes }: { range?: string; onBytes?: (bytes: number) => void } = {},
): Promise<Answer> {
  const sent = new Headers(headers);
  if (range) sent.set('range', range);
  const failed = (error: unknown, what: string): unknown =>
    signal?.aborted
      ? signal.reason
      : new InputError('model_unreachable', 'model', `${url} ${what} (${error instanceof Error ? error.message : error})`);
  const response = await fetch(url, { headers: sent, signal }).catch((error: unknown) => {
    throw failed(error, 'cannot be fetched: the server does not answer, or does not let pages of this origin read it');
  });
  const reader = response.body?.getReader();
  const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
    async pull(controller) {
      const { done, value } = (await reader?.read().catch((error: unknown) => {
        throw failed(error, 'broke off while it was read');
      })) ?? { done: true, value: undefined };
      if (done) return controller.close();
      onBytes?.(value.length);
      controller.enqueue(value as Uint8Array<ArrayBuffer>);
    },
    cancel: (reason) => reader?.cancel(reason),
  });
  return { response, body };
}
