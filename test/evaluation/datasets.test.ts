/** Data sets from local files: layouts, what each row becomes, and what is told of files that are damaged or of another kind. */
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { Sample } from '../../evaluation/contract.ts';
import { type LoadOptions, loadSamples } from '../../evaluation/datasets/load.ts';
import { withNeedle } from '../../evaluation/datasets/needle-in-haystack.ts';
import { chooseFiles } from '../../evaluation/datasets/read/choose-files.ts';
import { jsonArray } from '../../evaluation/datasets/read/json-rows.ts';
import { DATASETS } from '../../evaluation/datasets/registry.ts';
import { METRICS, scoreOf } from '../../evaluation/metrics/registry.ts';
import { InputError } from '../../presses/input-error.ts';

const GOLDEN = 'test/golden/evaluation';
const folder = mkdtempSync(join(tmpdir(), 'datasets-'));
afterAll(() => rmSync(folder, { recursive: true }));

async function load(dataset: string, path: string, options: Partial<LoadOptions> = {}): Promise<Sample[]> {
  const samples: Sample[] = [];
  for await (const sample of loadSamples({ dataset, path, ...options })) samples.push(sample);
  return samples;
}

function put(name: string, content: string | Uint8Array): string {
  const path = join(folder, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
  return path;
}

const lines = (...rows: unknown[]): string => rows.map((row) => `${JSON.stringify(row)}\n`).join('');
const golden = (name: string): string => `${GOLDEN}/${name}.parquet`;

const PREPARED = { context: 'A long text.', question: 'What?', answer_prefix: 'It is', answer: ['x'], max_new_tokens: 20, task: 'niah_single_1' };

describe('parquet', () => {
  test.each(['ruler', 'ruler-none', 'ruler-gzip', 'ruler-zstd', 'ruler-brotli', 'ruler-lz4'])('%s: three rows as they were written', async (name) => {
    const samples = await load('ruler', golden(name), { config: '4096' });
    expect(samples).toEqual([
      {
        id: 'ruler/niah_single_1/4096/0',
        task: 'niah_single_1',
        context: 'One of the special magic numbers for quiet-river is: 4711.\n',
        question: 'What is the special magic number for quiet-river?',
        answerPrefix: 'The special magic number is',
        answers: ['4711'],
        maxNewTokens: 128,
        metric: 'string_match_all',
      },
      expect.objectContaining({
        id: 'ruler/vt/4096/1',
        context: 'A naïve 𝒜 text — 東京.',
        question: '',
        answers: ['ABCDE', 'FGHIJ'],
        metric: 'string_match_all',
      }),
      expect.objectContaining({ id: 'ruler/qa_1/4096/2', answers: ['Paris', 'paris'], maxNewTokens: 32, metric: 'string_match_part' }),
    ]);
  });

  test('a row group of 60 MB is read in batches: rows stay in order, and memory stays below it', async () => {
    const before = process.memoryUsage().rss;
    let [index, most] = [0, 0];
    for await (const { context, answers } of loadSamples({ dataset: 'ruler', path: golden('large-group') })) {
      expect(context.startsWith(`${index} word`) && context.length > 1_000_000).toBe(true);
      expect(answers).toEqual(Array(((index as number) % 3) + 1).fill(String(index)));
      most = Math.max(most, process.memoryUsage().rss - before);
      index++;
    }
    expect(index).toBe(60);
    expect(most).toBeLessThan(400 * 2 ** 20);
  });

  test.each([
    [
      'without-context',
      /without-context\.parquet: row 0 has no column "context"; its columns: question, answer_prefix, answer, max_new_tokens, task/,
    ],
    ['wrong-type', /row 0: column "context" must be text, got bigint 1/],
    ['wrong-list', /row 0: column "answer" must be text, got an object/],
    ['null-context', /row 1: column "context" must have a value, got null/],
    ['no-answers', /row 1: column "answer" must have at least one answer, got an empty list/],
    ['fraction-tokens', /row 0: column "max_new_tokens" must be an integer, got number 1.5/],
    ['invalid-utf8', /row 1: column "context" is not valid UTF-8/],
    ['long-text', /row 1: column "context" has 100000000 bytes; a text has at most 33554432/],
    ['empty', /empty\.parquet: no rows/],
  ])('%s is told with file, row and column', async (name, message) => {
    await expect(load('ruler', golden(name))).rejects.toThrow(message);
    await expect(load('ruler', golden(name))).rejects.toThrow(InputError);
  });

  test('a file that was cut off anywhere is refused with its name', async () => {
    const whole = readFileSync(golden('ruler'));
    for (const size of [0, 3, 8, 11, 12, 100, whole.length >> 1, whole.length - 9, whole.length - 1]) {
      const path = put('cut.parquet', whole.subarray(0, size));
      await expect(load('ruler', path), `${size} bytes`).rejects.toThrow(
        /cut\.parquet: cannot be read as parquet: .*; the file may be cut off or damaged/,
      );
    }
  });
});

/** hyparquet alone writes 2^31 values for some of these: the file's own numbers are checked before. */
test.each(['ruler', 'ruler-zstd'])('%s with any of its bytes changed: rows, or a refusal, and soon', async (name) => {
  const whole = readFileSync(golden(name));
  let refused = 0;
  for (let at = 0; at < whole.length; at++) {
    const changed = Buffer.from(whole);
    changed[at] ^= 0xff;
    const path = put('changed.parquet', changed);
    const started = performance.now();
    await load('ruler', path).catch((error) => {
      expect(error, `byte ${at}: ${error.stack}`).toBeInstanceOf(InputError);
      expect(error.message).toMatch(/changed\.parquet: /);
      refused++;
    });
    expect(performance.now() - started, `byte ${at}`).toBeLessThan(5000);
  }
  expect(refused).toBeGreaterThan(whole.length / 4);
});

describe('JSON', () => {
  test('JSON lines and an array of objects give the same samples, by chunks of any size', async () => {
    const rows = Array.from({ length: 30 }, (_, i) => ({
      ...PREPARED,
      context: `${i} "[{,}]\\ 東京\n${'x'.repeat(i * 9001)}`,
      answer: [`${i}`, '{"a": [1]}'],
    }));
    const fromLines = await load('ruler', put('rows.jsonl', lines(...rows)));
    expect(fromLines.map(({ context }) => context)).toEqual(rows.map(({ context }) => context));
    const text = JSON.stringify(rows, null, 2);
    expect(await load('ruler', put('rows.json', `\ufeff ${text}\n`))).toEqual(fromLines);
    expect(await load('ruler', put('tail.jsonl', `${lines(rows[0])}\n${JSON.stringify(rows[1])}`))).toEqual(
      fromLines.slice(0, 2).map((s, i) => ({ ...s, id: `ruler/niah_single_1/ruler/${i}` })),
    );
  });

  test.each([
    ['cut off', `${lines(PREPARED)}{"context": "abc`, /bad\.jsonl: row 1 is not valid JSON \(.*\); the file may be cut off/],
    ['no object', `${lines(PREPARED)}[1, 2]\n`, /row 1 must be a JSON object, got \[1, 2\]/],
    ['not UTF-8', Buffer.concat([Buffer.from('{"context": "'), Buffer.from([0xff]), Buffer.from('"}\n')]), /row 0 is not valid UTF-8/],
    ['a column missing', lines({ ...PREPARED, answer: undefined }), /row 0 has no column "answer"; its columns: context, question/],
    ['a column of another type', lines(PREPARED, { ...PREPARED, context: { text: 'x' } }), /row 1: column "context" must be text, got an object/],
    ['a list of something else', lines({ ...PREPARED, answer: [true] }), /column "answer" must be text, got boolean true/],
    ['no room for an answer', lines({ ...PREPARED, max_new_tokens: 0 }), /column "max_new_tokens" must be between 1 and 100000, got 0/],
    ['a number beyond integers', lines({ ...PREPARED, max_new_tokens: 1e300 }), /"max_new_tokens" must be an integer, got number 1e\+300/],
    ['a task that is none', lines({ ...PREPARED, task: null }), /column "task" must have a value, got null/],
    ['an inherited name', lines({ ...PREPARED, task: undefined }), /has no column "task"/],
  ])('%s', async (_, content, message) => {
    await expect(load('ruler', put('bad.jsonl', content))).rejects.toThrow(message);
  });

  test('a text of 100 MB is refused without reading on, in lines and in an array', async () => {
    const long = 'x'.repeat(100_000_000);
    await expect(load('ruler', put('long.jsonl', `{"context": "${long}"}\n`))).rejects.toThrow(/long\.jsonl: a row has more than 67108864 bytes/);
    await expect(load('ruler', put('long.json', `[{"context": "${long}"}]`))).rejects.toThrow(/a row has more than 67108864 bytes/);
    rmSync(join(folder, 'long.json'));
    await expect(load('ruler', put('long.jsonl', lines({ ...PREPARED, context: long.slice(0, 40_000_000) })))).rejects.toThrow(
      /row 0: column "context" has 40000000 bytes/,
    );
  });

  test.each([
    ['', /must be one JSON array of objects; it ends before its "\]"/],
    ['{"a": 1}', /got "\{" first/],
    ['[{"a": 1}', /it ends before/],
    ['[{"a": 1}, ]', /element 1 is empty/],
    ['[{"a": 1}] x', /got "x" after its end/],
    ['[1]', /row 0 must be a JSON object, got 1/],
    ['[{"a": 1]', /it ends before|not valid JSON/],
    ['[{"a": "]"}', /it ends before/],
  ])('an array that is none: %s', async (content, message) => {
    const read = async () => {
      for await (const row of jsonArray(put('array.json', content))) expect(row.number).toBe(0);
    };
    await expect(read()).rejects.toThrow(message);
  });
});

describe('folders', () => {
  const PATHS = [
    'README.md',
    '4096/test-00000-of-00002.parquet',
    '4096/test-00001-of-00002.parquet',
    '4096/train-00000-of-00001.parquet',
    '8192/test-00000-of-00001.parquet',
    'data/test-0.parquet',
    'qasper.jsonl',
    'qasper_e.jsonl',
  ];

  test('files of a configuration are chosen as the hub lays them out', () => {
    expect(chooseFiles(PATHS, '4096', 'test', 'here')).toEqual(PATHS.slice(1, 3));
    expect(chooseFiles(PATHS, 'qasper', 'test', 'here')).toEqual(['qasper.jsonl']);
    expect(chooseFiles(PATHS, undefined, 'test', 'here')).toEqual(['data/test-0.parquet']);
    expect(chooseFiles(['x/rows.jsonl', 'x/rows.parquet', 'x/.rows.parquet'], 'x', 'test', 'here')).toEqual(['x/rows.parquet']);
    expect(() => chooseFiles(PATHS, '16384', 'test', 'here')).toThrow(
      /here has no files of configuration "16384" \(16384\/test\*\.parquet or 16384\.jsonl\); it has 4096\/test/,
    );
    expect(() => chooseFiles(['a.txt'], undefined, 'test', 'here')).toThrow(
      /here has no files of split "test"; it has no \.parquet, \.jsonl, \.json file/,
    );
  });

  test('shards are read one after the other, and rows are numbered through', async () => {
    mkdirSync(join(folder, 'ruler/4096'), { recursive: true });
    for (const shard of [0, 1]) copyFileSync(golden('ruler'), join(folder, `ruler/4096/test-0000${shard}-of-00002.parquet`));
    const samples = await load('ruler', join(folder, 'ruler'), { config: '4096' });
    const ids = ['niah_single_1', 'vt', 'qa_1', 'niah_single_1', 'vt', 'qa_1'].map((task, i) => `ruler/${task}/4096/${i}`);
    expect(samples.map(({ id }) => id)).toEqual(ids);
  });

  test('what is not there, or no such name, is told', async () => {
    await expect(load('ruler', join(folder, 'nowhere'))).rejects.toThrow(/nowhere: no such file or folder/);
    await expect(load('ruler', put('rows.csv', 'a,b'))).rejects.toThrow(/a data set's file must be one of \.parquet, \.jsonl, \.json/);
    await expect(load('rular', golden('ruler'))).rejects.toThrow(/unknown dataset "rular"; did you mean "ruler"\?/);
    const named = async (options: LoadOptions) => {
      for await (const _ of loadSamples(options)) throw new Error('a sample');
    };
    await expect(named({ dataset: 'longbench' })).rejects.toThrow(/longbench needs a configuration, one of narrativeqa, qasper/);
    await expect(named({ dataset: 'longbench', config: 'qaspar' })).rejects.toThrow(
      /longbench has no configuration "qaspar"; did you mean "qasper"\?/,
    );
    await expect(named({ dataset: 'zero_scrolls', config: 'x' })).rejects.toThrow(/zero_scrolls has no configurations, got "x"/);
  });
});

describe('benchmarks', () => {
  const one = async (dataset: string, row: object, options: Partial<LoadOptions> = {}): Promise<Sample> =>
    (await load(dataset, put('one.jsonl', lines(row)), options))[0];

  test('every metric of every data set exists, and every configuration of one has a name of its own', () => {
    expect(new Set(DATASETS.map(({ name }) => name)).size).toBe(DATASETS.length);
    for (const { configs } of DATASETS) if (configs) expect(new Set(configs).size).toBe(configs.length);
    expect(DATASETS.find(({ name }) => name === 'longbench')?.configs).toHaveLength(16);
    expect(DATASETS.find(({ name }) => name === 'longbench-e')?.configs).toHaveLength(13);
    expect(DATASETS.find(({ name }) => name === 'infinitebench')?.configs).toHaveLength(12);
  });

  test('the README names every data set and every metric', () => {
    const readme = readFileSync('evaluation/README.md', 'utf8');
    for (const { name, hub } of DATASETS) expect(readme.includes(name) && readme.includes(hub), name).toBe(true);
    for (const name of Object.keys(METRICS)) expect(readme, name).toMatch(new RegExp(`^\\|[^|]*\\b${name}\\b[^|]*\\|`, 'm'));
  });

  test('LongBench, prepared: the row says everything but the metric', async () => {
    const [sample] = await load('longbench', golden('longbench'), { config: 'trec' });
    expect(sample).toEqual({
      id: 'longbench/trec/0',
      task: 'trec',
      context: 'Say of what type it is.\n\nQuestion: Who?\nType: Human\n',
      question: 'Question: Where is Paris?\n',
      answerPrefix: 'Type:',
      answers: ['Location'],
      maxNewTokens: 84,
      metric: 'classification_first_line',
      classes: ['Human', 'Location'],
    });
    expect(scoreOf(' Location\nQuestion: Human', sample)).toBe(1);
    const [spread] = await load('longbench-e', golden('longbench'), { config: 'trec_e' });
    expect(spread).toMatchObject({ id: 'longbench/trec_e/0', task: 'trec_e', words: 5321, metric: 'classification_first_line' });
  });

  test('LongBench, as published: our words around text and input, 20 tokens more than the paper gives', async () => {
    const raw = { context: 'THE TEXT', input: 'THE INPUT', answers: ['a', 'b'], all_classes: null, length: 7, dataset: 'qasper' };
    const paper: Record<string, number> = {
      narrativeqa: 128,
      qasper: 128,
      multifieldqa_en: 64,
      hotpotqa: 32,
      '2wikimqa': 32,
      musique: 32,
      gov_report: 512,
      qmsum: 512,
      multi_news: 512,
      trec: 64,
      triviaqa: 32,
      samsum: 128,
      passage_count: 32,
      passage_retrieval_en: 32,
      lcc: 64,
      'repobench-p': 64,
    };
    for (const [dataset, tokens] of Object.entries(paper)) {
      const sample = await one('longbench', { ...raw, dataset, all_classes: ['x'] });
      expect(sample, dataset).toMatchObject({ task: dataset, maxNewTokens: tokens + 20, answers: ['a', 'b'] });
      expect(sample.context).toContain('THE TEXT');
      expect(sample.context).not.toContain('THE INPUT');
      expect(sample.question.includes('THE INPUT')).toBe(!['gov_report', 'multi_news', 'passage_count'].includes(dataset));
      expect(sample.answerPrefix.length).toBeGreaterThan(0);
    }
    // what the input ends in is said by the answer's prefix
    expect(await one('longbench', { ...raw, dataset: 'triviaqa', input: 'Passage\nQuestion\nAnswer:' })).toMatchObject({
      question: 'Passage\nQuestion\n',
      answerPrefix: 'Answer:',
    });
    // code is not to have a line end after it
    expect((await one('longbench', { ...raw, dataset: 'lcc', context: 'def f(x):' })).context.endsWith('def f(x):')).toBe(true);
    expect(await one('longbench-e', { ...raw, dataset: 'qasper' }, { config: 'qasper_e' })).toMatchObject({
      id: 'longbench/qasper_e/0',
      words: 7,
      metric: 'token_f1',
    });
    await expect(one('longbench', { ...raw, dataset: 'vcsum' })).rejects.toThrow(/column "dataset" must be one of narrativeqa, .*, got "vcsum"/);
    await expect(one('longbench', { ...raw, dataset: 'constructor' })).rejects.toThrow(/got "constructor"/);
  });

  test('LongBench v2: four choices, in both layouts', async () => {
    const row = {
      context: 'TEXT',
      question: 'Q?',
      answer: 'B',
      difficulty: 'easy',
      length: 'short',
      choice_A: 'one',
      choice_B: 'two',
      choice_C: 'three',
      choice_D: 'four',
    };
    const sample = await one('longbench-v2', row);
    expect(sample).toMatchObject({ answers: ['B'], maxNewTokens: 16, groups: { difficulty: 'easy', length: 'short' } });
    expect(sample.context).toContain('TEXT');
    expect(sample.question).toContain('(B) two');
    expect(scoreOf('The correct answer is (B).', sample)).toBe(1);
    expect(await one('longbench-v2', { ...row, max_new_tokens: 16, answer_prefix: '' })).toMatchObject({ context: 'TEXT', question: 'Q?' });
    await expect(one('longbench-v2', { ...row, answer: 'E' })).rejects.toThrow(/column "answer" must be one of A, B, C, D, got "E"/);
  });

  test('LooGLE: the first metric and those it reports besides', async () => {
    const cloze = await one('loogle', { ...PREPARED, task: 'shortdep_cloze', answer: '{"<mask-0>": "Ann", "<mask-1>": "Bob"}' });
    expect(cloze).toMatchObject({ metric: 'exact_match', alsoMetrics: ['partial_match'] });
    expect(scoreOf("{'<mask-0>': 'Ann'}", cloze)).toBe(0.5);
    expect(await one('loogle', { ...PREPARED, task: 'longdep_qa', answer: 'x y' })).toMatchObject({ answers: ['x y'], metric: 'rouge_l_recall' });
    await expect(one('loogle', { ...PREPARED, task: 'other' })).rejects.toThrow(/column "task" must be one of shortdep_qa/);
  });

  test('ZeroSCROLLS has predictions only', async () => {
    expect(await one('zero_scrolls', { ...PREPARED, task: 'quality', answer: '' })).toMatchObject({
      id: 'zero_scrolls/quality/0',
      answers: [],
      metric: null,
    });
  });

  test("InfiniteBench: the option's text is found beside its letter", async () => {
    const question = 'Which?\nA. not this\n\nOnly one of these:\nA. Walking Georgie\nB. Light work';
    const sample = await one('infinitebench', { ...PREPARED, task: 'longbook_choice_eng', question, answer: ['A'] });
    expect(sample).toMatchObject({ answers: ['Walking Georgie', 'A'], metric: 'choice' });
    expect(scoreOf('Walking Georgie', sample)).toBe(1);
    expect((await one('infinitebench', { ...PREPARED, task: 'code_debug', question, answer: ['B'] })).answers).toEqual(['Light work', 'B']);
    expect((await one('infinitebench', { ...PREPARED, task: 'code_debug', question, answer: ['f', 'B'] })).answers).toEqual(['f', 'B']);
    expect((await one('infinitebench', { ...PREPARED, task: 'math_calc', answer: [[1, 4, 8]] })).answers).toEqual(['1', '4', '8']);
    await expect(one('infinitebench', { ...PREPARED, task: 'code_debug', answer: ['C'] })).rejects.toThrow(
      /column "question" must have a line "C\. …"/,
    );
    await expect(one('infinitebench', { ...PREPARED, task: 'code_debug', answer: ['foo'] })).rejects.toThrow(
      /must end in one of A, B, C, D, got "foo"/,
    );
  });

  test('needle_in_haystack: the first row, and its needle at a depth in tokens', async () => {
    const samples = await load('needle_in_haystack', golden('needle'));
    expect(samples).toHaveLength(1);
    const words = `${samples[0].context} ${samples[0].answers[0]}`.split(' ');
    const tokens = {
      encode: (text: string) => text.split(' ').map((word) => words.indexOf(word)),
      decode: (ids: readonly number[]) => ids.map((id) => words[id]).join(' '),
    };
    // 160 - 2 of the needle - 150 left free: 8 words of the essay
    const at = (depth: number) => withNeedle(samples[0], tokens, 160, depth, (text) => text).context;
    expect(at(0)).toBe('the needle one two three four five six seven eight');
    expect(at(50)).toBe('one two three four the needle five six seven eight');
    expect(at(99)).toBe('one two three four five six seven the needle eight');
    expect(at(100)).toBe('one two three four five six seven eight the needle');
    expect(withNeedle(samples[0], tokens, 160, 50)).toMatchObject({
      id: 'needle_in_haystack/160/50',
      depth: 50,
      answers: ['the needle'],
      alsoMetrics: ['rouge_1', 'rouge_2'],
    });
    expect(scoreOf('the needle', samples[0])).toBeGreaterThan(0.99);
    expect(() => withNeedle(samples[0], tokens, 151, 50)).toThrow(/lengths from 152 on have room for it; got 151/);
    expect(() => withNeedle(samples[0], tokens, 160, 101)).toThrow(/between 0 and 100 percent, got 101/);
  });

  test('mathematics: boxed answers', async () => {
    const math = await one('math500', { ...PREPARED, answer: '42' });
    expect(math).toMatchObject({ id: 'math500/0', metric: 'boxed_first' });
    expect(scoreOf(String.raw`so \boxed{42}`, math)).toBe(1);
    expect(await one('aime25', { ...PREPARED, answer: 42 })).toMatchObject({ answers: ['42'], metric: 'boxed_last' });
  });

  test('what a data set gives can be scored by the metrics it names', async () => {
    for (const sample of await load('ruler', golden('ruler'))) {
      expect(METRICS[sample.metric!].name).toBe(sample.metric);
      expect(scoreOf(sample.answers.join(' '), sample)).toBe(1);
      expect(scoreOf('', sample)).toBe(0);
    }
  });
});
