import { shownName } from '../../presses/did-you-mean.ts';
import { InputError } from '../../presses/input-error.ts';
import type { Metric, Sample } from '../contract.ts';
import { type Literal, pythonDict } from './python-literal.ts';
import { words } from './python-text.ts';

/**
 * LooGLE's shortdep_cloze: the answer is a dict from masks to entities. A task's score is masks right / masks asked, over all its samples: a sample weighs as many as
 * it has masks. (kvpress lets an answer that is no dict weigh 1 in exact_match; LooGLE itself, its number of masks.)
 */
const SOURCE = 'LooGLE, arXiv 2311.04939, get_exact_match and get_partial_match';
const weight = (sample: Sample): number => masks(sample).size;

export const exactMatch: Metric = {
  name: 'exact_match',
  formula: 'masks whose predicted entity is equal / masks; weighted by masks',
  source: SOURCE,
  weight,
  score: (prediction, sample) => {
    const predicted = pythonDict(prediction);
    return share(sample, (mask, entity) => predicted?.get(mask) === entity);
  },
};

/** An entity that is no text makes the whole answer wrong, as in kvpress; LooGLE's own loop ends in an error there. */
export const partialMatch: Metric = {
  name: 'partial_match',
  formula: 'masks whose predicted entity has a word of the reference / masks; weighted by masks',
  source: SOURCE,
  weight,
  score: (prediction, sample) => {
    const predicted = pythonDict(prediction) ?? new Map<string, Literal>();
    if ([...masks(sample).keys()].some((mask) => predicted.has(mask) && typeof predicted.get(mask) !== 'string')) return 0;
    return share(sample, (mask, entity) => {
      const found = new Set(words(String(predicted.get(mask) ?? '')));
      return words(entity).some((word) => found.has(word));
    });
  },
};

function share(sample: Sample, right: (mask: string, entity: string) => boolean): number {
  const reference = masks(sample);
  return [...reference].filter(([mask, entity]) => right(mask, entity)).length / Math.max(1, reference.size);
}

function masks({ id, answers }: Sample): Map<string, string> {
  const reference = pythonDict(answers[0] ?? '');
  const entries = [...(reference ?? [])];
  if (reference === null || entries.some(([, entity]) => typeof entity !== 'string')) {
    throw new InputError(
      'metric_reference',
      null,
      `${id}: the reference must be a dict of texts, as {"<mask-0>": "Bob"}, got ${JSON.stringify(shownName(answers[0] ?? ''))}`,
    );
  }
  return reference as Map<string, string>;
}
