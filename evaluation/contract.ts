/** What an evaluation is made of: samples, which tasks and datasets give, and metrics, which score what was answered. Neither knows the engine. */

/** The metrics of evaluation/metrics/registry.ts. */
export type MetricName = 'string_match_all' | 'string_match_part';

/** One question about one context, and what counts as an answer. Samples with equal contexts share one reading. */
export interface Sample {
  /** Unique and stable: "niah_single_1/1024/7". */
  readonly id: string;
  readonly task: string;
  readonly context: string;
  readonly question: string;
  /** What the answer begins with, read by the model before it goes on. */
  readonly answerPrefix: string;
  readonly answers: readonly string[];
  readonly maxNewTokens: number;
  readonly metric: MetricName;
  /** Of a classification task. */
  readonly classes?: readonly string[];
  /** LongBench-E: length of the context in words. */
  readonly words?: number;
  /** Of the needle, percent. */
  readonly depth?: number;
}

/** 0..1 for one prediction; a task's score is the mean, times 100. */
export interface Metric {
  readonly name: MetricName;
  readonly formula: string;
  readonly source: string;
  score(prediction: string, sample: Sample): number;
}

/** Number of tokens of a text, without special tokens: any tokenizer. */
export type CountTokens = (text: string) => number;
