/** What an evaluation is made of: samples, which tasks and datasets give, and metrics, which score what was answered. Neither knows the engine. */

/** The metrics of evaluation/metrics/registry.ts. */
export type MetricName =
  | 'string_match_all'
  | 'string_match_part'
  | 'token_f1'
  | 'token_f1_first_line'
  | 'character_f1'
  | 'rouge_1'
  | 'rouge_2'
  | 'rouge_l'
  | 'rouge_l_first_line'
  | 'rouge_1_recall'
  | 'rouge_2_recall'
  | 'rouge_l_recall'
  | 'rouge_l_sum'
  | 'needle_rouge_l'
  | 'bleu_1'
  | 'bleu_4'
  | 'classification'
  | 'classification_first_line'
  | 'count'
  | 'retrieval'
  | 'code_similarity'
  | 'multiple_choice'
  | 'exact_match'
  | 'partial_match'
  | 'first_integer'
  | 'word_match'
  | 'character_name'
  | 'code_run'
  | 'code_debug'
  | 'math_find'
  | 'math_calc'
  | 'choice'
  | 'boxed_first'
  | 'boxed_last';

/** One question about one context, and what counts as an answer. Samples with equal contexts share one reading. */
export interface Sample {
  /** Unique and stable: "niah_single_1/1024/7". */
  readonly id: string;
  readonly task: string;
  readonly context: string;
  readonly question: string;
  /** What the answer begins with, read by the model before it goes on: a prediction is what comes after it. The space that a template writes before an answer is not of it. */
  readonly answerPrefix: string;
  readonly answers: readonly string[];
  readonly maxNewTokens: number;
  /** null where the answers are not public: only predictions are written. */
  readonly metric: MetricName | null;
  /** What the benchmark reports besides `metric`. */
  readonly alsoMetrics?: readonly MetricName[];
  /** Of a classification task. */
  readonly classes?: readonly string[];
  /** LongBench-E: length of the context in words. */
  readonly words?: number;
  /** Of the needle, percent. */
  readonly depth?: number;
  /** What scores are split by besides the task: LongBench v2's difficulty and length. */
  readonly groups?: Readonly<Record<string, string>>;
}

/** 0..1 for one prediction; a task's score is the mean, times 100. */
export interface Metric {
  readonly name: MetricName;
  readonly formula: string;
  readonly source: string;
  score(prediction: string, sample: Sample): number;
  /** What kvpress's evaluation scores, where that is another number. */
  kvpress?(prediction: string, sample: Sample): number;
  /** Of the sample in its task's mean, where that is weighted; 1 without it. */
  weight?(sample: Sample): number;
}

/** Number of tokens of a text, without special tokens: any tokenizer. */
export type CountTokens = (text: string) => number;
