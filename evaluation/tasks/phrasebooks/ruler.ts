/** The structure of RULER's prompts (instruction, haystack, question, beginning of the answer) in words of our own. */
import { withoutEnd } from '../essay.ts';
import { ownEssay } from '../own/essay.ts';
import { ownQuestions } from '../own/questions.ts';
import { adjectives, nouns, verbs } from '../own/words.ts';
import { listed, numberWord, type Phrasebook, type ValueKind } from './phrasebook.ts';

const KINDS: Record<ValueKind, string> = { number: 'magic number', uuid: 'magic UUID', word: 'magic word' };
const LETTERS = 'abcdefghijklmnopqrstuvwxyz';

const asked = (kind: ValueKind, keys: readonly string[], several: boolean) =>
  `${KINDS[kind]}${keys.length > 1 || several ? 's' : ''} of ${listed(keys)}`;

export const ruler: Phrasebook = {
  name: 'ruler',
  summary: 'instruction, haystack, question and the beginning of the answer, for models that follow instructions',
  defaults: {},

  key: (random, count) => [...Array.from({ length: count }, () => random.pick(adjectives)), random.pick(nouns)].join('-'),
  word: (random) => random.pick(nouns),
  variable: (random) => random.pick(nouns),
  codedWord: (random) => Array.from({ length: 6 }, () => random.pick([...LETTERS])).join(''),
  listWords: [...new Set([...adjectives, ...nouns, ...verbs])],
  stock: () => ['The kettle hums.', 'A cart rolls by.', 'The lane is wet.', 'Nobody is in a hurry.', 'Soon it will be evening.'],
  prose: (random) => withoutEnd(ownEssay(), random),
  questions: (_, hops) => ownQuestions(hops),

  niah: {
    needle: (kind, key, value) => `Mind this: one of the special ${KINDS[kind]}s of ${key} is ${value}.`,
    frame: (text, kind, many) =>
      many
        ? `Some special ${KINDS[kind]}s stand somewhere in the text below. Keep them in mind, you will be asked for them at the end.\n${text}\n`
        : `A special ${KINDS[kind]} stands somewhere in the text below. Keep it in mind, you will be asked for it at the end.\n${text}\n`,
    question: (kind, keys, several) =>
      keys.length > 1 || several
        ? `Which are all the special ${asked(kind, keys, several)} that the text above tells?`
        : `Which is the special ${asked(kind, keys, several)} that the text above tells?`,
    answerPrefix: (kind, keys, several) =>
      `The special ${asked(kind, keys, several)}, as the text tells, ${keys.length > 1 || several ? 'are' : 'is'}`,
  },
  vt: {
    assign: (name, value) => `VAR ${name} = ${value}`,
    copy: (name, from) => `VAR ${name} = VAR ${from}`,
    frame: (text, example) =>
      `${example ?? ''}In the text below, numbers are put into variables, and variables are copied into others. Follow them through the text.\n${text}\n`,
    example: (text, value, names) =>
      `In the text below, numbers are put into variables, and variables are copied into others. Follow them through the text.\n${text}\nWhich variables hold the number ${value} at the end of the text above? Answer: These ${numberWord(names.length)} variables hold the number ${value}: ${names.join(', ')}\n\n`,
    question: (value) => `Which variables hold the number ${value} at the end of the text above?`,
    answerPrefix: (value, count) =>
      count === 1 ? `Answer: This variable holds the number ${value}:` : `Answer: These ${numberWord(count)} variables hold the number ${value}:`,
  },
  cwe: {
    list: (words) => words.map((word, i) => `${i + 1}. ${word}`).join(' '),
    frame: (list, common, example) => `${example ?? ''}${listIntroduction(common)}\n${list}\n`,
    example: (list, common) =>
      `${listIntroduction(common.length)}\n${list}\n${ruler.cwe.question(common.length)} ${ruler.cwe.answerPrefix(common.length)} ${ruler.cwe.list(common)}\n\n`,
    question: (common) =>
      common === 1 ? 'Which word stands most often in the list above?' : `Which ${numberWord(common)} words stand most often in the list above?`,
    answerPrefix: (common) =>
      common === 1 ? 'Answer: The word that stands there most often is:' : `Answer: The ${numberWord(common)} words that stand there most often are:`,
  },
  fwe: {
    frame: (words, top) =>
      `The text below is written in code. Take no notice of the dots, and find the ${numberWord(top)} coded word${top === 1 ? '' : 's'} that stand${top === 1 ? 's' : ''} in it most often.\n${words.join(' ')}\n`,
    question: (top) =>
      top === 1
        ? 'Which coded word stands most often in the text above?'
        : `Which ${numberWord(top)} coded words stand most often in the text above?`,
    answerPrefix: (top) => (top === 1 ? 'Answer: The most frequent coded word is:' : `Answer: The ${numberWord(top)} most frequent coded words are:`),
  },
  qa: {
    document: (number, text) => `Document ${number}:\n${text}`,
    frame: (documents) =>
      `One question is to be answered from the documents below. Reply with the answer and nothing more.\n\n${documents.join('\n\n')}\n\nOne question is to be answered from the documents above. Reply with the answer and nothing more.\n`,
    question: (question) => `Question: ${question}`,
    answerPrefix: 'Answer:',
  },
};

function listIntroduction(common: number): string {
  return common === 1
    ? 'In the numbered list below one word stands more often than all others. Remember which.'
    : 'In the numbered list below some words stand often and others rarely. Remember those that stand there most often.';
}
