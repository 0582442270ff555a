import { expect, test } from 'vitest';
import { parseConfig, pressesOf } from '../../evaluation/config.ts';
import { gridPresses, variantsOf } from '../../evaluation/variants.ts';

const named = (...presses: string[]) => presses.map((press) => ({ name: press, press }));
const keys = (presses: Parameters<typeof variantsOf>[0], ratios = [0.25, 0.5]) => variantsOf(presses, ratios, false).variants.map(({ key }) => key);

test('every press at every ratio, in the scope of the question', () => {
  const { variants, refused } = variantsOf(named('knorm', 'zigzag_snapkv'), [0.25, 0.5], false);
  expect(variants.map(({ key }) => key)).toEqual(['knorm@0.25', 'knorm@0.5', 'zigzag_snapkv@0.25', 'zigzag_snapkv@0.5']);
  expect(variants.every(({ request }) => request.scope === 'context')).toBe(true);
  expect(variants[1].request.presses[0].compressionRatio).toBe(0.5);
  expect(refused).toEqual([]);
  expect(variantsOf(named('knorm'), [0.5], true).variants[0].request.scope).toBe('prompt');
});

test('a press that says itself how much it keeps is one variant', () => {
  expect(keys(named('no_press', 'simlayerkv', 'decoding_knorm'))).toEqual(['no_press', 'simlayerkv', 'decoding_knorm']);
  expect(keys([{ name: 'mine', press: { preset: 'knorm', compression_ratio: 0.3 } }])).toEqual(['mine']);
  expect(keys([{ name: 'think', press: { preset: 'think', key_channel_compression_ratio: 0.5 } }])).toEqual(['think']);
  expect(keys([{ name: 'two', press: [{ preset: 'snapkv', compression_ratio: 0.5 }, 'think'] }])).toEqual(['two']);
});

test('a ratio of 0 is one that a press takes, and none that it may leave out: its own would remove half', () => {
  const { variants } = variantsOf(named('no_press', 'knorm', 'simlayerkv'), [0], false);
  expect(variants.map(({ key }) => key)).toEqual(['no_press', 'knorm@0', 'simlayerkv']);
  expect(variants[1].request.presses[0].compressionRatio).toBe(0);
});

test('a press is called by a few words; those that are megabytes long are not told, and no list is empty', () => {
  const long = 'x'.repeat(1e6);
  for (const presses of [[long], [{ preset: 'snapkv', window_size: long }], [{ name: long, press: 'snapkv' }]])
    expect(() => pressesOf(parseConfig({ presses }, 'x'))).toThrow(/^the press ".{60}" has a name of 10\d{5} characters; .{1,100}$/);
  for (const name of ['a\nb', '\x1b[2J'])
    expect(() => pressesOf(parseConfig({ presses: [{ name, press: 'snapkv' }] }, 'x'))).toThrow(/a name on one line works/);
  for (const field of ['dataset', 'data_config', 'data_path', 'style', 'essay', 'questions'])
    expect(() => parseConfig({ [field]: long }, 'x')).toThrow(/^x: \w+ must have at most \d+ characters, got .{1,100}$/);
  for (const field of ['presses', 'ratios', 'tasks', 'lengths']) expect(() => parseConfig({ [field]: [] }, 'x')).toThrow(/must not be empty/);
});

test('a name of its own does not hide that a press was changed', () => {
  const key = (window_size: number) =>
    keys(pressesOf(parseConfig({ presses: [{ name: 'mine', press: { preset: 'snapkv', window_size } }] }, 'test')), [0.5]);
  expect(key(8)).toEqual([expect.stringMatching(/^mine#[0-9a-f]{8}@0\.5$/)]);
  expect(key(8)).toEqual(key(8));
  expect(key(8)).not.toEqual(key(9));
});

test('what is refused is told with the reason, and the rest goes on', () => {
  const grid = gridPresses({
    scorers: ['knorm', { name: 'snapkv', window_size: 16 }],
    layer_budgets: ['uniform', 'zigzag'],
    head_budgets: ['adakv'],
  });
  expect(grid.map(({ name }) => name)).toEqual([
    'knorm+uniform+adakv',
    'knorm+zigzag+adakv',
    'snapkv(window_size=16)+uniform+adakv',
    'snapkv(window_size=16)+zigzag+adakv',
  ]);
  const { variants, refused } = variantsOf([...grid, ...named('streaming_llm')], [0.5], false);
  expect(variants.length + refused.length).toBe(5);
  expect(() => variantsOf(named('knorm', 'nope'), [0.5], false)).toThrow(/unknown preset "nope"/);
  expect(() => variantsOf([{ name: 'bad', press: 7 }], [0.5], false)).toThrow(/must be a preset name/);
});

test('two presses of one name are refused unless they are the same; a config nested deeper than the stack too', () => {
  const both = (press: string) =>
    pressesOf(parseConfig({ presses: [{ name: 'mine', press: 'snapkv' }, { name: 'mine', press }, 'knorm', 'knorm'] }, 'x'));
  expect(() => both('knorm')).toThrow('two presses are called "mine"');
  expect(both('snapkv').map(({ name }) => name)).toEqual(['mine', 'knorm']);
  const deep = JSON.parse(`${'['.repeat(100_000)}${']'.repeat(100_000)}`);
  for (const json of [{ presses: [deep] }, { grid: { scorers: [{ name: deep }] } }, deep])
    expect(() => parseConfig(json, 'x.json')).toThrow('x.json: lists or objects in each other more than 64 deep');
});
