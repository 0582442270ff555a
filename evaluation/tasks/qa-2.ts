import { qaTask } from './qa.ts';

/** RULER's qa_2: HotpotQA's questions there; here the user's file, or own ones. */
export const qa2 = qaTask(
  'qa_2',
  'a question that takes two of many documents',
  'all paragraphs of the question (two, in the own ones), then random others; shuffled and numbered',
  2,
);
