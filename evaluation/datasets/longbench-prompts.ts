/**
 * LongBench's rows as they are published have a text and an input, and no words around them. These are our own, in kvpress's split: task and text are the context,
 * the input is the question. Scores compare with the official tables only on rows that carry the official words (the prepared data set).
 */
import type { Sample } from '../contract.ts';

interface Words {
  readonly before: string;
  /** Between the text and the question: what was asked, once more. */
  readonly after?: string;
  readonly question: (input: string) => string;
  readonly answer: string;
  /** What ends the published input and is said by `answer`. */
  readonly ends?: string;
}

const ASKED = (input: string): string => `Question: ${input}\n`;
const FROM_PASSAGES: Words = {
  before: 'Below are passages of text. Use them to answer a question, and give nothing but the answer.\n\n',
  after: 'Answer from the passages above, with nothing but the answer.\n\n',
  question: ASKED,
  answer: 'Answer:',
};
const NEXT_LINE: Words = { before: 'Continue this code with its next line.\n', question: (input) => input, answer: 'The next line is:\n' };

const WORDS: Readonly<Record<string, Words>> = {
  narrativeqa: {
    before:
      'Below is a story, a novel or the script of a film. Answer a question about it in as few words as you can, without explaining.\n\nThe story: ',
    after: 'Answer about the story above in as few words as you can, without explaining.\n\n',
    question: ASKED,
    answer: 'Answer:',
  },
  qasper: {
    before:
      'Below is a scientific paper. Answer a question about it in a phrase or one sentence, without explaining. Say "yes" or "no" where that is the answer, and "unanswerable" where the paper does not tell.\n\nThe paper: ',
    after:
      'Answer from the paper above in a phrase or one sentence: "yes" or "no" where that is the answer, "unanswerable" where it does not tell.\n\n',
    question: ASKED,
    answer: 'Answer:',
  },
  multifieldqa_en: {
    before: 'Read this text, and answer shortly.\n\n',
    after: 'Answer from the text above, with nothing but the answer.\n\n',
    question: ASKED,
    answer: 'Answer:',
  },
  hotpotqa: FROM_PASSAGES,
  '2wikimqa': FROM_PASSAGES,
  musique: FROM_PASSAGES,
  gov_report: {
    before: "Below is a government agency's report. Summarise it on one page.\n\nThe report:\n",
    question: () => 'Summarise the report on one page.\n',
    answer: 'Summary:',
  },
  qmsum: {
    before: 'Below is the transcript of a meeting. Answer a query about it in one sentence or several.\n\nThe transcript:\n',
    after: 'Answer from the transcript above in one sentence or several.\n\n',
    question: (input) => `Query: ${input}\n`,
    answer: 'Answer:',
  },
  multi_news: {
    before: 'Below are several news articles. Summarise all of them on one page.\n\nThe news:\n',
    question: () => 'Summarise all the news on one page.\n',
    answer: 'Summary:',
  },
  trec: { before: 'Say of what type the last question is. These examples show how.\n\n', question: (input) => input, answer: 'Type:', ends: 'Type:' },
  triviaqa: {
    before: 'Answer the last question from its passage, with nothing but the answer. These examples show how.\n\n',
    question: (input) => input,
    answer: 'Answer:',
    ends: 'Answer:',
  },
  samsum: {
    before: 'Summarise the last dialogue in a few short sentences. These examples show how.\n\n',
    question: (input) => input,
    answer: 'Summary:',
    ends: 'Summary:',
  },
  passage_count: {
    before: 'Below are paragraphs from Wikipedia, some of them more than once. Find out how many different paragraphs there are.\n\n',
    question: () => 'How many different paragraphs are there? Answer with the number alone, such as 3.\n\n',
    answer: 'The number is: ',
  },
  passage_retrieval_en: {
    before: 'Below are 30 paragraphs from Wikipedia, and an abstract. Find out which of the paragraphs it is the abstract of.\n\n',
    after: 'The abstract:\n\n',
    question: (input) => `${input}\n\nWhich paragraph is it from? Answer as in "Paragraph 1".\n\n`,
    answer: 'The paragraph is: ',
  },
  lcc: NEXT_LINE,
  'repobench-p': NEXT_LINE,
};

export function longBenchPrompt(task: string, text: string, input: string): Pick<Sample, 'context' | 'question' | 'answerPrefix'> {
  const { before, after = '', question, answer, ends } = WORDS[task];
  const asked = ends !== undefined && input.endsWith(ends) ? input.slice(0, -ends.length) : input;
  const code = WORDS[task] === NEXT_LINE;
  return { context: `${before}${text}${code ? '' : '\n\n'}${after}`, question: question(asked), answerPrefix: answer };
}
