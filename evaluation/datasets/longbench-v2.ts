import { shownName } from '../../presses/did-you-mean.ts';
import type { Sample } from '../contract.ts';
import { type Dataset, type Place, PREPARED, prepared } from './dataset.ts';
import type { Row } from './read/row.ts';

const NEW_TOKENS = 16;
const LETTERS = ['A', 'B', 'C', 'D'];

/** LongBench v2: 503 questions with four choices. */
export const longbenchV2: Dataset = {
  name: 'longbench-v2',
  about: '503 questions with four choices on texts of 8,000 to 2,000,000 words; split by difficulty and length',
  hub: 'simonjegou/LongBench-v2',
  configs: ['0shot'],
  split: 'test',
  columns: [...PREPARED, 'difficulty', 'length', '_id', ...LETTERS.map((letter) => `choice_${letter}`)],
  samples: (row, place) => [sample(row, place)],
};

function sample(row: Row, { index }: Place): Sample {
  const answer = row.text('answer');
  if (!LETTERS.includes(answer)) throw row.wrong('answer', `must be one of ${LETTERS.join(', ')}, got ${JSON.stringify(shownName(answer))}`);
  return {
    ...(row.has('max_new_tokens') ? prepared(row) : published(row)),
    id: `longbench-v2/${index}`,
    task: 'longbench-v2',
    answers: [answer],
    metric: 'multiple_choice',
    groups: { difficulty: row.text('difficulty'), length: row.text('length') },
  };
}

/** The benchmark's own rows have no words around them; these are ours, but for the phrase that the metric looks for. */
function published(row: Row): Pick<Sample, 'context' | 'question' | 'answerPrefix' | 'maxNewTokens'> {
  const choices = LETTERS.map((letter) => `(${letter}) ${row.text(`choice_${letter}`)}`).join('\n');
  return {
    context: `Read this text; a question about it follows.\n<text>\n${row.text('context')}\n</text>\n\n`,
    question: `Question: ${row.text('question')}\nChoices:\n${choices}\n\nAnswer in the words "The correct answer is (letter)".`,
    answerPrefix: '',
    maxNewTokens: NEW_TOKENS,
  };
}
