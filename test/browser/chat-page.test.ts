/** The page at /chat/, as somebody sees it who opens it. */
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { exampleRequest } from '../../worker/api/example.ts';
import { openBrowser, startSite } from '../support/browser.ts';
import { removePacked, type TestWorker } from '../support/worker.ts';

let site: TestWorker;
let browser: Browser;
let page: Page;
const complaints: string[] = [];

beforeAll(async () => {
  [site, browser] = await Promise.all([startSite(), openBrowser({ gpu: false })]);
  page = await browser.newPage();
  page.on('pageerror', ({ message }) => complaints.push(message));
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  page.on('request', (request) => {
    if (new URL(request.url()).origin !== site.url.origin && !request.url().startsWith('data:')) complaints.push(`asked for ${request.url()}`);
  });
  await page.goto(new URL('/chat/', site.url).href);
  await page.getByText('needle runs on WASM').waitFor();
});
afterAll(async () => {
  await browser?.close();
  await site?.dispose();
  await removePacked();
});

const status = () => page.getByRole('region', { name: 'Model' }).locator('.status-text');
const error = () => page.getByRole('alert');
const ask = () => page.getByRole('button', { name: 'Ask' }).click();
const rows = async (caption: string) => {
  const lines = await page.getByRole('table', { name: caption }).getByRole('row').allInnerTexts();
  return lines.map((line) => line.split('\t').filter((cell) => cell.trim() !== ''));
};

test('it loads the embedded model and says where it runs and why', async () => {
  expect(await status().innerText()).toMatch(/2\.7 million parameters, 5\.07 MiB\. the model runs on wasm: this browser has/i);
  expect(await page.getByRole('progressbar').isVisible()).toBe(false);
});

test('the question that it begins with is answered, and what the press kept is shown: what the server tells of the same request', async () => {
  const { tokens, kept_per_layer, bytes_full, bytes_kept } = (await site.chat(exampleRequest)).usage.kv_cache;
  expect(new Set(kept_per_layer).size).toBeGreaterThan(1);
  await ask();
  await page.getByText(/6 written in/).waitFor();
  expect(await page.locator('#answer').innerText()).toBe(' 4821');
  const [head, ...layers] = await rows('Tokens kept per layer');
  expect(head).toEqual(['Layer', 'Kept', 'LMBA', 'Attention']);
  expect(layers).toEqual(
    kept_per_layer.map((kept, layer) => [String(layer), String(kept), expect.stringMatching(/^\d/), expect.stringMatching(/^\d+%$/)]),
  );
  const share = (bytes: number) => [`${Math.round(bytes / 1024)} KiB`, `${Math.round((100 * bytes) / bytes_full)}%`];
  expect(await rows('Bytes')).toEqual([
    ['full', ...share(bytes_full)],
    ['kept', ...share(bytes_kept)],
    ['peak', expect.stringMatching(/KiB$/), expect.stringMatching(/%$/)],
  ]);
  const widths = await page.locator('#layers .fill').evaluateAll((bars) => bars.map((bar) => bar.clientWidth / bar.parentElement!.clientWidth));
  for (const [layer, width] of widths.entries()) expect(width).toBeCloseTo(kept_per_layer[layer] / tokens, 1);
});

test("a document and a question of one's own, and another press", async () => {
  await page.getByLabel('Document').fill('Anna lives in Oslo. The number for busy-cart is 82.');
  await page.getByLabel('Question').fill('What is the number for busy-cart?');
  await page.getByLabel('What is kept').selectOption('knorm');
  expect(await page.getByLabel('Window, in tokens').isVisible()).toBe(false);
  await page.getByLabel('Removed').fill('10');
  await page.keyboard.press('Enter');
  await page.getByText(/knorm on \d+ tokens/).waitFor();
  await page.getByLabel('What is kept').selectOption('no_press');
  expect(await page.getByLabel('Removed').isVisible()).toBe(false);
  await ask();
  await page.getByText(/no_press on \d+ tokens/).waitFor();
  await page.getByText(/written in/).waitFor();
  expect(await page.locator('#answer').innerText()).toBe(' 82');
  expect((await rows('Bytes'))[1][2]).toBe('100%');
});

test('presses are grouped by what they do, each told in a line; none that reads a file or acts on longer answers; a ratio where one is taken', async () => {
  const groups = await page.locator('#preset optgroup').evaluateAll((all) => all.map((one) => (one as HTMLOptGroupElement).label));
  expect(new Set(groups).size).toBe(groups.length);
  expect(groups.length).toBeGreaterThan(8);
  const names = await page.locator('#preset optgroup > option').evaluateAll((all) => all.map((one) => (one as HTMLOptionElement).value));
  expect(await page.locator('#preset option').count()).toBe(names.length);
  expect(names).toEqual(expect.arrayContaining(['no_press', 'snapkv', 'simlayerkv', 'zigzag_snapkv']));
  for (const name of ['qfilter', 'duo_attention', 'zigzag_kvzap', 'decoding_tova', 'cam_knorm']) expect(names).not.toContain(name);
  for (const [name, takesRatio, summary] of [
    ['simlayerkv', false, /^SimLayerKV: lazy layers/],
    ['think', false, /sets key channels to zero/],
    ['knorm', true, /^keys of small norm/],
  ] as const) {
    await page.getByLabel('What is kept').selectOption(name);
    expect(await page.locator('#preset-summary').innerText()).toMatch(summary);
    expect(await page.getByLabel('Removed').isVisible(), name).toBe(takesRatio);
  }
});

test('what cannot be done is said in words, and the next question is answered', async () => {
  await page.getByLabel('Question').fill('  ');
  await ask();
  expect(await error().innerText()).toBe('There is no question: type one.');
  await page.getByLabel('Question').fill('What is the number for busy-cart?');
  await page.getByLabel('What is kept').selectOption('snapkv');
  await page.getByLabel('Removed').fill('90');
  await page.getByLabel('Window, in tokens').fill('64');
  await ask();
  await error().getByText(/64/).waitFor();
  await page.getByLabel('What is kept').selectOption('no_press');
  await ask();
  await page.getByText(/written in/).waitFor();
  expect(await error().isVisible()).toBe(false);
  expect(await page.locator('#answer').innerText()).toBe(' 82');
});

test('a GPU that was asked for and is not there is said so, and WASM can be chosen instead', async () => {
  await page.getByLabel('Run on').selectOption('webgpu');
  await page.getByText('The model could not be loaded').waitFor();
  expect(await status().innerText()).toMatch(/backend "wasm" works everywhere/);
  expect(await page.getByRole('button', { name: 'Ask' }).isDisabled()).toBe(true);
  await page.getByLabel('Run on').selectOption('wasm');
  await page.getByText('needle runs on WASM').waitFor();
});

test('nothing was asked of anybody else, and the log is clean', () => {
  expect(complaints).toEqual([]);
});

test('the page and the embedded model are for everybody, the served model is for the worker alone', async () => {
  const statusOf = async (path: string) => (await fetch(new URL(path, site.url))).status;
  expect(await Promise.all(['/chat/', '/chat/page.css', '/chat/model/manifest.json', '/chat/nothing'].map(statusOf))).toEqual([200, 200, 200, 404]);
  expect(await Promise.all(['/manifest.json', '/weights-000.bin', '/tokenizer.json', '/chat/../manifest.json'].map(statusOf))).toEqual([
    404, 404, 404, 404,
  ]);
});
