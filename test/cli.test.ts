/** The edgepress command as a person meets it: the built program, its output, its exit status. `npm test` builds dist first. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { needleSamples } from './support/golden.ts';

const folder = mkdtempSync(join(tmpdir(), 'edgepress-cli-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function edgepress(...args: string[]): { status: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['dist/cli/index.js', ...args], { encoding: 'utf8', timeout: 60_000, input: '' });
  return { status, out: stdout, err: stderr };
}

const file = (name: string, content: string | Uint8Array): string => {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
};

const sample = needleSamples().find(({ task, context_length }) => task === 'niah_single' && context_length === 512)!;
const document = file('document.txt', `${sample.context}\n`);

describe('generate', () => {
  test('answers a question about a document', () => {
    const { status, out, err } = edgepress('generate', '-c', document, sample.question);
    expect(err).toBe('');
    expect(status).toBe(0);
    expect(out.trim()).toBe(sample.answers[0]);
  });

  test('with a press tells in JSON what was kept', () => {
    const { out } = edgepress('generate', '-c', document, sample.question, '-p', 'zigzag_snapkv', '-r', '0.5', '--json');
    const { usage, finish_reason } = JSON.parse(out);
    expect(finish_reason).toMatch(/stop|length/);
    expect(usage.kv_cache.press).toBe('zigzag_snapkv');
    expect(usage.kv_cache.scope).toBe('context');
    expect(usage.kv_cache.bytes_kept).toBeLessThan(usage.kv_cache.bytes_full);
  });

  test('takes a prompt in words, or from standard input', () => {
    expect(edgepress('generate', '--stop', 'zzz', 'Anna', 'lives', 'in', 'Oslo.', 'Where does Anna live?').out.trim()).toBe('Oslo');
    const piped = spawnSync(process.execPath, ['dist/cli/index.js', 'generate'], {
      encoding: 'utf8',
      input: 'Anna lives in Oslo. Where does Anna live?',
    });
    expect(piped.stdout.trim()).toBe('Oslo');
  });

  test('a reader that goes away ends it without a word', () => {
    const line = `"${process.execPath}" dist/cli/index.js generate --raw Anna -n 300 2>"${folder}/err" | head -c 1`;
    spawnSync('bash', ['-c', line], { encoding: 'utf8' });
    expect(readFileSync(join(folder, 'err'), 'utf8')).toBe('');
  });

  test('stops at a stop string and at --max-tokens', () => {
    expect(edgepress('generate', '--raw', 'The horse slept near', '-n', '3', '--json').out).toMatch(/"finish_reason": "length"/);
    const whole = edgepress('generate', '--raw', 'The horse slept near', '-n', '30').out;
    const word = whole.trim().split(/\s+/)[2];
    expect(edgepress('generate', '--raw', 'The horse slept near', '-n', '30', '--stop', word).out).not.toContain(word);
  });
});

describe('press', () => {
  const press = ['-p', '{"preset":"zigzag_snapkv","window_size":16}', '-r', '0.25'];
  const out = join(folder, 'pressed', 'document.pressed.safetensors'); // a folder that is not there

  test('writes what generate answers from, as it answers when it reads the document itself', () => {
    const made = edgepress('press', document, ...press, '--out', out);
    expect(made).toMatchObject({ status: 0, err: '' });
    const [first, layers, pages] = made.out.split('\n');
    expect(first).toMatch(/document\.pressed\.safetensors: [\d.]+ KiB, \d+ tokens of which zigzag_snapkv keeps 7[45]\.\d%, as int8, for needle$/);
    expect(layers).toMatch(/^kept by layer, mean over its KV heads:( \d+){6}$/);
    expect(pages).toMatch(/^in pages [\d.]+ KiB, without a press [\d.]+ KiB$/);
    const ways = [
      ['--context-file', out],
      ['--context-file', out, ...press],
      ['-c', document, ...press, '--entry-type', 'int8'],
    ];
    const [behind, named, whole] = ways.map((way) => edgepress('generate', ...way, sample.question));
    expect([behind.status, behind.err, behind.out]).toEqual([0, '', whole.out]);
    expect(named.out).toBe(whole.out);
    expect(readdirSync(join(folder, 'pressed'))).toEqual(['document.pressed.safetensors']);
  });

  test('tells in JSON what it wrote; rows of f32 without a press answer as the document does', () => {
    const all = join(folder, 'all.pressed.safetensors');
    const made = JSON.parse(edgepress('press', document, '--out', all, '--entry-type', 'f32', '--json').out);
    expect(made).toMatchObject({
      out: all,
      bytes: statSync(all).size,
      model: 'needle',
      backend: 'wasm',
      kv_cache: { entry_type: 'f32', compression_ratio: 0 },
    });
    expect(made.kv_cache.kept_per_layer).toEqual(Array(6).fill(made.tokens));
    const { text, usage } = JSON.parse(edgepress('generate', '--context-file', all, sample.question, '--json').out);
    expect(text).toBe(JSON.parse(edgepress('generate', '-c', document, sample.question, '--json').out).text);
    expect(usage.kv_cache).toMatchObject({ press: 'no_press', tokens: made.tokens, bytes_shared: expect.any(Number) });
  });

  test('a run that ends in mid-writing leaves the old file', () => {
    const path = join(folder, 'old.pressed.safetensors');
    writeFileSync(path, 'the old one');
    const line = `ulimit -f 64; exec "${process.execPath}" dist/cli/index.js press "${document}" --out "${path}"`; // 64 KiB
    const { status, stderr } = spawnSync('bash', ['-c', `trap "" XFSZ; ${line}`], { encoding: 'utf8' });
    expect(status).toBe(1);
    expect(stderr).toMatch(/^edgepress: --out old\.pressed\.safetensors in .*(EFBIG|too large)/);
    expect(readFileSync(path, 'utf8')).toBe('the old one');
    expect(readdirSync(folder).filter((name) => name.startsWith('old'))).toEqual(['old.pressed.safetensors']);
  });

  test('says what is wrong with what it is given', () => {
    const told = (...args: string[]) => {
      const { status, err } = edgepress(...args);
      expect(status).toBe(1);
      return err;
    };
    expect(told('press', document, '--out', join(folder, 'x.bin'))).toMatch(/--out must end in \.pressed\.safetensors, got .*x\.bin/);
    expect(told('press', join(folder, 'nowhere'), '--out', out)).toMatch(/<document> .*nowhere: there is no such file/);
    expect(told('press', file('empty.txt', ' \n'), '--out', out)).toMatch(/the file is empty/);
    expect(told('press', document, '--out', join(document, 'x.pressed.safetensors'))).toMatch(/its folder cannot be made: it is a file/);
    expect(told('generate', '--context-file', document, 'Who?')).toMatch(/document\.txt: .*it is damaged, or no pressed context/);
    expect(told('generate', '--context-file', join(folder, 'nowhere'), 'Who?')).toMatch(/--context-file .*nowhere: there is no such file/);
    expect(told('generate', '--context-file', out, '-p', 'knorm', 'Who?')).toMatch(
      /its press is "zigzag_snapkv" with scorer "snapkv".*, and "knorm".* was asked for/,
    );
    expect(told('generate', '--context-file', out, '-r', '0.5', 'Who?')).toMatch(
      /--ratio 0\.5 says what --context-file must have been pressed by, beside --press/,
    );
    expect(told('generate', '--context-file', out, '-c', document, 'Who?')).toMatch(/cannot be used with option '-c, --context <file>'/);
    expect(told('generate', '--context-file', out, '-m', 'test/golden/models/llama', 'Who?')).toMatch(/is of model "needle" .*, and this is "llama"/);
  });
});

describe('calibrate', () => {
  test('writes what presses then read, by the name in the folder that --artifacts says', () => {
    const artifacts = join(folder, 'made', 'artifacts'); // folders that are not there
    const pattern = join(artifacts, 'pattern.json');
    const made = edgepress('calibrate', '--kind', 'duo', '--samples', document, '--tokens', '200', '--sink', '4', '--recent', '20', '--out', pattern);
    expect(made).toMatchObject({ status: 0, err: '', out: `${pattern}: duo from 1 text, at most 200 tokens of each\n` });
    expect(JSON.parse(readFileSync(pattern, 'utf8'))).toMatchObject({
      sink: 4,
      recent: 20,
      scores: expect.arrayContaining([[expect.any(Number), expect.any(Number)]]),
    });
    const statistics = join(artifacts, 'statistics.safetensors');
    const list = file('texts.json', JSON.stringify([sample.context, sample.question.repeat(3)]));
    expect(JSON.parse(edgepress('calibrate', '--kind', 'expected_attention', '--samples', list, '--out', statistics, '--json').out)).toMatchObject({
      samples: 2,
    });
    const press = '{"preset":"duo_attention","artifact":"pattern.json","head_compression_ratio":0.5}';
    const plan = edgepress('plan', '--tokens', '300', '-p', press, '--artifacts', artifacts, '--json');
    expect(JSON.parse(plan.out)).toMatchObject({ press: 'duo_attention', average_budget: 162, exact: true }); // half of the heads keep 24 of 300
    const expected = '{"scorer":{"name":"expected_attention","artifact":"statistics.safetensors"},"compression_ratio":0.5}';
    expect(edgepress('generate', '-c', document, sample.question, '-p', expected, '--artifacts', artifacts, '-n', '2').status).toBe(0);
    const missing = edgepress('plan', '--tokens', '300', '-p', press);
    expect({ status: missing.status, err: missing.err }).toEqual({
      status: 1,
      err: expect.stringMatching(/^edgepress: there is no pattern\.json in the model's folder artifacts\//),
    });
  });

  test('says what is wrong with what it is given', () => {
    const told = (...args: string[]) => edgepress('calibrate', ...args).err;
    expect(told('--kind', 'duo', '--samples', document, '--out', join(folder, 'x.txt'))).toMatch(
      /--out must end in \.json for --kind duo, got .*x\.txt/,
    );
    expect(told('--kind', 'duo', '--samples', join(folder, 'nowhere'), '--out', join(folder, 'x.json'))).toMatch(/there is no such file/);
    expect(told('--kind', 'duo', '--samples', file('broken.json', '["a"'), '--out', join(folder, 'x.json'))).toMatch(/cannot be read as JSON/);
    expect(told('--kind', 'duo', '--samples', file('numbers.json', '[1, 2]'), '--out', join(folder, 'x.json'))).toMatch(/must hold a list of texts/);
  });
});

describe('inspect', () => {
  const tokens = file('ids.json', JSON.stringify(sample.prompt_token_ids));

  test('writes the contract: tokens, layers, budgets, LMBA, kept positions best first, scores', () => {
    const out = join(folder, 'kept.json');
    expect(
      edgepress('inspect', '--tokens', tokens, '-p', '{"preset":"zigzag_snapkv","compression_ratio":0.8,"window_size":32}', '-o', out).status,
    ).toBe(0);
    const kept = JSON.parse(readFileSync(out, 'utf8'));
    const n = sample.prompt_token_ids.length;
    expect(kept.tokens).toBe(n);
    expect(kept.layers).toHaveLength(6);
    const budgets = kept.layers.map(({ budget }: { budget: number }) => budget);
    expect(budgets.reduce((a: number, b: number) => a + b)).toBe(6 * Math.floor(n * 0.2 + 1e-9));
    expect(new Set(kept.layers.map(({ lmba }: { lmba: number }) => lmba)).size).toBeGreaterThan(1);
    for (const { budget, heads } of kept.layers) {
      for (const { kept: positions, scores } of heads) {
        expect(positions).toHaveLength(budget);
        expect(new Set(positions).size).toBe(budget);
        const ranked = scores.slice(32) as number[];
        expect(scores.slice(0, 32).every((score: number | null) => score === null)).toBe(true); // the window is protected, not ranked
        expect(ranked.every((score, i) => i === 0 || score <= ranked[i - 1])).toBe(true);
      }
    }
  });

  test.each([
    ['not JSON', file('bad.json', '[1, 2'), 'cannot be read as JSON'],
    ['not ids', file('words.json', '["a"]'), 'must hold an array of token ids'],
    ['unknown token', file('far.json', '[0, 2, 99999]'), 'not in the vocabulary'],
    ['empty', file('empty.json', '[]'), 'no tokens'],
    ['no such file', join(folder, 'nowhere.json'), 'nowhere.json: there is no such file'],
  ])('%s is a one-line error and exit status 1', (_, path, message) => {
    const { status, out, err } = edgepress('inspect', '--tokens', path, '-p', 'knorm');
    expect(status).toBe(1);
    expect(out).toBe('');
    expect(err).toContain(message);
    expect(err.trim().split('\n')).toHaveLength(1);
  });
});

describe('plan, presses, bench, pack', () => {
  test('plan says what a press will take', () => {
    const plan = JSON.parse(edgepress('plan', '--tokens', '1024', '-p', 'zigzag_snapkv', '-r', '0.8', '--json').out);
    expect(plan.bytes_peak / plan.bytes_full).toBeLessThan(0.4);
    expect(plan.fits).toBe(true);
    expect(edgepress('plan', '--tokens', '1024', '-p', 'snapkv', '-r', '0.8').out).toContain('204');
  });

  test('plan takes the longest prompt that a request with max_tokens 1 could have', () => {
    expect(JSON.parse(edgepress('plan', '--tokens', '4095', '--max-tokens', '1', '--json').out)).toMatchObject({ prompt_tokens: 4095, fits: true });
  });

  test('presses lists what a config can name', () => {
    const { out } = edgepress('presses');
    for (const name of ['zigzag_<scorer>', 'adakv_snapkv', 'pyramidkv', 'streaming_llm']) expect(out).toContain(name);
    expect(out.split('\n').length).toBeLessThan(150);
    expect(out).toMatch(/^ {2}lukv .*reads a file/m);
    expect(edgepress('presses', 'snapkv').out).toContain('needs keys, the last window_size queries');
    const all = edgepress('presses', 'all').out;
    expect(all).toMatch(/^ {2}lukv .*\n.*\n +needs a file \(curves\)/m);
    expect(all).toMatch(/^ {2}kvzip .*\n.*\n +needs .*further readings of the prompt$/m);
    expect(all).toMatch(/^ {2}squeeze .*\n.*\n +needs .*room for whole layers.*\n +costs: /m);
    for (const line of [
      'window_size: integer, 1 to 4096, default 64: W',
      'threshold: number, above 0 to 1, default 0.9: ',
      'compression_ratios: list of number, 0 to below 1, required: ',
      'lmba_from: "scores" or "attention", default scores: ',
      'seed: integer, 0 to 4294967295, optional: ',
    ])
      expect(all).toContain(line);
    expect(JSON.parse(edgepress('presses', '--json').out).presets.length).toBeGreaterThan(10);
    const named = JSON.parse(edgepress('presses', 'snapkv', '--json').out);
    expect([named.presets.length, named.scorers.length, named.layer_budgets]).toEqual([1, 1, []]);
    expect(edgepress('presses', 'duo_attention').out).toMatch(/^ +parameters: artifact, head_comp.*; edgepress presses sink_recent duo top_k tells/m);
  });

  test('bench measures', () => {
    const { out, status } = edgepress('bench', '--prompt-tokens', '64', '--decode-tokens', '8', '--runs', '1', '-p', 'knorm', '--json');
    expect(status).toBe(0);
    const result = JSON.parse(out);
    for (const name of ['prefill_tokens_per_s', 'decode_tokens_per_s', 'press_ms', 'kv_bytes_peak', 'memory_peak_bytes'])
      expect(result[name]).toBeGreaterThan(0);
  });

  test('a packed model answers like the model it was packed from; a damaged shard is refused by name', () => {
    const packed = join(folder, 'packed');
    expect(edgepress('pack', 'models/needle', packed, '--shard', '2MiB').status).toBe(0);
    const ask = () => edgepress('generate', '-m', packed, '-c', document, sample.question);
    expect(ask().out.trim()).toBe(sample.answers[0]);
    const shard = join(packed, 'weights-001.bin');
    const bytes = readFileSync(shard);
    bytes[1000] ^= 1;
    writeFileSync(shard, bytes);
    const { status, err } = ask();
    expect(status).toBe(1);
    expect(err).toContain('weights-001.bin');
    writeFileSync(shard, bytes.subarray(0, 5000));
    expect(ask().err).toMatch(/weights-001\.bin is truncated/);
  });
});

test('pack --quantize says what it leaves as it is', () => {
  const { status, err } = edgepress('pack', 'test/golden/gguf/tiny-llama.gguf', join(folder, 'q8'), '--quantize', 'q8');
  expect([status, err]).toEqual([0, 'edgepress: 1 of 16 matrices quantised to q8; the others stay as the file has them\n']);
});

test('bench --presses tells what each press costs of the same run, which leave the prompt as it is, and which could not run', () => {
  const bench = (...args: string[]) => edgepress('bench', '--prompt-tokens', '64', '--runs', '1', ...args);
  const { status, out, err } = bench(
    '--presses',
    'knorm,snapkv,decoding_knorm',
    '--presses',
    '[{"preset":"knorm","compression_ratio":0.2},"keydiff"]',
  );
  expect([status, err]).toEqual([0, '']);
  expect(out).toMatch(/^needle, 64 tokens, wasm .*, median of 1; about \d+ s for 4$/m);
  expect(out).toMatch(/^knorm +[\d.]+% +\d+ ms +[\d.]+ KiB$/m);
  expect(out).toMatch(/^snapkv +- +- +- {2}not run: snapkv protects 64 tokens/m); // 64 are all there are
  expect(out).toMatch(/^decoding_knorm +- .* {2}acts only while decoding: the prompt stays as it is$/m);
  expect(out).toMatch(/^\[\{"preset":"knorm","compression_ratio":0.2\},"keydiff"\] +[\d.]+% /m);

  const { costs } = JSON.parse(bench('--presses', 'kvzip,squeeze_knorm,think', '--pairs', '--ratio', '0.25', '--json').out);
  const measured = { share_of_whole_run: expect.any(Number), bytes_press: expect.any(Number), not_measured: null };
  expect(costs).toMatchObject([
    { press: 'kvzip', ...measured, why: expect.stringMatching(/^reads the prompt again/) },
    { press: 'squeeze_knorm', ...measured, why: expect.stringContaining('the last layer attends with all queries') },
    { press: 'think', share_of_prefill: null, not_measured: expect.stringMatching(/^not run: compression_ratio 0.25 with preset "think"/) },
  ]);
  const [{ share_of_prefill, press_ms, prefill_ms }] = costs;
  expect(share_of_prefill).toBeCloseTo(press_ms / prefill_ms, 9);
  expect(share_of_prefill).toBeGreaterThan(0.5); // its passes are the press's
});

test('inspect draws a heat map', () => {
  const svg = join(folder, 'kept.svg');
  const text = file('heat.txt', sample.context);
  const { status, out, err } = edgepress('inspect', '--text', text, '-p', 'zigzag_snapkv', '-r', '0.8', '--heat-map', '--svg', svg);
  expect([status, err]).toEqual([0, '']);
  expect(out).toMatch(/layer 5\.1 /);
  expect(out).toMatch(/uniform( +\d+){6}/);
  expect(readFileSync(svg, 'utf8')).toMatch(/^<svg .*<\/svg>\n$/s);
});

describe('mistakes', () => {
  test.each([
    [['generate', 'x', '-m', join(folder, 'nothing')], 'there is no model at'],
    [['generate', 'x', '-m', folder], `the folder ${folder} holds no config.json`],
    [['generate', 'x', '-m', 'test/golden/gguf'], 'name the file in it: test/golden/gguf/tiny-'],
    [['generate', ''], 'the prompt is empty'],
    [['generate', '--raw', ' '], 'the prompt is empty'],
    [['generate'], 'the prompt is empty'],
    [['generate', 'x', '-c', file('nothing.txt', '\n')], 'nothing.txt: the file is empty'],
    [['generate', 'x', '-c', join(folder, 'nowhere.txt')], 'nowhere.txt: there is no such file'],
    [['generate', 'x', '-c', folder], 'it is a folder'],
    [['generate', 'x', '-n', '0'], 'whole number, 1 or more'],
    [['generate', 'x', '-t', '-1'], 'between 0 and 2'],
    [['generate', 'x', '--stop', ''], 'must not be empty'],
    [['generate', 'x', '-p', 'zigzag_snapvk'], 'did you mean "zigzag_snapkv"'],
    [['generate', 'x', '-p', '{"preset":'], 'neither a name nor JSON'],
    [['generate', 'x', '-p', 'knorm', '-r', '1.5'], '0 or more and below 1'],
    [['generate', 'x', '-p', 'knorm', '-r', '1'], '0 or more and below 1'],
    [['generate', 'x', '-p', 'knorm', '-r', 'half'], 'Expected a number'],
    [['generate', 'x', '-t', 'hot'], 'number between'],
    [['generate', 'x', '-c', file('latin1.txt', Buffer.from('caf\xe9', 'latin1'))], 'latin1.txt: the text is not valid UTF-8'],
    [['generate', 'x', '--kv-pool', '12 parsecs'], 'byte size'],
    [['generate', 'x', '--memory-limit', '1MiB'], '--memory-limit 10MiB'],
    [['serve', '--memory-limit', '1KiB', '--port', '0'], '--memory-limit 10MiB'],
    [['generate', 'x', '-c', '/dev/zero'], '--context /dev/zero: it is no file, but a device, a pipe or a socket'],
    [['plan', '--tokens', '9', '-p', '@/dev/zero'], '--press /dev/zero: it is no file'],
    [['bench', '--presses', '@/dev/zero'], '--press /dev/zero: it is no file'],
    [['inspect', '--tokens', '/dev/zero'], '--tokens /dev/zero: it is no file'],
    [['inspect', '--text', '/dev/zero'], '--text /dev/zero: it is no file'],
    [['generate', 'x', '-m', '/dev/zero'], '/dev/zero is no model: it is no file'],
    [['generate', 'x', '-p', `@${file('long', 'x'.repeat(1e7))}`], `unknown preset "${'x'.repeat(59)}…"`],
    [['inspect'], '--tokens'],
    [['plan', '--tokens', '4096'], 'send 4095 tokens or fewer'],
    [['plan', '--tokens', '99999999999999'], 'the prompt has 99999999999999 tokens'],
    [['plan', '--tokens', '1e30'], 'Expected a whole number'],
    [['plan', '--tokens', '0'], '1 or more'],
    [['plan', '--tokens', '1000', '-p', 'knorm', '--memory-budget', '1MiB', '--max-tokens', '2000'], 'max_tokens'],
    [['bench', '--prompt-tokens', '0'], '1 or more'],
    [['bench', '--presses', 'knorm,snapvk'], 'did you mean "snapkv"'],
    [['bench', '--presses', '{"preset":"snapkv","window":3}'], '"window"'],
    [['bench', '--presses', 'knorm', '--press', 'snapkv'], "--press snapkv beside --presses; name it there: --presses 'snapkv'"],
    [['bench', '--presses', 'knorm', '--prompt-tokens', '4096'], '4095 in all would work'],
    [['bench', '--prompt-tokens', '4000'], 'context length of 4096'],
    [['pack', 'models/needle', join(folder, 'p'), '--shard', '64MiB'], "'--shard <bytes>' argument '64MiB' is invalid. Between 64 bytes and 25MiB"],
    [['pack', folder, join(folder, 'p')], `the folder ${folder} holds no config.json`],
    [['pack', 'models/needle', 'models/needle'], 'models/needle is the model itself'],
    [['pack', 'models/needle', 'package.json'], 'package.json is, or lies in, a file'],
    [['frobnicate'], 'unknown command'],
    [['generate', 'x', '--backend', 'metal'], 'Allowed choices'],
    [['bench', '--random', 'llama-9000b'], '--random must be one of smollm2-135m, llama-1b'],
  ])('%j fails with a clear line', (args, message) => {
    const { status, err } = edgepress(...args);
    expect(status).toBe(1);
    expect(err).toContain(message);
    expect(err).not.toMatch(/\n\s+at /); // no stack
    expect(err.length).toBeLessThan(5000);
  });

  test('what goes on without end on standard input is left', () => {
    const zero = openSync('/dev/zero', 'r');
    const { status, stderr } = spawnSync(process.execPath, ['dist/cli/index.js', 'generate'], { encoding: 'utf8', stdio: [zero, 'pipe', 'pipe'] });
    closeSync(zero);
    expect([status, stderr]).toEqual([1, 'edgepress: standard input: it has more than 268435456 bytes; 268435456 or fewer are read\n']);
  });

  test('an argument of 100 kB is not said again', () => {
    const long = 'x'.repeat(100_000);
    for (const args of [
      [long],
      ['generate', `--${long}`],
      ['plan', '--tokens', long],
      ['generate', 'x', '-m', long],
      ['generate', 'x', '-c', long],
    ]) {
      const { status, err } = edgepress(...args);
      expect([status, err.length < 5000], err).toEqual([1, true]);
    }
  });
});

test.each([
  ['zigzag_snapkv', '{"preset":"zigzag_snapkv","window_size":6}'],
  ['{"scorer": "snapkv", "compression_ratio": 0.5}', '{"scorer":{"name":"snapkv","window_size":6},"compression_ratio":0.5}'],
  ['["snapkv", "knorm"]', '[{"preset":"snapkv","window_size":6},"knorm"]'],
])('a window that would work for --press %s is shown as a --press, and works', (press, works) => {
  const plan = (press: string) => edgepress('plan', '--tokens', '13', '-p', press);
  const { status, err } = plan(press);
  expect(status).toBe(1);
  expect(err).toContain(`window_size up to 6 would work, or "on_tight": "uniform"; here: --press '${works}'\n`);
  expect(plan(works).status).toBe(0);
});

test('npm run edgepress takes paths from where the user stands', () => {
  const cwd = join('test', 'golden');
  const { status, stdout } = spawnSync('npm', ['run', '-s', 'edgepress', '--', 'plan', '--tokens', '8', '-m', 'gguf/tiny-llama.gguf'], {
    encoding: 'utf8',
    timeout: 60_000,
    cwd,
  });
  expect([status, stdout]).toEqual([0, expect.stringContaining('fits the KV pool')]);
});

test('npm run edgepress, the command in a clone, runs the sources: what dist prints', () => {
  const { status, stdout } = spawnSync('npm', ['run', '-s', 'edgepress', '--', 'presses', '--json'], { encoding: 'utf8', timeout: 60_000 });
  expect(status).toBe(0);
  expect(Object.keys(JSON.parse(stdout))).toEqual(Object.keys(JSON.parse(edgepress('presses', '--json').out)));
});

describe('serve', () => {
  const running: ChildProcess[] = [];
  afterAll(async () => {
    for (const server of running) await stop(server);
  });

  /** The server, and what it printed when it was ready. */
  async function start(args: string[], env: Record<string, string> = {}): Promise<{ server: ChildProcess; printed: string; curl: string }> {
    const { API_KEYS: _, HOST: __, PORT: ___, ...rest } = process.env; // CI's own settings are not a newcomer's
    const server = spawn(process.execPath, ['dist/cli/index.js', 'serve', ...args], { env: { ...rest, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    running.push(server);
    let printed = '';
    for await (const chunk of server.stdout!) {
      printed += chunk;
      if (/^curl .*\n/m.test(printed)) break;
    }
    return { server, printed, curl: /^curl .*$/m.exec(printed)![0] };
  }

  async function stop(server: ChildProcess): Promise<void> {
    if (server.exitCode !== null || server.signalCode !== null) return;
    server.kill('SIGTERM');
    await new Promise((resolve) => server.once('exit', resolve));
  }

  const bash = (line: string, env: Record<string, string> = {}) =>
    execFileSync('bash', ['-c', line], { encoding: 'utf8', env: { ...process.env, ...env }, timeout: 20_000 });

  test.each(['node', 'workerd'])(
    'in %s: a port or host that cannot be had is named with what would work, before anything is loaded',
    async (runtime) => {
      const other = createServer().listen(0, '127.0.0.1');
      await new Promise((resolve) => other.once('listening', resolve));
      const { port } = other.address() as { port: number };
      const run = (...args: string[]) => edgepress('serve', '--runtime', runtime, ...args);
      try {
        for (const [args, message] of [
          [['--port', String(port)], `port ${port} of 127.0.0.1 is taken by another program; --port ${port + 1} (or PORT=…)`],
          [['--port', '65536'], 'whole number between 0 and 65535'],
          [['--port', String(port), '--model', 'missing.gguf'], 'there is no model at missing.gguf'],
          [['--port', 'http'], 'whole number between 0 and 65535'],
          [['--host', '192.0.2.1'], '"192.0.2.1" is not an address of this machine; --host 127.0.0.1'],
          [['--host', ''], 'Give an address'],
        ] as const) {
          const { status, err } = run(...args);
          expect(err).toContain(message);
          expect(status).toBe(1);
          expect(err).not.toMatch(/\n\s+at /);
        }
      } finally {
        other.close();
      }
    },
  );

  test('in Node: PORT is honoured, the printed curl line and that of GET / answer 4821, SIGTERM ends it', async () => {
    const port = await freePort();
    const { server, printed, curl } = await start([], { HOST: '127.0.0.1', PORT: String(port) });
    expect(printed).toContain(`http://127.0.0.1:${port}.`);
    expect(JSON.parse(bash(curl)).choices[0].message.content).toContain('4821');
    const home = await (await fetch(`http://127.0.0.1:${port}/`)).text();
    expect(JSON.parse(bash(/^curl .*$/m.exec(home)![0])).usage.kv_cache.press).toBe('zigzag_snapkv');
    expect(printed).toContain(`where the model runs in the page: http://127.0.0.1:${port}/chat/`);
    const statuses = ['/chat', '/chat/', '/chat/edgepress.js', '/chat/model/manifest.json', '/chat/..%2f..%2fpackage.json', '/chat/none'].map(
      async (path) => (await fetch(`http://127.0.0.1:${port}${path}`)).status,
    );
    expect(await Promise.all(statuses)).toEqual([200, 200, 200, 200, 404, 404]);
    await stop(server);
    expect(server.exitCode).toBe(0);
  });

  test('--port 0 prints the port that it took; with API_KEYS the curl lines carry a key without telling it', async () => {
    const { printed, curl } = await start(['--port', '0'], { API_KEYS: 'sesame, other' });
    const origin = /http:\/\/127\.0\.0\.1:[1-9]\d*/.exec(printed)![0];
    expect((await fetch(`${origin}/v1/models`)).status).toBe(401);
    const home = await (await fetch(`${origin}/`)).text();
    for (const line of [curl, /^curl .*$/m.exec(home)![0]]) {
      expect(line).toContain('-H "authorization: Bearer $API_KEY"');
      expect(JSON.parse(bash(line, { API_KEY: 'sesame' })).choices[0].message.content).toContain('4821');
    }
    expect(printed).toContain(`\nAPI_KEY=<one of your keys>\n${curl}\n`);
    expect(printed + home).not.toContain('sesame');
  });
});

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const probe = createServer().listen(0, '127.0.0.1', () => {
      const { port } = probe.address() as { port: number };
      probe.close(() => resolve(port));
    });
  });
}
