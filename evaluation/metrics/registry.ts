/** Every metric by its name. A task's score is the mean over its samples times 100: task-score.ts. */
import type { Metric, MetricName, Sample } from '../contract.ts';
import { bleu1, bleu4 } from './bleu.ts';
import { boxedFirst, boxedLast } from './boxed.ts';
import { characterF1 } from './character-f1.ts';
import { classification } from './classification.ts';
import { exactMatch, partialMatch } from './cloze.ts';
import { codeSimilarity } from './code-similarity.ts';
import { count } from './count.ts';
import { classificationFirstLine, rougeLFirstLine, tokenF1FirstLine } from './first-line.ts';
import { choice } from './infinitebench/choice.ts';
import { codeDebug } from './infinitebench/code-debug.ts';
import { codeRun } from './infinitebench/code-run.ts';
import { firstInteger } from './infinitebench/first-integer.ts';
import { mathCalc } from './infinitebench/math-calc.ts';
import { mathFind } from './infinitebench/math-find.ts';
import { characterName, wordMatch } from './infinitebench/word-match.ts';
import { multipleChoice } from './multiple-choice.ts';
import { retrieval } from './retrieval.ts';
import { needleRougeL, rougeLF, rougeLRecall } from './rouge-l.ts';
import { rougeLSum } from './rouge-l-sum.ts';
import { rouge1, rouge1Recall, rouge2, rouge2Recall } from './rouge-n.ts';
import { stringMatchAll } from './string-match-all.ts';
import { stringMatchPart } from './string-match-part.ts';
import { tokenF1 } from './token-f1.ts';

export const METRICS: Readonly<Record<MetricName, Metric>> = {
  string_match_all: stringMatchAll,
  string_match_part: stringMatchPart,
  token_f1: tokenF1,
  token_f1_first_line: tokenF1FirstLine,
  character_f1: characterF1,
  rouge_1: rouge1,
  rouge_2: rouge2,
  rouge_l: rougeLF,
  rouge_l_first_line: rougeLFirstLine,
  rouge_1_recall: rouge1Recall,
  rouge_2_recall: rouge2Recall,
  rouge_l_recall: rougeLRecall,
  rouge_l_sum: rougeLSum,
  needle_rouge_l: needleRougeL,
  bleu_1: bleu1,
  bleu_4: bleu4,
  classification,
  classification_first_line: classificationFirstLine,
  count,
  retrieval,
  code_similarity: codeSimilarity,
  multiple_choice: multipleChoice,
  exact_match: exactMatch,
  partial_match: partialMatch,
  first_integer: firstInteger,
  word_match: wordMatch,
  character_name: characterName,
  code_run: codeRun,
  code_debug: codeDebug,
  math_find: mathFind,
  math_calc: mathCalc,
  choice,
  boxed_first: boxedFirst,
  boxed_last: boxedLast,
};

/** 0..1 by the official metric, or by kvpress's own where `compat` says so and it has another; null where the sample has no public answer. */
export function scoreOf(prediction: string, sample: Sample, metric: MetricName | null = sample.metric, compat?: 'kvpress'): number | null {
  if (metric === null) return null;
  const { score, kvpress } = METRICS[metric];
  return (compat === 'kvpress' && kvpress ? kvpress : score)(prediction, sample);
}
