/**
 * The forms that models/needle was trained on (models/recipe/data.py), in its words: short statements, one question, no beginning of the answer, so that
 * it can answer at all. Haystacks are sentences of its own grammar; documents are of facts, two hops go by the owner of a thing.
 */
import type { Random } from '../../random.ts';
import type { QuestionSet } from '../question-set.ts';
import {
  ADJ,
  ADV,
  ALLWORDS,
  ANIMALS,
  COLORS,
  DAYS,
  DRINKS,
  FOODS,
  HOBBIES,
  JOBS,
  MONTHS,
  NAMES,
  NATURE,
  NOUNS,
  OBJECTS,
  PLACES,
  ROOMS,
  SYLLABLES,
  VERB_I,
  VERB_T,
  WEATHER,
} from './needle-words.ts';
import { listed, numberWord, type Phrasebook } from './phrasebook.ts';

const STOCK_SENTENCES = 5;
/** Of a question set: facts run out of subjects near 870. */
const DOCUMENTS = 240;
const OWNERS = 40;

export const needle: Phrasebook = {
  name: 'needle',
  summary: 'the question forms and words that models/needle was trained on',
  // Answers are short and end by themselves: a digit is a token, a UUID 37 at most.
  defaults: {
    niah_single_1: { max_new_tokens: 16 },
    niah_single_2: { max_new_tokens: 16 },
    niah_single_3: { max_new_tokens: 48 },
    niah_multikey_1: { max_new_tokens: 16 },
    niah_multikey_2: { max_new_tokens: 16 },
    niah_multikey_3: { max_new_tokens: 48 },
    niah_multivalue: { max_new_tokens: 48 },
    niah_multiquery: { max_new_tokens: 72 },
    needle_in_haystack: { max_new_tokens: 16 },
    vt: { example: false, names: 'words', max_new_tokens: 40 },
    cwe: { example: false, common_share: 0.5, uncommon_times: 1, max_new_tokens: 40 },
    fwe: { max_new_tokens: 32 },
    qa_1: { max_new_tokens: 16 },
    qa_2: { max_new_tokens: 16 },
  },

  key: (random, count) => [...Array.from({ length: count }, () => random.pick(ADJ)), random.pick(NOUNS)].join(' '),
  word: (random) => random.pick(NOUNS),
  variable: (random) => random.pick(NOUNS),
  codedWord: (random) => Array.from({ length: 3 }, () => random.pick(SYLLABLES)).join(''),
  listWords: ALLWORDS,
  stock: (random) => Array.from({ length: STOCK_SENTENCES }, () => sentence(random)),
  *prose(random) {
    while (true) yield sentence(random);
  },
  questions: (random, hops) => factQuestions(random, hops),

  niah: {
    needle: (kind, key, value) => `One of the special magic ${kind}s for ${key} is: ${value}.`,
    frame: (text) => `${text}\n`,
    question: (kind, keys, several) =>
      keys.length > 1 || several
        ? `What are all the special magic ${kind}s for ${listed(keys)} mentioned in the provided text?`
        : `What is the special magic ${kind} for ${keys[0]} mentioned in the provided text?`,
    answerPrefix: () => '',
  },
  vt: {
    assign: (name, value) => `VAR ${name} = ${value}.`,
    copy: (name, from) => `VAR ${name} = VAR ${from}.`,
    frame: (text, example) => `${example ?? ''}${text}\n`,
    example: (text, value, names) => `${text}\n${needle.vt.question(value)} ${names.join(', ')}\n`,
    question: (value) => `Find all variables that are assigned the value ${value} in the text above.`,
    answerPrefix: () => '',
  },
  cwe: {
    list: (words) => words.map((word, i) => `${i + 1}. ${word}`).join(' '),
    frame: (list, _, example) => `${example ?? ''}${list}\n`,
    example: (list, common) => `${list}\n${needle.cwe.question(common.length)} ${common.join(', ')}\n`,
    question: (common) =>
      common === 1 ? 'What is the most common word in the list above?' : `What are the ${numberWord(common)} most common words in the list above?`,
    answerPrefix: () => '',
  },
  fwe: {
    frame: (words) => `Coded text: ${words.join(' ')}\n`,
    question: (top) =>
      top === 1
        ? 'What is the most frequent word in the coded text above?'
        : `What are the ${numberWord(top)} most frequent words in the coded text above?`,
    answerPrefix: () => '',
  },
  qa: {
    document: (number, text) => `Document ${number}: ${text}`,
    frame: (documents) => `${documents.join('\n')}\n`,
    question: (question) => question,
    answerPrefix: '',
  },
};

/** A sentence that says nothing of use. */
function sentence(random: Random): string {
  const p = <T>(items: readonly T[]) => random.pick(items);
  const said = p([
    () => `the ${p(ADJ)} ${p(ANIMALS)} ${p(VERB_I)} near the ${p(NATURE)}`,
    () => `${p(NAMES)} ${p(VERB_T)} the ${p(ADJ)} ${p(OBJECTS)} ${p(ADV)}`,
    () => `it was a ${p(WEATHER)} ${p(['morning', 'evening', 'night', 'day'])} and the ${p(NATURE)} was ${p(ADJ)}`,
    () => `the ${p(JOBS)} ${p(VERB_T)} a ${p(OBJECTS)} in the ${p(ROOMS)}`,
    () => `they ${p(VERB_I)} along the ${p(NATURE)} until ${p(['noon', 'dawn', 'sunset', 'midnight'])}`,
    () => `there was a ${p(ADJ)} ${p(OBJECTS)} and a ${p(ADJ)} ${p(OBJECTS)} on the ${p(['table', 'floor', 'shelf', 'desk'])}`,
    () => `on ${p(DAYS)} the ${p(ANIMALS)} ${p(VERB_I)} ${p(ADV)}`,
    () => `the ${p(COLORS)} ${p(OBJECTS)} was under the ${p(ADJ)} ${p(OBJECTS)}`,
    () => `${p(NAMES)} and ${p(NAMES)} ${p(VERB_I)} in the ${p(NATURE)}`,
    () => `nobody ${p(VERB_T)} the ${p(OBJECTS)} because the ${p(NATURE)} was ${p(ADJ)}`,
    () => `a ${p(JOBS)} and a ${p(JOBS)} ${p(VERB_I)} by the ${p(NATURE)} in ${p(MONTHS)}`,
    () => `we ate ${p(FOODS)} with ${p(FOODS)} and drank ${p(DRINKS)}`,
    () => `when the ${p(ANIMALS)} ${p(VERB_I)}, the ${p(JOBS)} ${p(VERB_T)} the ${p(OBJECTS)}`,
    () => `the ${p(NATURE)} is ${p(['far from', 'close to', 'behind', 'beside'])} the ${p(ADJ)} ${p(NATURE)}`,
    () => `everyone in ${p(PLACES)} ${p(VERB_T)} the ${p(ADJ)} ${p(NATURE)}`,
  ])();
  return `${said[0].toUpperCase()}${said.slice(1)}.`;
}

interface Relation {
  readonly subjects: readonly string[];
  readonly values: readonly string[];
  state(subject: string, value: string): string;
  ask(subject: string): string;
}

const LIVES: Relation = { subjects: NAMES, values: PLACES, state: (n, v) => `${n} lives in ${v}.`, ask: (n) => `Where does ${n} live?` };
const WORKS: Relation = { subjects: NAMES, values: JOBS, state: (n, v) => `${n} works as a ${v}.`, ask: (n) => `What is the job of ${n}?` };
const OWNS: Relation = { subjects: OBJECTS, values: NAMES, state: (o, n) => `The ${o} belongs to ${n}.`, ask: (o) => `Who owns the ${o}?` };
const RELATIONS: readonly Relation[] = [
  LIVES,
  WORKS,
  OWNS,
  { subjects: NAMES, values: FOODS, state: (n, v) => `${n} likes to eat ${v}.`, ask: (n) => `What does ${n} like to eat?` },
  { subjects: NAMES, values: DRINKS, state: (n, v) => `${n} likes to drink ${v}.`, ask: (n) => `What does ${n} like to drink?` },
  { subjects: NAMES, values: HOBBIES, state: (n, v) => `The hobby of ${n} is ${v}.`, ask: (n) => `What is the hobby of ${n}?` },
  { subjects: NAMES, values: ANIMALS, state: (n, v) => `${n} has a pet ${v}.`, ask: (n) => `Which pet does ${n} have?` },
  { subjects: NAMES, values: MONTHS, state: (n, v) => `${n} was born in ${v}.`, ask: (n) => `In which month was ${n} born?` },
  { subjects: OBJECTS, values: ROOMS, state: (o, v) => `The ${o} is in the ${v}.`, ask: (o) => `Where is the ${o}?` },
  { subjects: OBJECTS, values: COLORS, state: (o, v) => `The color of the ${o} is ${v}.`, ask: (o) => `What is the color of the ${o}?` },
];

/**
 * Documents of one to three facts and a sentence beside them; nothing is told of anyone twice. One hop asks a fact. Two hops ask where the owner of a thing
 * lives, or what they work as: one document has the owner, another their home and job.
 */
function factQuestions(random: Random, hops: 1 | 2): QuestionSet {
  const facts = new Map(RELATIONS.map((relation) => [relation, random.shuffled(relation.subjects)]));
  const paragraphs: { text: string; article: string }[] = [];
  const questions: { question: string; answers: string[]; paragraphs: number[] }[] = [];
  const add = (sentences: readonly string[]) =>
    paragraphs.push({ text: random.shuffled(sentences).join(' '), article: String(paragraphs.length) }) - 1;
  const take = (relation: Relation, subject: string) =>
    facts.set(
      relation,
      facts.get(relation)!.filter((other) => other !== subject),
    );
  if (hops === 2) {
    const owned = random.sample(OBJECTS, OWNERS);
    for (const [i, owner] of random.sample(NAMES, OWNERS).entries()) {
      const [thing, place, job] = [owned[i], random.pick(PLACES), random.pick(JOBS)];
      take(LIVES, owner);
      take(WORKS, owner);
      take(OWNS, thing);
      const person = add([LIVES.state(owner, place), WORKS.state(owner, job), sentence(random)]);
      let beside = sentence(random);
      while (beside.includes(place) || beside.includes(job)) beside = sentence(random); // would tell the answer a hop early
      const owning = add([OWNS.state(thing, owner), beside]);
      questions.push({ question: `Where does the owner of the ${thing} live?`, answers: [place], paragraphs: [owning, person] });
      questions.push({ question: `What is the job of the owner of the ${thing}?`, answers: [job], paragraphs: [owning, person] });
    }
  }
  while (paragraphs.length < DOCUMENTS) {
    const told: string[] = [];
    for (let left = random.int(1, 3); left > 0; left--) {
      const relation = random.pick(RELATIONS.filter((one) => facts.get(one)!.length > 0));
      const subject = facts.get(relation)!.pop()!;
      const value = random.pick(relation.values);
      told.push(relation.state(subject, value));
      if (hops === 1) questions.push({ question: relation.ask(subject), answers: [value], paragraphs: [paragraphs.length] });
    }
    add([...told, sentence(random)]);
  }
  return { name: 'own facts', paragraphs, questions };
}
