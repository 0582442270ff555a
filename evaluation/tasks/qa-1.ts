import { qaTask } from './qa.ts';

/** RULER's qa_1: SQuAD's questions there; here the user's file, or own ones. */
export const qa1 = qaTask(
  'qa_1',
  'a question that one of many documents answers',
  'the paragraph with the answer, other paragraphs of the same article, then others; shuffled and numbered',
  1,
);
