/** The locks under V8's optimising compiler in workerd, where a waiter must go on in its own request's context whoever wakes it. */
import { build } from 'esbuild';
import { Miniflare } from 'miniflare';
import { expect, test } from 'vitest';

const REQUESTS = 15_000; // without Promise.withResolvers in gate.ts the first of them failed at 2,600 to 6,800, and most after it
const SIDE_BY_SIDE = 8;

const worker = `
import { FairLock } from './worker/engine/gate.ts';
const [reading, turn] = [new FairLock(60_000), new FairLock(60_000)];
const pieces = async (signal, count) => {
  for (let i = 0; i < count; i++) {
    const held = await turn.acquire(signal);
    held.release();
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
};
export default {
  async fetch() {
    const { signal } = new AbortController(); // asking it anything in another request's context throws
    try {
      const slot = await reading.acquire(signal);
      await pieces(signal, 5);
      slot.release();
      await pieces(signal, 20);
      return new Response('done');
    } catch (error) {
      return new Response(String(error), { status: 500 });
    }
  },
};`;

test('thousands of requests that wake one another all go on in their own context', async () => {
  const bundle = await build({
    stdin: { contents: worker, resolveDir: process.cwd(), loader: 'ts' },
    bundle: true,
    format: 'esm',
    platform: 'neutral',
    write: false,
  });
  const workerd = new Miniflare({ modules: true, script: bundle.outputFiles[0].text, compatibilityDate: '2026-04-26', cf: false });
  try {
    const url = await workerd.ready;
    let sent = 0;
    const ask = async () => {
      while (sent < REQUESTS) {
        const number = ++sent;
        const response = await fetch(url);
        const text = await response.text();
        if (text !== 'done') throw new Error(`request ${number}: ${text}`);
      }
    };
    await Promise.all(Array.from({ length: SIDE_BY_SIDE }, ask));
    expect(sent).toBeGreaterThanOrEqual(REQUESTS);
  } finally {
    await workerd.dispose();
  }
}, 120_000);
