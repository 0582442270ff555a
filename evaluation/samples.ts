/** The samples of an evaluation: generated tasks at every length, or those of a published benchmark. */
import { createHash } from 'node:crypto';
import { InputError } from '../presses/input-error.ts';
import type { EvaluationConfig } from './config.ts';
import type { CountTokens, Sample } from './contract.ts';
import { loadSamples } from './datasets/load.ts';
import { Random } from './random.ts';
import type { Setup } from './results.ts';
import type { Placed } from './runner.ts';
import { generateSamples } from './tasks/generate.ts';
import { readEssay, readQuestions } from './tasks/read-files.ts';
import { rulerTasks } from './tasks/registry.ts';

const SAMPLES = 20;
const LENGTHS = [512];

export interface SampleSource {
  readonly placed: readonly Placed[];
  readonly notes: readonly string[];
  /** What tells these samples from others of the same names. */
  readonly setup: Setup['samples'];
}

export interface Counting {
  readonly count: CountTokens;
  /** Tokens that the model's template puts around a question. */
  readonly reserve: number;
}

export function samplesOf(config: EvaluationConfig, counting: Counting, style: string): Promise<SampleSource> {
  return config.dataset === undefined ? generated(config, counting, style) : published(config, config.dataset);
}

/** Sample by sample, not task by task: a run that is stopped early has seen something of everything. */
async function generated(config: EvaluationConfig, { count, reserve }: Counting, style: string): Promise<SampleSource> {
  const { lengths = LENGTHS, samples = SAMPLES, seed, max_new_tokens: most } = config;
  if (config.data_config !== undefined || config.data_path !== undefined)
    throw new InputError('eval_config', 'dataset', 'data_config and data_path are of a dataset, and none is named; add "dataset", or leave them out');
  const essay = config.essay === undefined ? undefined : await readEssay(config.essay);
  const questions = config.questions === undefined ? undefined : await readQuestions(config.questions);
  const notes = new Set<string>();
  const asked = (config.tasks ?? rulerTasks.map(({ name }) => name)).map((one) => (typeof one === 'string' ? { task: one, params: {} } : one));
  const lists = asked.flatMap(({ task, params }) =>
    lengths.map((length) => {
      const made = generateSamples({ task, length, samples, seed, count, reserve, style, params, essay, questions });
      for (const note of made.notes) notes.add(note);
      return made.samples.map((sample): Placed => ({ sample: most === undefined ? sample : { ...sample, maxNewTokens: most }, length }));
    }),
  );
  const placed = Array.from({ length: samples }, (_, i) => lists.map((list) => list[i])).flat();
  const own = asked.filter(({ params }) => Object.keys(params).length > 0);
  const setup = {
    seed,
    style,
    reserve,
    params: Object.fromEntries(own.map(({ task, params }) => [task, params])),
    essay: essay === undefined ? null : digest(essay),
    questions: questions === undefined ? null : digest(JSON.stringify(questions)),
    max_new_tokens: most ?? null,
  };
  return { placed, notes: [...notes], setup };
}

/** Rows in their order, so that those of one context stand together; of many, as many as are asked for, drawn by the seed. */
async function published(config: EvaluationConfig, dataset: string): Promise<SampleSource> {
  const { data_config, data_path, seed, samples: wanted = Number.POSITIVE_INFINITY, max_new_tokens: most } = config;
  if (dataset === 'needle_in_haystack') {
    const message = 'the dataset needle_in_haystack is essays to hide a needle in; use the task of that name, with the essays as --essay';
    throw new InputError('eval_config', 'dataset', message);
  }
  const others = (['lengths', 'style', 'essay', 'questions'] as const).filter((field) => config[field] !== undefined);
  if (others.length > 0)
    throw new InputError(
      'eval_config',
      others[0],
      `${others.join(', ')}: of generated tasks, not of the dataset ${dataset}; leave them out, or the dataset`,
    );
  const tasks = config.tasks?.map((one) => (typeof one === 'string' ? one : one.task));
  const random = new Random('dataset', dataset, seed);
  const drawn: { at: number; sample: Sample }[] = []; // Vitter's reservoir: each sample is as likely as any other
  let seen = 0;
  const rows = createHash('sha256'); // of all, whichever are chosen: those of another file are no others of the same
  for await (const sample of loadSamples({ dataset, config: data_config, path: data_path })) {
    rows.update(JSON.stringify(sample));
    if (tasks !== undefined && !tasks.includes(sample.task)) continue;
    const place = seen < wanted ? seen : random.int(0, seen);
    if (place < wanted) drawn[place] = { at: seen, sample };
    seen++;
  }
  if (seen === 0) throw new InputError('eval_config', 'tasks', `${dataset} has no rows of ${tasks?.join(', ')}`);
  const ordered = drawn.sort((a, b) => a.at - b.at).map(({ sample }) => sample);
  return {
    placed: ordered.map((sample) => ({ sample: most === undefined ? sample : { ...sample, maxNewTokens: most }, length: null })),
    notes: wanted < seen ? [`${wanted} of ${seen} samples of ${dataset} were drawn`] : [],
    setup: { dataset, data_config: data_config ?? null, rows: rows.digest('hex').slice(0, 16), seed, max_new_tokens: most ?? null },
  };
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}
