import { shownName } from '../../presses/did-you-mean.ts';
import { InputError } from '../../presses/input-error.ts';
import type { Metric, Sample } from '../contract.ts';
import { bestOf } from './best-of.ts';
import { shareOfNumbers } from './count.ts';

/** LongBench's passage_retrieval_en and _zh. */
export const retrieval: Metric = {
  name: 'retrieval',
  formula:
    'max over references of numbers in the prediction equal to n / numbers in the prediction, where the reference says "Paragraph n" (or 段落n)',
  source: 'LongBench, arXiv 2308.14508, retrieval_score and retrieval_zh_score',
  score: (prediction, sample) => bestOf(sample, (reference) => shareOfNumbers(prediction, paragraph(reference, sample))),
};

function paragraph(reference: string, { id }: Sample): string {
  const number = /(?:Paragraph |段落)(\p{Nd}+)/u.exec(reference)?.[1];
  if (number === undefined) {
    throw new InputError(
      'metric_reference',
      null,
      `${id}: the reference must name a paragraph, as "Paragraph 4" does, got ${JSON.stringify(shownName(reference))}`,
    );
  }
  return number;
}
