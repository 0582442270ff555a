/** edgepress eval: what presses cost in answers, over tasks, lengths and ratios; eval report: tables and plots of the results; eval merge: shards into one. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { type EvaluationConfig, parseConfig, pressesOf } from '../evaluation/config.ts';
import { DATASETS } from '../evaluation/datasets/registry.ts';
import { type Made, madeOf } from '../evaluation/made-of.ts';
import { leaderboard } from '../evaluation/report/markdown.ts';
import { type Summary, summaryOf, writeReport } from '../evaluation/report/report.ts';
import { checkSame, keyOf, type Results, ResultsFile, readResults, type Setup, setupOf } from '../evaluation/results.ts';
import { type RunSummary, run } from '../evaluation/runner.ts';
import { samplesOf } from '../evaluation/samples.ts';
import { styles } from '../evaluation/tasks/registry.ts';
import { type Refused, variantsOf } from '../evaluation/variants.ts';
import { shownName } from '../presses/did-you-mean.ts';
import { InputError } from '../presses/input-error.ts';
import type { EdgeEngine } from '../worker/engine/engine.ts';
import { embeddedModel } from '../worker/package-root.ts';
import { openModel, progressBar } from './open-model.ts';
import { countFrom, type ModelOptions, makeFolderOf, readPress, readText, withModelOptions, writeNamed } from './options.ts';

interface EvalOptions extends ModelOptions {
  readonly config?: string;
  readonly out: string;
  readonly shard?: Shard;
  readonly presses?: string;
  readonly ratios?: number[];
  readonly tasks?: string[];
  readonly dataset?: string;
  readonly dataConfig?: string;
  readonly dataPath?: string;
  readonly lengths?: number[];
  readonly samples?: number;
  readonly seed?: number;
  readonly style?: string;
  readonly essay?: string;
  readonly questions?: string;
  readonly queryAware?: boolean;
  readonly kl?: boolean;
  readonly maxNewTokens?: number;
  readonly entryType?: string;
  readonly onePrefillPerPress?: boolean;
}

interface Shard {
  readonly index: number; // 1-based
  readonly of: number;
}

const ANSWERS = 'answers.jsonl';
const RESULTS = /^answers(-\d+-of-\d+)?\.jsonl$/;
/** Of a press that is named by its JSON. */
const MOST_SHOWN = 200;
const SUMMARY = 'summary.json';

export function evalCommand(program: Command, defaultModel: string): void {
  const command = program.command('eval').description('what presses cost in answers: tasks x lengths x presses x ratios, each context read once');
  for (const one of [program, command]) one.enablePositionalOptions(); // what stands behind report and merge is theirs
  command
    .option('--config <file>', 'a JSON file with any of these options, by their names with _ for -, and "grid"; options given here come first')
    .option(
      '--presses <list>',
      'preset names with commas, or a JSON list of press configs, or @file.json; default no_press, zigzag_snapkv, snapkv and random',
    )
    .option('--ratios <list>', 'compression ratios with commas; default 0.5', numbers)
    .option('--tasks <list>', "task names with commas; default RULER's 13", words)
    .addOption(
      new Option('--dataset <name>', 'a published benchmark in place of generated tasks; --tasks and --samples then choose of its rows').choices(
        DATASETS.map(({ name }) => name),
      ),
    )
    .option('--data-config <name>', 'of the dataset: a task or a length, such as 4096')
    .option('--data-path <path>', 'its file or folder (parquet, JSON lines); default a download from the Hugging Face hub, or HF_ENDPOINT')
    .option('--lengths <list>', 'tokens of a sample, with commas; default 512', numbers)
    .option('--samples <n>', 'samples of every task and length, default 20; of a dataset, default all', countFrom(1))
    .option('--seed <n>', 'of the samples; default 42', countFrom(0))
    .addOption(
      new Option('--style <name>', 'words of the tasks; default needle for the embedded model, else ruler').choices(styles.map(({ name }) => name)),
    )
    .option('--essay <file>', 'text of the essay haystack: a file or a folder of .txt files')
    .option('--questions <file>', 'questions of the QA tasks: JSONL of {"question", "answers", "context"}, or SQuAD')
    .option('--query-aware', 'the press sees the question too')
    .option('--kl', 'measure how far next-token distributions are from those of the full cache, too')
    .option('--max-new-tokens <n>', "tokens of an answer at most; default the task's", countFrom(1))
    .option('--entry-type <type>', 'how KV entries are stored; default f32')
    .option('--one-prefill-per-press', 'read every context anew for every press: the same answers, slower; to compare times')
    .option('--shard <i/n>', 'of all samples the i-th of n parts, into a file of its own', shard)
    .option('-o, --out <folder>', 'where results go; a run that was stopped goes on there', folderName, 'results');
  withModelOptions(command, defaultModel).action(evaluate);
  command
    .command('report')
    .description('tables and plots of results: report.html, report.md, SVG files')
    .argument('<folders...>', 'folders of results, of one setup')
    .option('-o, --out <folder>', 'where they go; default the first folder', folderName)
    .option('--title <text>', 'of the page', 'edgepress evaluation')
    .option('--config <file>', 'of the run: what its presses are made of, for results of earlier versions, which do not tell it')
    .action(report);
  command
    .command('merge')
    .description('answers of several shards or folders into one file')
    .argument('<folders...>', 'folders of results, of one setup')
    .requiredOption('-o, --out <folder>', 'where the merged answers go', folderName)
    .action(merge);
}

async function evaluate(options: EvalOptions): Promise<void> {
  const config = configOf(options);
  const { variants, refused } = variantsOf(pressesOf(config), config.ratios, config.query_aware, config.entry_type);
  for (const { press, ratio, why } of refused)
    console.error(`edgepress: ${shownName(press, MOST_SHOWN)}${ratio === null ? '' : ` at ${ratio}`} is left out: ${why}`);
  if (variants.length === 0) throw new InputError('eval_config', 'presses', 'no press is left to evaluate');
  const engine = await openModel(options);
  const stop = new AbortController();
  const interrupt = () => stop.abort(new InputError('eval_stopped', null, `stopped; the same command goes on from ${options.out}`));
  try {
    const style = config.style ?? (resolve(options.model) === resolve(embeddedModel()) ? 'needle' : 'ruler');
    const { placed, notes, setup: samples } = await samplesOf(config, counting(engine), style);
    for (const note of notes) console.error(`edgepress: ${note}`);
    const { id, fingerprint } = engine.info;
    const setup: Setup = {
      model: id,
      fingerprint,
      backend: engine.health().backend.name,
      entry_type: config.entry_type ?? 'f32',
      query_aware: config.query_aware,
      samples,
    };
    const { index, of } = options.shard ?? { index: 1, of: 1 };
    const own = placed.filter((_, i) => i % of === index - 1);
    process.once('SIGINT', interrupt).once('SIGTERM', interrupt); // before there are results, nothing is lost, and the signal ends it at once
    checkFolder(options.out, setup);
    const results = new ResultsFile(join(options.out, options.shard ? `answers-${index}-of-${of}.jsonl` : ANSWERS), setup);
    const bar = progressBar(`${own.length} samples x ${variants.length} presses`);
    const started = performance.now();
    let done: RunSummary;
    try {
      done = await run({
        engine,
        samples: own,
        variants,
        results,
        kl: config.kl,
        shareReadings: !options.onePrefillPerPress,
        onSample: bar.update,
        signal: stop.signal,
      });
    } finally {
      bar.stop();
      results.close();
    }
    for (const [variant, { why, samples }] of done.refused)
      console.error(`edgepress: ${shownName(variant, MOST_SHOWN)} refused ${samples} samples: ${why}`);
    const seconds = Math.round((performance.now() - started) / 1000);
    console.error(`edgepress: ${done.answered} answers from ${done.readings} readings in ${seconds} s, in ${results.path}`);
    if (done.answered === 0 && done.refused.size > 0 && results.size === 0)
      throw new InputError('eval_refused', null, 'no sample was answered: see above');
    summariseFolder(options.out, refused, options.json);
  } finally {
    process.off('SIGINT', interrupt).off('SIGTERM', interrupt);
    engine.close();
  }
}

/** All answers of a folder are summarised together at the end: what could not be is told before hours of work. */
function checkFolder(folder: string, setup: Setup): void {
  for (const name of existsSync(folder) && statSync(folder).isDirectory() ? readdirSync(folder) : []) {
    const there = RESULTS.test(name) ? setupOf(join(folder, name)) : null;
    if (there !== null) checkSame(join(folder, name), there, setup);
  }
}

function summariseFolder(folder: string, refused: readonly Refused[], json = false): void {
  const summary = summaryOf(readFolders([folder]), refused);
  const text = writeSummary(folder, summary);
  console.log(json ? text : leaderboard(summary.variants));
}

function writeSummary(folder: string, summary: Summary): string {
  const text = JSON.stringify(summary, null, 1);
  writeNamed(join(folder, SUMMARY), '--out', `${text}\n`);
  return text;
}

interface ReportOptions {
  readonly out?: string;
  readonly title: string;
  readonly config?: string;
}

async function report(folders: string[], { out = folders[0], title, config }: ReportOptions): Promise<void> {
  const read = readFolders(folders);
  const results = config === undefined ? read : { ...read, made: new Map([...madeAs(config, read), ...read.made]) };
  const summary = summaryOf(results, folders.flatMap(refusedIn));
  makeFolderOf(join(out, 'report.html'), '--out');
  writeSummary(out, summary);
  const plots = await writeReport(out, title, results, summary);
  console.log(`${join(out, 'report.html')}: ${results.answers.length} answers of ${summary.variants.length} variants, ${plots} plots`);
}

/** What the presses of a config are made of, at the ratios that were answered: for results that do not tell it themselves. */
function madeAs(path: string, { setup, answers }: Results): [string, Made][] {
  const config = configOf({ config: path });
  const ratios = [...new Set(answers.flatMap(({ ratio }) => ratio ?? []))];
  const { variants } = variantsOf(pressesOf(config), ratios.length > 0 ? ratios : config.ratios, setup.query_aware);
  return variants.map(({ key, request }) => [key, madeOf(request)]);
}

/** What a run told there of the presses that it left out; nothing where it told none. */
function refusedIn(folder: string): Refused[] {
  const path = join(folder, SUMMARY);
  if (!existsSync(path)) return [];
  try {
    return [...((JSON.parse(readText(path, 'folder')) as Partial<Summary>).refused ?? [])];
  } catch (error) {
    throw new InputError('results_invalid', null, `${path} is no summary (${(error as Error).message}): remove it`);
  }
}

function merge(folders: string[], { out }: { out: string }): void {
  const { setup, answers, made } = readFolders(folders);
  const file = new ResultsFile(join(out, ANSWERS), setup);
  try {
    file.describe(made);
    for (let i = 0; i < answers.length; i += MERGED_AT_ONCE) file.append(answers.slice(i, i + MERGED_AT_ONCE));
    console.log(`${file.path}: ${file.size} answers`);
  } finally {
    file.close();
  }
}

/** Answers in one write: all of a study would be longer than a text can be. */
const MERGED_AT_ONCE = 1000;

/** All answers of some folders, each once. Throws InputError where they are of different setups. */
function readFolders(folders: readonly string[]): Results {
  const paths = folders.flatMap((folder) => {
    let names: string[];
    try {
      names = readdirSync(folder);
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      const why = code === 'ENOENT' ? 'there is none of that name' : code === 'ENOTDIR' ? 'it is a file' : message;
      throw new InputError('file_unreadable', null, `${folder} is no folder of results: ${why}`);
    }
    const found = names.filter((name) => RESULTS.test(name)).sort();
    if (found.length === 0)
      throw new InputError('results_missing', null, `${folder} holds no ${ANSWERS}; edgepress eval --out ${basename(folder)} makes it`);
    return found.map((name) => join(folder, name));
  });
  const begun = paths.length > 1 ? paths.filter((path) => statSync(path).size > 0) : paths; // another shard may just have made its file
  const read = begun.map((path) => ({ path, ...readResults(path) }));
  if (read.length === 0) throw new InputError('results_missing', null, `${folders.join(', ')}: no answers yet`);
  const [{ setup }] = read;
  for (const other of read) checkSame(other.path, other.setup, setup);
  if (read.length === 1) return read[0];
  const answers = new Map(read.flatMap((one) => one.answers).map((answer) => [keyOf(answer), answer]));
  return { setup, answers: [...answers.values()], made: new Map(read.flatMap(({ made }) => [...made])) };
}

function configOf(options: Partial<EvalOptions>): EvaluationConfig {
  const given: Record<string, unknown> = {
    presses: options.presses === undefined ? undefined : pressList(options.presses),
    ratios: options.ratios,
    tasks: options.tasks,
    dataset: options.dataset,
    data_config: options.dataConfig,
    data_path: options.dataPath,
    lengths: options.lengths,
    samples: options.samples,
    seed: options.seed,
    style: options.style,
    essay: options.essay,
    questions: options.questions,
    query_aware: options.queryAware,
    kl: options.kl,
    max_new_tokens: options.maxNewTokens,
    entry_type: options.entryType,
  };
  for (const [key, value] of Object.entries(given)) if (value === undefined) delete given[key];
  if (options.config === undefined) return parseConfig(given, 'options');
  let file: unknown;
  try {
    file = JSON.parse(readText(options.config, '--config'));
  } catch (error) {
    if (error instanceof InputError) throw error;
    throw new InputError('eval_config', null, `--config ${options.config} is no JSON: ${(error as Error).message}`);
  }
  if (typeof file !== 'object' || file === null || Array.isArray(file))
    throw new InputError('eval_config', null, `--config ${options.config} must hold an object, {"presses": ["snapkv"], "ratios": [0.5]}`);
  return parseConfig({ ...file, ...given }, options.config);
}

function pressList(text: string): unknown[] {
  if (!/^\s*[[{@"]/.test(text)) return words(text);
  const read = readPress(text, '--presses');
  return Array.isArray(read) ? read : [read];
}

/** Plain tokens of a text, and what the model's template puts around a question. */
function counting(engine: EdgeEngine) {
  const around = engine.encode({ kind: 'text', text: 'a' }).tokens.length - 1;
  const frame = engine.encode({ kind: 'question', context: 'a', question: 'a', answerPrefix: '' }).tokens.length;
  return {
    count: (text: string) => (text === '' ? 0 : engine.encode({ kind: 'text', text }).tokens.length - around),
    reserve: frame, // the two words of nothing are room for tokens that join differently at the seams
  };
}

function words(text: string): string[] {
  return text
    .split(',')
    .map((word) => word.trim())
    .filter((word) => word !== '');
}

function numbers(text: string): number[] {
  const values = words(text).map(Number);
  if (values.length === 0 || values.some(Number.isNaN)) throw new InvalidArgumentError('Expected numbers with commas between them.');
  return values;
}

function folderName(text: string): string {
  if (text === '') throw new InvalidArgumentError('Expected the name of a folder; . is this one.');
  return text;
}

function shard(text: string): Shard {
  const [, index, of] = /^(\d+)\/(\d+)$/.exec(text)?.map(Number) ?? [];
  if (!(index >= 1 && index <= of && of <= 10_000)) throw new InvalidArgumentError('Expected i/n, the i-th of n parts, such as 1/8.');
  return { index, of };
}
