import type { Metric } from '../contract.ts';
import { bestOf } from './best-of.ts';
import { withoutPunctuation, words } from './python-text.ts';
import { f1 } from './token-f1.ts';

/** The punctuation that the official list has, which is without \u300a and \uff0e. */
const CHINESE_PUNCTUATION =
  /[\u2013\u2014\u2018\u2019\u201b-\u201f\u2026\u2027\u3001-\u3003\u300b-\u3011\u3014-\u301f\u3030\u303e\u303f\ufe4f\uff01-\uff0d\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff64]/g;

/** F1 over characters: Chinese question answering of InfiniteBench (longbook_qa_chn). LongBench's Chinese tasks cut words with jieba, which is not built. */
export const characterF1: Metric = {
  name: 'character_f1',
  formula: 'max over references of F1 of the multisets of characters; lower case, no white space, no ASCII or Chinese punctuation',
  source: 'InfiniteBench qa_f1_score_zh',
  score: (prediction, sample) => {
    const predicted = characters(prediction);
    return bestOf(sample, (answer) => f1(predicted, characters(answer)));
  },
};

function characters(text: string): string[] {
  return [...words(withoutPunctuation(text.toLowerCase()).replace(CHINESE_PUNCTUATION, '')).join('')];
}
