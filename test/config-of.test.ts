/** Press configs written out in full: read again they are the same presses, and two that differ are told apart by what differs. */
import { expect, test } from 'vitest';
import { parsePress } from '../presses/config.ts';
import { configOf, pressDifference } from '../presses/config-of.ts';
import type { PressRequest } from '../presses/contract.ts';
import { InputError } from '../presses/input-error.ts';
import { presets } from '../presses/presets.ts';
import { withArtifacts } from './support/artifacts.ts';

const nameless = ({ presses, name: _, ...rest }: PressRequest) => ({ ...rest, presses: presses.map((press) => ({ ...press, name: '', path: '' })) });
const again = (press: PressRequest): PressRequest => parsePress(JSON.parse(JSON.stringify(configOf(press))));

const beside: Record<string, unknown>[] = [
  {},
  { compression_ratio: 0.3 },
  { compression_ratio: 0 },
  { memory_budget: '3MiB' },
  { schedule: 'decoding' },
  { schedule: { name: 'prefill_and_decoding', interval: 3 } },
  { compat: 'kvpress' },
  { scope: { protect_last: 3 }, explain: true, entry_type: 'int8', mode: 'deferred', on_tight: 'uniform' },
];

test.each(beside)('every preset that takes %j is the same press when its config is written out and read', (extra) => {
  let taken = 0;
  for (const name of Object.keys(presets)) {
    let press: PressRequest;
    try {
      press = parsePress({ ...(withArtifacts(name) as object), ...extra });
    } catch (error) {
      expect(error).toBeInstanceOf(InputError);
      continue;
    }
    taken++;
    expect(nameless(again(press)), name).toEqual(nameless(press));
    expect(pressDifference(press, again(press)), name).toBeNull();
  }
  expect(taken).toBeGreaterThan(10);
});

test('lists of presses, and no press at all', () => {
  for (const press of [
    null,
    { preset: 'no_press', scope: 'prompt', entry_type: 'f16' },
    [{ preset: 'knorm', compression_ratio: 0.25, scope: { protect_last: 2 } }, { preset: 'think' }],
    [
      { preset: 'knorm', compression_ratio: 0.25 },
      { preset: 'cam_tova', merge_budget: 4, interval: 11, target_size: 60 },
    ],
  ])
    expect(nameless(again(parsePress(press)))).toEqual(nameless(parsePress(press)));
});

test('a difference is told by what it is and what was asked', () => {
  const difference = (is: unknown, asked: unknown) => pressDifference(parsePress(is), parsePress(asked));
  const snapkv = { preset: 'snapkv', compression_ratio: 0.5 };
  expect(difference(snapkv, { ...snapkv, mode: 'deferred', explain: true })).toBeNull();
  expect(difference(snapkv, { scorer: 'snapkv' })).toBeNull();
  expect(difference(snapkv, { ...snapkv, compression_ratio: 0.8 })).toBe(
    'its press is "snapkv" with compression_ratio 0.5, and "snapkv" with compression_ratio 0.8 was asked for',
  );
  expect(difference(snapkv, { ...snapkv, window_size: 8 })).toMatch(/scorer\.window_size 64, and "snapkv" with scorer\.window_size 8 was/);
  expect(difference(snapkv, { preset: 'zigzag_snapkv' })).toMatch(
    /"snapkv" with layer_budget "uniform", and "zigzag_snapkv" with layer_budget "zigzag"/,
  );
  expect(difference('no_press', 'knorm')).toMatch(/^its press is "no_press", and "knorm" with scorer "knorm"/);
  expect(difference(snapkv, [snapkv, 'think'])).toMatch(/\[1\]|\[0\]/);
});
