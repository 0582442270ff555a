/** The samples of an evaluation: generated tasks at every length. */
import { createHash } from 'node:crypto';
import type { EvaluationConfig } from './config.ts';
import type { CountTokens } from './contract.ts';
import type { Setup } from './results.ts';
import type { Placed } from './runner.ts';
import { generateSamples } from './tasks/generate.ts';
import { readEssay, readQuestions } from './tasks/read-files.ts';
import { rulerTasks } from './tasks/registry.ts';

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

/** Sample by sample, not task by task: a run that is stopped early has seen something of everything. */
export async function samplesOf(config: EvaluationConfig, { count, reserve }: Counting, style: string): Promise<SampleSource> {
  const { lengths, samples, seed, max_new_tokens: most } = config;
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
    params: Object.fromEntries(own.map(({ task, params }) => [task, params])) as never,
    essay: essay === undefined ? null : digest(essay),
    questions: questions === undefined ? null : digest(JSON.stringify(questions)),
    max_new_tokens: most ?? null,
  };
  return { placed, notes: [...notes], setup };
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}
