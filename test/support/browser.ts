/** Headless Chromium on the page that the worker serves, driven by playwright-core. */
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { type Browser, chromium, type Page } from 'playwright-core';
import { siteOf } from '../../cli/serve-workerd.ts';
import { exampleRequest } from '../../worker/api/example.ts';
import type * as Edgepress from '../../worker/browser.ts';
import { packedNeedle, startWorker, type TestWorker } from './worker.ts';

declare global {
  var edgepress: typeof Edgepress;
  /** Every device that a page asked for, where `keepDevices` was called. */
  var devices: GPUDevice[];
  /** What `answerIn` kept. */
  var model: Edgepress.Model;
}

const FLAGS = ['--no-sandbox', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-first-run', '--disable-quic'];

/** With `gpu` there is an adapter on every machine, be it SwiftShader; without it there is none on any. */
export async function openBrowser({ gpu }: { gpu: boolean }): Promise<Browser> {
  const { CHROMIUM: executablePath = '/usr/bin/chromium' } = process.env;
  if (!existsSync(executablePath))
    throw new Error(`there is no Chromium at ${executablePath}: \`apt-get install chromium\` as root (Debian), or set CHROMIUM to the path of one`);
  return chromium.launch({ executablePath, headless: true, args: [...FLAGS, gpu ? '--enable-unsafe-webgpu' : '--disable-gpu'] });
}

/** The worker with models/needle, and the page in chat/. */
export async function startSite(): Promise<TestWorker> {
  if (!existsSync('dist/browser/index.html')) throw new Error('there is no dist/browser: `npm run build` makes it');
  const assets = await siteOf(await packedNeedle(), 'dist/browser');
  const worker = await startWorker({ assets });
  const dispose = async () => {
    await worker.dispose();
    await rm(assets, { recursive: true });
  };
  return { ...worker, dispose };
}

/** A page of that origin with nothing on it but the library, imported as any program would. */
export async function libraryPage(browser: Browser, { url }: TestWorker, before?: (page: Page) => Promise<unknown>): Promise<Page> {
  const page = await browser.newPage();
  await before?.(page);
  await page.goto(url.href);
  await page.evaluate("import('/chat/edgepress.js').then((module) => { globalThis.edgepress = module; })"); // vitest would rewrite it outside a string
  return page;
}

/** For `before`: the page's devices stand in `devices`. */
export function keepDevices(page: Page): Promise<unknown> {
  return page.addInitScript(() => {
    globalThis.devices = [];
    const { requestDevice } = GPUAdapter.prototype;
    GPUAdapter.prototype.requestDevice = async function (descriptor) {
      const device = await requestDevice.call(this, descriptor);
      globalThis.devices.push(device);
      return device;
    };
  });
}

export interface Answer {
  readonly text: string;
  readonly keptPerLayer: readonly number[];
  readonly backend: { readonly name: string; readonly variant: string };
  readonly notes: readonly string[];
  /** What onProgress was told. */
  readonly progress: readonly (readonly [done: number, total: number])[];
}

/** Loads the embedded model in the page, asks it what the README asks, and closes it, or keeps it as `model`. */
export function answerIn(page: Page, { backend, keep = false }: Pick<Edgepress.LoadOptions, 'backend'> & { keep?: boolean }): Promise<Answer> {
  return page.evaluate(
    async ({ backend, keep, example: { messages, press, max_tokens: maxTokens } }) => {
      const notes: string[] = [];
      const progress: [number, number][] = [];
      const model = await edgepress.loadModel(undefined, {
        backend,
        onNote: (note) => notes.push(note),
        onProgress: (done, total) => progress.push([done, total]),
      });
      let text = '';
      let keptPerLayer: readonly number[] = [];
      for await (const event of model.generate({ prompt: messages, press, sampling: { temperature: 0, maxTokens } })) {
        if (event.type === 'text') text += event.text;
        if (event.type === 'finish') keptPerLayer = event.usage.kvCache.kept_per_layer;
      }
      const ran = model.health().backend;
      if (keep) globalThis.model = model;
      else model.close();
      return { text, keptPerLayer, backend: ran, notes, progress };
    },
    { backend, keep, example: exampleRequest },
  );
}

/** What loading says when it fails: the error's name, code and message. */
export function refusalIn(page: Page, options: Pick<Edgepress.LoadOptions, 'backend'>, source?: string): Promise<string> {
  return page.evaluate(
    ({ options, source }) =>
      edgepress.loadModel(source, options).then(
        () => 'it was loaded',
        (error) => `${error.name} ${error.code}: ${error.message}`,
      ),
    { options, source },
  );
}
