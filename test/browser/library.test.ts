/** `import { loadModel } from "edgepress"` in a page, in headless Chromium: the same answers as the server's, or a sentence that says why not. */
import { readFileSync } from 'node:fs';
import type { Browser, Page, Route } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { exampleRequest } from '../../worker/api/example.ts';
import { answerIn, keepDevices, libraryPage, openBrowser, refusalIn, startSite } from '../support/browser.ts';
import { removePacked, type TestWorker } from '../support/worker.ts';

let site: TestWorker;
let expected: { text: string; keptPerLayer: readonly number[] };

beforeAll(async () => {
  site = await startSite();
  const { choices, usage } = await site.chat(exampleRequest);
  expected = { text: choices[0].message.content!, keptPerLayer: usage.kv_cache.kept_per_layer };
  expect(expected.text).toBe(' 4821');
});
afterAll(async () => {
  await site?.dispose();
  await removePacked();
});

describe('in a browser with no adapter', () => {
  let browser: Browser;
  let page: Page;
  beforeAll(async () => {
    browser = await openBrowser({ gpu: false });
    page = await libraryPage(browser, site);
  });
  afterAll(() => browser?.close());

  test('WASM answers as the server does, and progress goes up to the last byte', async () => {
    const { backend, notes, progress, ...answer } = await answerIn(page, { backend: 'wasm' });
    expect(answer).toEqual(expected);
    expect(backend).toEqual({ name: 'wasm', variant: 'relaxed simd' });
    expect(notes).toEqual([]);
    expect(progress.length).toBeGreaterThan(3); // one shard, in pieces
    const total = progress[0][1];
    expect(progress.map(([done]) => done)).toEqual([...new Set(progress.map(([done]) => done))].sort((a, b) => a - b));
    expect(progress.at(-1)).toEqual([total, total]);
  });

  test('the model runs on WASM by itself, and says why', async () => {
    for (const backend of [undefined, 'auto'] as const) {
      const { text, backend: ran, notes } = await answerIn(page, { backend });
      expect({ text, ran: ran.name }).toEqual({ text: expected.text, ran: 'wasm' });
      expect(notes).toEqual([expect.stringMatching(/wasm: .*no adapter|wasm: .*no WebGPU/)]);
    }
  });

  test('WebGPU that was asked for is refused, with what would work', async () => {
    expect(await refusalIn(page, { backend: 'webgpu' })).toMatch(/^InputError no_gpu: .*; backend "wasm" works everywhere$/);
  });

  test('what is no backend, and what is no model, is refused in words', async () => {
    const wasm = { backend: 'wasm' } as const;
    expect(await refusalIn(page, { backend: 'cuda' as 'wasm' })).toBe(
      'InputError invalid_value: backend must be "webgpu", "wasm" or "auto", got "cuda"',
    );
    expect(await refusalIn(page, wasm, '/chat/nothing')).toMatch(
      /^InputError model_not_found: there is no packed model at http.*\/chat\/nothing\/: manifest\.json is answered with status 404; give/,
    );
    expect(await refusalIn(page, wasm, '/chat/nothing.gguf')).toMatch(/model_not_found: there is no \.gguf file at .*: the answer is status 404/);
    expect(await refusalIn(page, wasm, 'http://127.0.0.1:9/model')).toMatch(
      /model_unreachable: .*manifest\.json cannot be fetched: the server does not answer/,
    );
    await page.route('**/spa/**', (route) => route.fulfill({ contentType: 'text/html', body: '<!doctype html>' }));
    expect(await refusalIn(page, wasm, '/spa/')).toMatch(/model_not_found: .*manifest\.json is answered with a web page/);
  });

  test('a corrupt shard, a short one and one that is missing are refused by name', async () => {
    const shard = readFileSync('dist/browser/model/weights-000.bin');
    const corrupt = Buffer.from(shard);
    corrupt[corrupt.length >> 1] ^= 1;
    const cases: [answer: Parameters<Route['fulfill']>[0], says: RegExp][] = [
      [{ body: corrupt }, /model_invalid: shard weights-000\.bin is damaged: SHA-256/],
      [{ body: shard.subarray(0, 1000) }, /model_invalid: shard weights-000\.bin is truncated: 1000 of 5\d{6} bytes/],
      [{ status: 404 }, /model_invalid: shard weights-000\.bin is answered with status 404/],
    ];
    for (const [answer, says] of cases) {
      const replace = (route: Route) => route.fulfill(answer);
      await page.route('**/weights-000.bin', replace);
      expect(await refusalIn(page, { backend: 'wasm' })).toMatch(says);
      await page.unroute('**/weights-000.bin', replace);
    }
    expect((await answerIn(page, { backend: 'wasm' })).text).toBe(expected.text);
  });

  test('a signal ends the loading with its reason', async () => {
    const reason = await page.evaluate(async () => {
      const stop = new AbortController();
      const loading = edgepress.loadModel(undefined, { backend: 'wasm', signal: stop.signal, onProgress: () => stop.abort('enough') });
      return loading.then(
        () => 'it was loaded',
        (error) => error,
      );
    });
    expect(reason).toBe('enough');
  });

  test('a Web Worker loads and runs it too', async () => {
    const text = await page.evaluate(async (question) => {
      const code = `
        const { loadModel } = await import(${JSON.stringify(new URL('/chat/edgepress.js', location.href).href)});
        const model = await loadModel(${JSON.stringify(new URL('/chat/model', location.href).href)}, { backend: 'wasm' });
        let text = '';
        for await (const event of model.generate({ prompt: ${JSON.stringify(question)}, sampling: { temperature: 0 } })) text += event.text ?? '';
        postMessage(text);`;
      const worker = new Worker(URL.createObjectURL(new Blob([code], { type: 'text/javascript' })), { type: 'module' });
      return new Promise<string>((resolve, reject) => {
        worker.onmessage = ({ data }) => resolve(data);
        worker.onerror = ({ message }) => reject(new Error(message));
      });
    }, 'The number for busy-cart is 82.\nWhat is the number for busy-cart?');
    expect(text).toBe(' 82');
  });

  test('a .gguf file is read by ranges, or as a whole where the server ignores them; the same bytes, the same logits', async () => {
    const file = readFileSync('test/golden/gguf/tiny-llama.gguf');
    let asked = 0;
    await page.route('**/ranges/tiny-llama.gguf', (route) => {
      asked++;
      const [from, to] = /bytes=(\d+)-(\d+)/.exec(route.request().headers().range)!.slice(1).map(Number);
      const headers = { 'content-range': `bytes ${from}-${to}/${file.length}` };
      return route.fulfill({ status: 206, headers, body: file.subarray(from, to + 1) });
    });
    await page.route('**/whole/tiny-llama.gguf', (route) => route.fulfill({ body: file }));
    const seen = await page.evaluate(async () => {
      const load = async (source: string | Blob) => {
        const notes: string[] = [];
        const model = await edgepress.loadModel(source, { backend: 'wasm', onNote: (note) => notes.push(note) });
        const { id, fingerprint } = model.info;
        const { layers } = await model.inspect({ kind: 'tokens', tokens: [3, 1, 4, 1, 5, 9, 2, 6] }, 'knorm');
        model.close();
        return { id, notes, rest: JSON.stringify([fingerprint, layers]) };
      };
      const blob = await (await fetch('/whole/tiny-llama.gguf')).blob();
      return [await load('/ranges/tiny-llama.gguf'), await load('/whole/tiny-llama.gguf'), await load(new File([blob], 'mine.gguf'))];
    });
    expect(seen.map(({ id, notes }) => ({ id, notes }))).toEqual([
      { id: 'tiny-llama', notes: [] },
      { id: 'tiny-llama', notes: [expect.stringMatching(/ignores Range: the file is read as a whole/)] },
      { id: 'mine', notes: [] },
    ]);
    expect(new Set(seen.map(({ rest }) => rest)).size).toBe(1);
    expect(asked).toBeGreaterThan(5);
  });
});

/** One page and one model: on SwiftShader most of the time goes into compiling kernels for a new device. */
describe('in a browser with an adapter', () => {
  let browser: Browser;
  let page: Page;
  beforeAll(async () => {
    browser = await openBrowser({ gpu: true });
    page = await libraryPage(browser, site, keepDevices);
  });
  afterAll(() => browser?.close());

  test('a software adapter is not taken by itself: WASM is faster, and the page is told', async () => {
    const { text, backend, notes } = await answerIn(page, {});
    expect([text, backend.name]).toEqual([expected.text, 'wasm']);
    expect(notes.join()).toMatch(/the only adapter computes on the CPU.*backend "webgpu" takes it all the same/);
  });

  test('WebGPU answers as the server does, and names its adapter', async () => {
    const { backend, notes, ...answer } = await answerIn(page, { backend: 'webgpu', keep: true });
    expect(answer).toMatchObject(expected);
    expect(backend).toEqual({ name: 'webgpu', variant: expect.stringMatching(/, .* kernels$/) });
    expect(notes).toEqual([]);
  });

  test('a device that is destroyed in mid-generation ends that request with a sentence, and the next one is answered; after a second time on WASM', async () => {
    const seen = await page.evaluate(async ({ messages, press, max_tokens: maxTokens }) => {
      const ask = async (onText: (() => void) | null) => {
        let text = '';
        for await (const event of model.generate({ prompt: messages, press, sampling: { temperature: 0, maxTokens, ignoreEos: onText !== null } })) {
          if (event.type === 'text') text += event.text;
          if (event.type === 'text') onText?.();
        }
        return { text, backend: model.health().backend.name };
      };
      const destroyed = () => ask(() => devices.at(-1)!.destroy()).catch((error) => `${error.name} ${error.code}: ${error.message}`);
      return { heard: [await destroyed(), await ask(null), await destroyed(), await ask(null)], devices: devices.length };
    }, exampleRequest);
    const failed = expect.stringMatching(/^InputError device_failed: .*send it again$/);
    const answered = (backend: string) => ({ text: expected.text, backend });
    expect(seen).toEqual({ heard: [failed, answered('webgpu'), failed, answered('wasm')], devices: 3 }); // the first was not taken
  });
});
