import type { Metric } from '../../contract.ts';
import { stripped, words } from '../python-text.ts';

const SEPARATORS = /[\n:"'.,?!{}]/g;

/** InfiniteBench's kv_retrieval. */
export const wordMatch: Metric = {
  name: 'word_match',
  formula: '[first reference is a word of the prediction], words separated by white space and : " \' . , ? ! { }',
  source: 'InfiniteBench, arXiv 2402.13718, get_score_one_kv_retrieval',
  score: (prediction, { answers }) => (words(prediction.replace(SEPARATORS, ' ')).includes(answers[0]) ? 1 : 0),
};

/**
 * InfiniteBench's longdialogue_qa_eng: the character's first name in the list must be one word of the prediction, so a name of two words is never right there.
 * kvpress takes any of the names, anywhere in the prediction.
 */
export const characterName: Metric = {
  name: 'character_name',
  formula: '[first reference is a word of the prediction in upper case], words as in word_match',
  source: 'InfiniteBench, arXiv 2402.13718, get_score_one_longdialogue_qa_eng',
  score: (prediction, { answers }) => (words(stripped(prediction).replace(SEPARATORS, ' ').toUpperCase()).includes(answers[0]) ? 1 : 0),
  kvpress: (prediction, { answers }) => (answers.some((name) => prediction.toUpperCase().includes(name.toUpperCase())) ? 1 : 0),
};
