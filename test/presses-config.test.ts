/** The `press` field of a request: every form, what it becomes, and what a mistake is told. */
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { PRESETS } from '../presses/aliases.ts';
import { parsePress, pressJsonSchema } from '../presses/config.ts';
import { toldNames } from '../presses/did-you-mean.ts';
import { InputError } from '../presses/input-error.ts';
import { listPresses } from '../presses/list-presses.ts';
import { partList, presetParts, presets } from '../presses/presets.ts';
import { headBudgets, layerBudgets, scorers, selections, transforms } from '../presses/registry.ts';
import { presetArtifacts } from './support/artifacts.ts';

function refusal(json: unknown): { code: string; param: string | null; message: string } {
  try {
    parsePress(json);
  } catch (error) {
    if (error instanceof InputError) return { code: error.code, param: error.param, message: error.message };
    throw error;
  }
  throw new Error(`${JSON.stringify(json)} was accepted`);
}

/** Every form that the README shows, and every field; each must pass the parser and the published schema. */
const documented: unknown[] = [
  'zigzag_snapkv',
  'no_press',
  { preset: 'zigzag_snapkv', compression_ratio: 0.8 },
  {
    scorer: { name: 'snapkv', window_size: 32 },
    layer_budget: { name: 'zigzag', threshold: 0.9, bound_ratio: 0.2 },
    head_budget: { name: 'adakv', alpha_safeguard: 0.2 },
    compression_ratio: 0.8,
  },
  { preset: 'knorm', memory_budget: '16MiB' },
  { preset: 'knorm', memory_budget: 1048576 },
  [{ preset: 'snapkv', compression_ratio: 0.5 }, { preset: 'knorm' }],
  { preset: 'snapkv', window_size: 32 },
  { preset: 'zigzag_adakv_snapkv', window_size: 32, kernel_size: 7, threshold: 0.95, bound_ratio: 0.1, alpha_safeguard: 0.3 },
  { scorer: 'tova' },
  { scorer: 'knorm', layer_budget: { name: 'per_layer', compression_ratios: [0.2, 0.8] } },
  { scorer: { name: 'random', seed: 1 }, selection: 'top_k' },
  { scorer: 'keydiff', selection: { name: 'top_k' }, scope: { protect_last: 12 }, mode: 'deferred', entry_type: 'int8', on_tight: 'uniform' },
  { preset: 'pyramidkv', beta: 10, scope: 'prompt', compat: 'kvpress' },
  { preset: 'no_press', entry_type: 'int8', scope: 'prompt' },
  { scorer: 'streaming_llm', layer_budget: { name: 'zigzag', lmba_from: 'attention' } },
];

describe('parsePress', () => {
  test.each(documented.map((json) => [JSON.stringify(json), json]))('%s', (_text, json) => {
    expect(() => parsePress(json)).not.toThrow();
  });

  test('a preset that removes no tokens takes no ratio', () => {
    expect(refusal({ preset: 'think', compression_ratio: 0.5 })).toMatchObject({ code: 'press_conflict', param: 'press.compression_ratio' });
    expect(refusal({ preset: 'think', memory_budget: '1MiB' }).message).toMatch(/removes no tokens.*compose it/);
    expect(parsePress({ preset: 'think', compression_ratio: 0 }).presses[0].compressionRatio).toBe(0);
  });

  test('a name is a preset with its defaults, and removes half', () => {
    const { presses, name, scope, entryType } = parsePress('zigzag_snapkv');
    expect({ name, scope, entryType }).toEqual({ name: 'zigzag_snapkv', scope: null, entryType: null });
    expect(presses.length).toBe(1);
    const [press] = presses;
    expect(press.scorer).toEqual({ part: scorers.snapkv, params: { window_size: 64, kernel_size: 5 } });
    expect(press.layerBudget).toEqual({ part: layerBudgets.zigzag, params: { threshold: 0.9, bound_ratio: 0.2, lmba_from: 'scores' } });
    expect(press.headBudget).toEqual({ part: headBudgets.uniform, params: {} });
    expect(press).toMatchObject({
      compressionRatio: 0.5,
      memoryBudgetBytes: null,
      mode: 'streaming',
      compat: false,
      onTight: 'reject',
    });
  });

  test('defaults are those of the papers', () => {
    const params = (json: unknown) => {
      const [{ scorer, layerBudget, headBudget }] = parsePress(json).presses;
      return { ...scorer.params, ...layerBudget.params, ...headBudget.params };
    };
    expect(params('streaming_llm')).toEqual({ n_sink: 4 });
    expect(params('cur')).toEqual({
      num_sinks: 4,
      leverage_type: 'kv_product',
      use_local_approximation: true,
      local_window_size: 16,
      use_random_leverage: false,
    });
    expect(params('pyramidkv')).toEqual({ window_size: 64, kernel_size: 5, beta: 20 });
    expect(params('adakv_snapkv')).toEqual({ window_size: 64, kernel_size: 5, alpha_safeguard: 0.2 });
  });

  test('absent, null and no_press are no press', () => {
    for (const json of [undefined, null, 'no_press', { preset: 'no_press' }])
      expect(parsePress(json)).toEqual({ presses: [], name: 'no_press', scope: null, explain: false, entryType: null });
    expect(parsePress({ preset: 'no_press', compression_ratio: 0, entry_type: 'int8' }).entryType).toBe('int8');
  });

  test('a preset, spelled out, is the same press under another name', () => {
    const spelled = parsePress({ scorer: 'snapkv', layer_budget: 'zigzag', head_budget: 'adakv' });
    expect(spelled.name).toBe('snapkv+zigzag+adakv');
    const { name: _, ...preset } = parsePress('zigzag_adakv_snapkv').presses[0];
    expect(spelled.presses[0]).toMatchObject(preset);
  });

  test('a preset takes the parameters of its parts beside its name', () => {
    const [press] = parsePress({ preset: 'zigzag_snapkv', window_size: 32, bound_ratio: 0.5 }).presses;
    expect(press.scorer.params).toEqual({ window_size: 32, kernel_size: 5 });
    expect(press.layerBudget.params).toMatchObject({ bound_ratio: 0.5 });
  });

  test('memory budgets are bytes, or a number with a unit', () => {
    const bytes = (memory: unknown) => parsePress({ preset: 'knorm', memory_budget: memory }).presses[0].memoryBudgetBytes;
    expect(['16MiB', '512KiB', '1.5 MiB', '2MB', '100 B', '100', '1gib', 12345].map(bytes)).toEqual([
      2 ** 24,
      2 ** 19,
      1.5 * 2 ** 20,
      2e6,
      100,
      100,
      2 ** 30,
      12345,
    ]);
    expect(parsePress({ preset: 'knorm', memory_budget: '1MiB' }).presses[0].compressionRatio).toBeNull();
  });

  test('per_layer ratios stand for the compression ratio: their mean', () => {
    const [press] = parsePress({ scorer: 'knorm', layer_budget: { name: 'per_layer', compression_ratios: [0.25, 0.75] } }).presses;
    expect(press.compressionRatio).toBe(0.5);
  });

  test('composed presses share scope, mode, compat and entry type, wherever they are named', () => {
    const request = parsePress([
      { preset: 'snapkv', scope: 'prompt' },
      { preset: 'knorm', entry_type: 'int8', mode: 'deferred', compat: 'kvpress' },
    ]);
    expect(request).toMatchObject({ name: 'snapkv|knorm', scope: 'prompt', entryType: 'int8' });
    expect(request.presses.map(({ mode, compat }) => [mode, compat])).toEqual(Array(2).fill(['deferred', true]));
    expect(parsePress(['no_press', 'knorm']).name).toBe('knorm');
  });
});

test('what a name from elsewhere is told leads to what there is', () => {
  for (const hint of Object.values(PRESETS)) {
    const said = [...hint.matchAll(/\{.*\}/g), ...hint.replace(/\{.*\}/, '').matchAll(/"[a-z_]+[^_]"/g)].map(([json]) => JSON.parse(json));
    expect(said.length, hint).toBeGreaterThan(0);
    for (const press of said) if (press !== 'threshold') expect(() => parsePress(press), hint).not.toThrow();
  }
});

test('what a part is told to be, where a preset is asked for, is a press that is taken', () => {
  let told = 0;
  for (const name of [scorers, layerBudgets, headBudgets, selections, transforms].flatMap((parts) => Object.keys(parts))) {
    if (Object.hasOwn(presets, name) || name === 'uniform') continue;
    const { message } = refusal(name);
    const said = /\{.*?\}(?=;|$)/.exec(message);
    if (said === null) expect(message).toContain('with parameters of its own');
    else expect(() => parsePress(JSON.parse(said[0])), message).not.toThrow();
    if (said) told++;
  }
  expect(told).toBeGreaterThan(15);
});

test('a preset that already chooses a part is told spelled out, with the parameters that are its own', () => {
  for (const preset of Object.keys(presets)) {
    if (preset === 'no_press') continue;
    const needed = { ...presetArtifacts(preset), ...(/^kvzap_(linear|mlp)$/.test(preset) && { threshold: -3 }) };
    const { message } = refusal({ preset, ...needed, scorer: 'knorm' });
    const said = /spell it out: (\{.*\})$/.exec(message);
    const { name: _, ...pressed } = parsePress({ preset, ...needed }).presses[0];
    expect(parsePress(JSON.parse(said![1])).presses[0], message).toMatchObject(pressed);
  }
});

test('decoding_<preset> where there is no such preset: what is told is taken, or why not', () => {
  let [taken, refused] = [0, 0];
  for (const preset of Object.keys(presets)) {
    const name = `decoding_${preset}`;
    if (Object.hasOwn(presets, name)) continue;
    const { message } = refusal(name);
    const said = /^[^;]*; (\{.*\}) says it$/.exec(message);
    if (said) {
      expect(() => parsePress({ ...JSON.parse(said[1]), ...presetArtifacts(preset) }), message).not.toThrow();
      taken++;
    } else if (preset !== 'no_press') {
      expect(message).toMatch(/, and there is none: .*(schedule|decod)/);
      refused++;
    }
  }
  expect([taken, refused].map((count) => count > 10)).toEqual([true, true]);
});

test('where a preset does not go with a schedule, a press is told that does, its own parameters in it', () => {
  let told = 0;
  for (const name of Object.keys(presets)) {
    for (const schedule of ['decoding', 'prefill_and_decoding']) {
      for (const press of [
        { preset: name, schedule },
        { ...(name.endsWith('snapkv') && { window_size: 8 }), preset: name, schedule },
      ]) {
        let message = '';
        try {
          parsePress(press);
        } catch (error) {
          if (!(error instanceof InputError)) throw error;
          message = error.message;
        }
        const said = /spelled out: (\{.*\})$/.exec(message);
        if (said === null) continue;
        expect(() => parsePress(JSON.parse(said[1])), message).not.toThrow();
        if ('window_size' in press) expect(parsePress(JSON.parse(said[1])).presses[0].scorer.params.window_size).toBe(8);
        told++;
      }
    }
  }
  expect(told).toBeGreaterThan(100);
  const { param, message } = refusal(['knorm', { preset: 'zigzag_tova', schedule: 'decoding' }]);
  expect(param).toBe('press[1]');
  expect(message).toMatch(
    /use "uniform"; the parts are those of preset "zigzag_tova": without it, spelled out: \{"scorer":"tova","schedule":"decoding"\}$/,
  );
  expect(refusal({ preset: 'compactor', schedule: 'decoding' }).message).toMatch(/: choose another preset, or spell out its parts$/);
});

test('a transform that renumbers is told the one layer budget that it goes with', () => {
  const { message } = refusal({ scorer: 'snapkv', transforms: ['rerotate'], layer_budget: 'zigzag' });
  expect(message).toMatch(/after the last layer; use "uniform"$/);
});

test('what kvpress has and is left out is told why', () => {
  expect(refusal({ preset: 'finch', delimiter_token_str: '#' })).toMatchObject({ code: 'press_param_unknown', param: 'press.delimiter_token_str' });
  expect(refusal({ preset: 'finch', delimiter_token_str: '#' }).message).toMatch(/"scope": "prompt"/);
});

test('presets that are said to take a ratio take one, and no others do', () => {
  for (const { name, takes_ratio, artifact } of listPresses().presets) {
    const file = artifact?.required ? { [artifact.param]: `x.${/\.npy|curves|tensor/.test(artifact.layout) ? 'safetensors' : 'json'}` } : {};
    const more = name.includes('kvzap') ? { threshold: 0 } : {};
    const ask = (given: object) => () => parsePress({ preset: name, ...file, compression_ratio: 0.3, ...given });
    const taken = [{}, more].some((given) => {
      try {
        ask(given)();
        return true;
      } catch (error) {
        expect(error).toBeInstanceOf(InputError);
        return false;
      }
    });
    expect({ name, takes: taken }).toEqual({ name, takes: takes_ratio });
  }
});

describe('what a mistake is told: the field, the value seen, what would work', () => {
  const known = toldNames(Object.keys(scorers));
  test.each<[unknown, string, string, string]>([
    // ranges and types
    [
      { preset: 'snapkv', compression_ratio: 1 },
      'press_param_range',
      'press.compression_ratio',
      'compression_ratio must be 0 or more and below 1, got 1',
    ],
    [
      { preset: 'snapkv', compression_ratio: '0.5' },
      'press_param_type',
      'press.compression_ratio',
      'compression_ratio must be 0 or more and below 1, got "0.5"',
    ],
    [
      { scorer: 'snapkv', layer_budget: { name: 'zigzag', bound_ratio: 1.5 } },
      'press_param_range',
      'press.layer_budget.bound_ratio',
      'bound_ratio must be between 0 and 1, got 1.5',
    ],
    [{ preset: 'zigzag_snapkv', threshold: 0 }, 'press_param_range', 'press.threshold', 'threshold must be above 0 and at most 1, got 0'],
    [
      { preset: 'snapkv', kernel_size: 4 },
      'press_param_range',
      'press.kernel_size',
      'kernel_size must be an odd whole number between 1 and 255, got 4',
    ],
    [
      { scorer: { name: 'snapkv', window_size: 0 } },
      'press_param_range',
      'press.scorer.window_size',
      'window_size must be a whole number between 1 and 4096, got 0',
    ],
    [
      { scorer: { name: 'snapkv', window_size: 2.5 } },
      'press_param_type',
      'press.scorer.window_size',
      'window_size must be a whole number between 1 and 4096, got 2.5',
    ],
    [{ preset: 'zigzag_snapkv', lmba_from: 'keys' }, 'press_param_range', 'press.lmba_from', 'lmba_from must be "scores" or "attention", got "keys"'],
    [
      { preset: 'knorm', memory_budget: '16 apples' },
      'press_param_range',
      'press.memory_budget',
      'memory_budget must be a number of bytes above 0, or text such as "16MiB" or "512KiB", got "16 apples"',
    ],
    [
      { preset: 'knorm', scope: 'question' },
      'press_param_type',
      'press.scope',
      'scope must be "prompt", "context" or {"protect_last": n}, got "question"',
    ],
    [
      { preset: 'knorm', scope: { protect_last: -1 } },
      'press_param_range',
      'press.scope.protect_last',
      'scope.protect_last must be a whole number, 0 or more, got -1',
    ],
    [{ preset: 'knorm', mode: 'later' }, 'press_param_range', 'press.mode', 'mode must be "streaming" or "deferred", got "later"'],
    [
      { scorer: 'knorm', layer_budget: 'per_layer' },
      'press_param_missing',
      'press.layer_budget.compression_ratios',
      'compression_ratios is missing; it must be a list with one number per layer, each 0 or more and below 1',
    ],
    [
      { scorer: 'knorm', layer_budget: { name: 'per_layer', compression_ratios: [0.5, 1] } },
      'press_param_range',
      'press.layer_budget.compression_ratios[1]',
      'compression_ratios[1] must be a list with one number per layer, each 0 or more and below 1, got 1',
    ],
    // names
    ['zigzag_snpkv', 'press_unknown', 'press', 'unknown preset "zigzag_snpkv"; did you mean "zigzag_snapkv"?'],
    [
      'adakv',
      'press_unknown',
      'press',
      'unknown preset "adakv"; "adakv" is a head budget: {"scorer":"snapkv","head_budget":"adakv"}; presets with it: adakv_compactor, adakv_snapkv, adakv_keydiff, adakv_pyramidkv',
    ],
    [
      'leverage',
      'press_unknown',
      'press',
      'unknown preset "leverage"; "leverage" is a scorer: {"scorer":"leverage"}; presets with it: zigzag_leverage, cake_leverage, lava_leverage, dynamickv_leverage, squeeze_leverage',
    ],
    ['decoding_snapkv', 'press_unknown', 'press', 'unknown preset "decoding_snapkv"; {"preset": "snapkv", "schedule": "decoding"} says it'],
    [{ preset: 'SnapKV', compression_ratio: 0.5 }, 'press_unknown', 'press.preset', 'unknown preset "SnapKV"; did you mean "snapkv"?'],
    [
      { scorer: 'snapkv', layer_budget: { name: 'zigzg' } },
      'press_unknown',
      'press.layer_budget.name',
      'unknown layer_budget "zigzg"; did you mean "zigzag"?',
    ],
    [{ scorer: 'h2o' }, 'press_unknown', 'press.scorer', 'unknown scorer "h2o"; its score is "observed_attention"'],
    [{ scorer: 'abacus' }, 'press_unknown', 'press.scorer', `unknown scorer "abacus"; known: ${known}`],
    // names from elsewhere
    ['H2O', 'press_unknown', 'press', 'unknown preset "H2O"; its score is "observed_attention"'],
    ['SnapKVPress', 'press_unknown', 'press', 'unknown preset "SnapKVPress"; did you mean "snapkv"?'],
    ['KVzip+', 'press_unknown', 'press', 'unknown preset "KVzip+"; did you mean "kvzip_plus"?'],
    ['streaming', 'press_unknown', 'press', 'unknown preset "streaming"; did you mean "streaming_llm"?'],
    ['zigzg', 'press_unknown', 'press', 'unknown preset "zigzg"; did you mean "zigzag"?'],
    // parts and presets where others belong
    [
      'pyramid',
      'press_unknown',
      'press',
      'unknown preset "pyramid"; "pyramid" is a layer budget: {"scorer":"snapkv","layer_budget":"pyramid"}; did you mean "pyramidkv"?',
    ],
    [
      'threshold',
      'press_unknown',
      'press',
      'unknown preset "threshold"; "threshold" is a selection with parameters of its own: edgepress presses threshold, or /v1/presses',
    ],
    [
      { scorer: 'snapkv', layer_budget: 'adakv' },
      'press_unknown',
      'press.layer_budget',
      'unknown layer_budget "adakv"; "adakv" is a head budget: {"scorer":"snapkv","head_budget":"adakv"}',
    ],
    [
      { scorer: 'zigzag_snapkv' },
      'press_unknown',
      'press.scorer',
      'unknown scorer "zigzag_snapkv"; "zigzag_snapkv" is a preset: {"preset":"zigzag_snapkv"}',
    ],
    [{ preset: 'constructor' }, 'press_unknown', 'press.preset', `unknown preset "constructor"; known: ${toldNames(Object.keys(presets))}`],
    [{ scorer: { window_size: 4 } }, 'press_param_type', 'press.scorer.name', `scorer must be named by a text, got nothing; known: ${known}`],
    // unknown fields
    [{ preset: 'snapkv', ratio: 0.5 }, 'press_param_unknown', 'press.ratio', 'unknown field "ratio"; did you mean "compression_ratio"?'],
    [{ preset: 'snapkv', window: 8 }, 'press_param_unknown', 'press.window', 'unknown field "window"; did you mean "window_size"?'],
    [
      { preset: 'knorm', flavour: 8 },
      'press_param_unknown',
      'press.flavour',
      'unknown field "flavour"; known: protect_first, protect_last, schedule, compression_ratio, memory_budget, scope, mode, compat, on_tight, explain, entry_type',
    ],
    [
      { scorer: 'snapkv', window: 8 },
      'press_param_unknown',
      'press.window',
      'window_size is a parameter of scorer "snapkv": write "scorer":{"name":"snapkv","window_size":8}',
    ],
    [{ preset: 'snapkv', windw_size: 8 }, 'press_param_unknown', 'press.windw_size', 'unknown field "windw_size"; did you mean "window_size"?'],
    [
      { scorer: { name: 'snapkv', windowsize: 8 } },
      'press_param_unknown',
      'press.scorer.windowsize',
      'unknown field "windowsize"; did you mean "window_size"?',
    ],
    [
      { scorer: { name: 'knorm', window_size: 8 } },
      'press_param_unknown',
      'press.scorer.window_size',
      'unknown field "window_size"; this part has no parameters',
    ],
    [
      { scorer: 'snapkv', window_size: 8 },
      'press_param_unknown',
      'press.window_size',
      'window_size is a parameter of scorer "snapkv": write "scorer":{"name":"snapkv","window_size":8}',
    ],
    // forms
    [5, 'press_form', 'press', 'press must be a preset name, an object with "preset" or "scorer", or a list of these, got 5'],
    [{}, 'press_form', 'press', 'press needs "preset" or "scorer", got {}'],
    [[], 'press_form', 'press', 'press must hold at least one press, got []; leave it out for no press'],
    [Array(17).fill('think'), 'press_form', 'press', 'press must hold 16 presses or fewer, got 17'], // each one scores the whole prompt
    [['knorm', 7], 'press_form', 'press[1]', 'press[1] must be a preset name, an object with "preset" or "scorer", or a list of these, got 7'],
    [
      [{ preset: 'knorm', compression_ratio: -1 }, 'keydiff'],
      'press_param_range',
      'press[0].compression_ratio',
      'compression_ratio must be 0 or more and below 1, got -1',
    ],
  ])('%j', (json, code, param, message) => {
    expect(refusal(json)).toEqual({ code, param, message });
  });

  test.each<[unknown, string, string, RegExp]>([
    // fields that exclude each other
    [
      { preset: 'knorm', compression_ratio: 0.5, memory_budget: '1MiB' },
      'press_conflict',
      'press.memory_budget',
      /compression_ratio 0.5 and memory_budget "1MiB" exclude each other/,
    ],
    [
      { preset: 'snapkv', scorer: 'knorm' },
      'press_conflict',
      'press.scorer',
      /preset "snapkv" already chooses its scorer.*spell it out: \{"scorer":"snapkv"\}/,
    ],
    [{ preset: 'no_press', compression_ratio: 0.5 }, 'press_conflict', 'press.compression_ratio', /which keeps everything/],
    [
      { scorer: 'knorm', layer_budget: { name: 'per_layer', compression_ratios: [0.5] }, compression_ratio: 0.5 },
      'press_conflict',
      'press.compression_ratio',
      /whose compression_ratios decide already/,
    ],
    [{ preset: 'knorm', memory_budget: '1MiB', compat: 'kvpress' }, 'press_conflict', 'press.memory_budget', /knows ratios only/],
    [{ scorer: 'random', layer_budget: 'zigzag' }, 'press_conflict', 'press.layer_budget', /scorer "random" spread alike in every layer/],
    [
      [
        { preset: 'snapkv', scope: 'prompt' },
        { preset: 'knorm', scope: 'context' },
      ],
      'press_conflict',
      'press[1].scope',
      /"context" contradicts "prompt"/,
    ],
    [
      [
        { preset: 'snapkv', mode: 'streaming' },
        { preset: 'knorm', mode: 'deferred' },
      ],
      'press_conflict',
      'press[1].mode',
      /"deferred" contradicts "streaming"/,
    ],
    // compositions that cannot be right
    [['zigzag_snapkv', 'knorm'], 'press_composition', 'press[0]', /"zigzag" needs all layers.*put "zigzag_snapkv" last/],
    [['adakv_snapkv', 'knorm'], 'press_composition', 'press[0]', /heads of unequal length/],
    [[{ preset: 'knorm', memory_budget: 1000 }, 'keydiff'], 'press_composition', 'press[0].memory_budget', /only the last of composed presses/],
    [
      ['knorm', 'snapkv'],
      'press_composition',
      'press[1]',
      /"snapkv" reads the last 64 queries, but "knorm" before it protects only the last 0 tokens/,
    ],
    [[{ preset: 'snapkv', window_size: 32 }, 'snapkv'], 'press_composition', 'press[1]', /reads the last 64 queries.*protects only the last 32/],
    [['snapkv', 'tova', { preset: 'snapkv', window_size: 2 }], 'press_composition', 'press[2]', /"tova" before it protects only the last 1 tokens/],
    [
      ['knorm', { scorer: 'keydiff', layer_budget: { name: 'zigzag', lmba_from: 'attention' } }],
      'press_composition',
      'press[1]',
      /reads the last 32 queries/,
    ],
  ])('%j', (json, code, param, message) => {
    const error = refusal(json);
    expect(error).toMatchObject({ code, param });
    expect(error.message).toMatch(message);
  });

  test('a long value is cut', () => {
    expect(refusal({ preset: 'snapkv', compression_ratio: 'x'.repeat(1000) }).message.length).toBeLessThan(130);
    expect(refusal('x'.repeat(1000)).message).not.toContain('x'.repeat(61));
  });

  test('compositions that are right', () => {
    for (const json of [
      ['snapkv', 'snapkv'],
      ['snapkv', 'tova'],
      ['snapkv', 'zigzag_snapkv'],
      ['pyramidkv', 'knorm'],
      ['streaming_llm', 'keydiff'],
      ['snapkv', { preset: 'knorm', memory_budget: '1MiB' }],
    ]) {
      expect(() => parsePress(json)).not.toThrow();
    }
  });
});

describe('JSON Schema', () => {
  const schema = pressJsonSchema();
  const parser = z.fromJSONSchema(schema as never);
  const accepts = (json: unknown): boolean => parser.safeParse(json).success;

  test.each(documented.map((json) => [JSON.stringify(json), json]))('accepts %s', (_text, json) => {
    expect(accepts(json)).toBe(true);
  });

  test.each([
    'zigzag',
    7,
    {},
    [],
    { preset: 'snapkv', compression_ratio: 1 },
    { preset: 'snapkv', ratio: 0.5 },
    { preset: 'knorm', window_size: 8 },
    { preset: 'snapkv', window_size: 0 },
    { preset: 'cur', use_random_leverage: 1 },
    { preset: 'cur', use_local_approximation: 1 },
    { scorer: 'snapkv', layer_budget: { name: 'zigzag', bound_ratio: 2 } },
    { scorer: 'snapkv', layer_budget: 'per_layer' },
    { scorer: 'snapkv', window_size: 8 },
    { preset: 'snapkv', scorer: 'knorm' },
    { preset: 'snapkv', scope: { protect_last: -1 } },
    { preset: 'snapkv', memory_budget: 'much' },
    [{ preset: 'snapkv' }, { preset: 'knorm', mode: 'later' }],
  ])('refuses %j, as the parser does', (json) => {
    expect(accepts(json)).toBe(false);
    expect(() => parsePress(json)).toThrow(InputError);
  });

  test('names every part with every parameter', () => {
    const text = JSON.stringify(schema);
    for (const part of [...Object.values(scorers), ...Object.values(layerBudgets), ...Object.values(headBudgets)]) {
      expect(text).toContain(`"${part.name}"`);
      for (const param of Object.keys(part.params.shape)) expect(text).toContain(`"${param}"`);
    }
    expect(text).toContain('"default":0.5');
  });
});

describe('listPresses', () => {
  const list = listPresses();

  test('lists every part under its own name, with formula, needs and parameters', () => {
    expect(list.scorers.map(({ name }) => name)).toEqual(Object.keys(scorers));
    expect(list.layer_budgets.map(({ name }) => name)).toEqual(Object.keys(layerBudgets));
    expect(list.head_budgets.map(({ name }) => name)).toEqual(Object.keys(headBudgets));
    expect(list.selections.map(({ name }) => name)).toEqual(Object.keys(selections));
    for (const part of [...list.scorers, ...list.layer_budgets, ...list.head_budgets, ...list.selections]) {
      expect(part).toMatchObject({
        summary: expect.stringMatching(/./),
        formula: expect.stringMatching(/./),
        needs: expect.stringMatching(/./),
        parameters: { type: 'object', additionalProperties: false },
      });
    }
    expect(list.scorers.find(({ name }) => name === 'snapkv')?.parameters).toMatchObject({
      properties: { window_size: { type: 'integer', minimum: 1, maximum: 4096, default: 64 }, kernel_size: { default: 5 } },
    });
  });

  test('lists every preset with its parts and papers', () => {
    expect(list.presets.map(({ name }) => name)).toEqual(Object.keys(presets));
    expect(list.presets.find(({ name }) => name === 'zigzag_snapkv')).toMatchObject({
      scorer: 'snapkv',
      layer_budget: 'zigzag',
      head_budget: 'uniform',
      paper: 'arXiv 2404.14469, arXiv 2412.09036',
    });
  });

  test('every scorer whose scores have sizes has a zigzag preset', () => {
    for (const { name, massMap } of Object.values(scorers)) expect(`zigzag_${name}` in presets).toBe(massMap !== null);
  });

  test('a layer budget and a scorer that do not go together are no preset, and the reason is told', () => {
    for (const scorer of Object.values(scorers)) {
      const name = `zigzag_${scorer.name}`;
      if (name in presets) continue;
      expect(refusal(name)).toMatchObject({
        code: 'press_unavailable',
        param: 'press',
        message: expect.stringMatching(/spread alike in every layer; use/),
      });
    }
    expect(refusal('dynamickv_knorm').message).toMatch(/no common unit/);
    expect(refusal('zigzag_nothing').code).toBe('press_unknown');
  });

  test('no two parts of a preset share a parameter name, so that parameters may stand beside its name', () => {
    for (const name of Object.keys(presets)) {
      const parts = presetParts(name);
      const params = parts === null ? [] : partList(parts).flatMap((part) => Object.keys(part.params.shape).map((param) => ({ part, param })));
      // But for the file that two of them read: it is named once.
      const own = params.filter(({ part, param }) => part.artifact?.param !== param || params.find((other) => other.param === param)?.part === part);
      expect([...new Set(own.map(({ param }) => param))], name).toEqual(own.map(({ param }) => param));
      const files = params.filter(({ part, param }) => part.artifact?.param === param);
      for (const { part, param } of files)
        expect(new Set(files.filter((file) => file.param === param).map((file) => file.part.artifact))).toEqual(new Set([part.artifact]));
    }
  });

  test('names the file that a part needs, and tells it from one that may be left out', () => {
    const of = (preset: string) => {
      const artifact = list.presets.find(({ name }) => name === preset)?.artifact;
      return artifact && [artifact.param, artifact.required];
    };
    expect(of('qfilter')).toEqual(['artifact', true]);
    expect(of('lukv')).toEqual(['curves', true]); // expected_attention in it may read a file too
    expect(of('compactor')).toEqual(['artifact', false]);
    expect(of('snapkv')).toBeNull();
    for (const { name, artifact, params } of list.presets) {
      if (artifact?.required && !(artifact.param in params))
        expect(refusal(name), name).toMatchObject({ code: 'press_param_missing', param: `press.${artifact.param}` });
      else expect(() => parsePress(name), name).not.toThrow();
    }
  });

  test('goes through JSON unchanged', () => {
    expect(JSON.parse(JSON.stringify(list))).toEqual(list);
  });
});

test("what is wrong with the schedule's own parameters is not laid on the preset's parts", () => {
  const { param, message } = refusal({
    preset: 'kvzap_mlp_head',
    artifact: 'a.safetensors',
    schedule: { name: 'decoding', hidden_states_buffer_size: 0 },
  });
  expect(param).toBe('press.schedule.hidden_states_buffer_size');
  expect(message).toMatch(/1 or more would work$/);
});
