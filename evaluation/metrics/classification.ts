import type { Metric } from '../contract.ts';
import { bestOf } from './best-of.ts';

/**
 * LongBench's score of trec and lsht.
 *     M = classes that stand in the prediction, less those that are a part of the reference's name
 *     1 / |M| if the reference is in M, else 0
 * The official loop removes names from the list it walks over, and so skips the name after each one it removes: kept, since scores depend on it.
 */
export const classification: Metric = {
  name: 'classification',
  formula:
    'max over references of [reference in M] / |M|; M: class names found in the prediction, without those that are a proper part of the reference',
  source: 'LongBench, arXiv 2308.14508, classification_score',
  score: (prediction, sample) => {
    const found = (sample.classes ?? []).filter((name) => prediction.includes(name));
    return bestOf(sample, (reference) => share(found, reference));
  },
};

function share(found: readonly string[], reference: string): number {
  const names = [...found];
  for (let i = 0; i < names.length; i++) {
    const name = names[i];
    if (name === reference || !reference.includes(name)) continue;
    names.splice(names.indexOf(name), 1); // the next name moves to i, and i moves on
  }
  return names.includes(reference) ? 1 / names.length : 0;
}
