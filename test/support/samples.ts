/** Held-out samples of models/needle, and how its README scores an answer. */
import { readFileSync } from 'node:fs';

export interface Sample {
  readonly task: string;
  readonly context_length: number;
  readonly context: string;
  readonly question: string;
  readonly answers: readonly string[];
  readonly prompt_token_ids: readonly number[];
  readonly greedy_output_token_ids: readonly number[];
  readonly greedy_output_text: string;
  readonly recall: number;
}

export function samples(): Sample[] {
  const lines = readFileSync('models/needle/samples.jsonl', 'utf8').trimEnd().split('\n');
  return lines.map((line) => JSON.parse(line) as Sample);
}

/** One user turn of two text parts: with scope "context" the first is pressed, the second is not. */
export function twoParts({ context, question }: Pick<Sample, 'context' | 'question'>) {
  const content = [`${context}\n`, question].map((text) => ({ type: 'text' as const, text }));
  return [{ role: 'user' as const, content }];
}

/** The share of expected answers that the list holds, and whether it is exactly the expected list: models/recipe/evaluate.py, `score`. */
export function score(answers: readonly string[], text: string): { recall: number; exact: boolean } {
  const got = text.split(',').map((item) => item.split(': ').at(-1)!.trim());
  const found = answers.filter((answer) => got.includes(answer)).length;
  return { recall: found / answers.length, exact: JSON.stringify(got) === JSON.stringify(answers) };
}
