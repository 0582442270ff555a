/** Golden files and models for tests: paths from the repository's root. */
import { existsSync, readFileSync } from 'node:fs';
import { parsePress } from '../../presses/config.ts';
import type { EdgeEngine } from '../../worker/engine/engine.ts';
import { greedy as greedyTokens } from '../../worker/engine/probe.ts';
import type { GenerateRequest, Sampling } from '../../worker/engine/types.ts';
import { type LoadOptions, openEngine } from '../../worker/node.ts';

export function golden<T>(path: string): T {
  return JSON.parse(readFileSync(new URL(`../golden/${path}`, import.meta.url), 'utf8')) as T;
}

export function goldenPath(name: string): string {
  if (name === 'needle') return 'models/needle';
  return existsSync(`test/golden/gguf/${name}.gguf`) ? `test/golden/gguf/${name}.gguf` : `test/golden/models/${name}`;
}

export function openGolden(name: string, options: LoadOptions = {}): Promise<EdgeEngine> {
  const artifacts = `test/golden/library/artifacts/${name}`;
  return openEngine(goldenPath(name), { artifacts: existsSync(artifacts) ? artifacts : undefined, ...options });
}

export const greedy: Sampling = greedyTokens(64);

/** Token ids of a generation. */
export async function tokensOf(
  engine: EdgeEngine,
  tokens: readonly number[],
  press: unknown = 'no_press',
  sampling: Partial<Sampling> = {},
): Promise<number[]> {
  const request: GenerateRequest = { prompt: { kind: 'tokens', tokens }, press: parsePress(press), sampling: { ...greedy, ...sampling } };
  const ids: number[] = [];
  for await (const event of engine.generate(request)) if (event.type === 'text') ids.push(...event.tokenIds);
  return ids;
}

export interface Sample {
  task: string;
  context_length: number;
  context: string;
  question: string;
  answers: string[];
  prompt_token_ids: number[];
  greedy_output_token_ids: number[];
}

/** Held-out samples of models/needle. */
export function needleSamples(): Sample[] {
  return readFileSync('models/needle/samples.jsonl', 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Sample);
}
