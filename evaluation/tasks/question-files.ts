/**
 * Questions with their paragraphs, from a user's text. Four layouts are known by their look:
 *   JSONL, a record a line    {"question": "...", "answers": ["..."], "context": "..." or ["...", ...], "title": "..."}     "answer" for one; title optional
 *   JSON, an array of such records
 *   SQuAD                     {"data": [{"title", "paragraphs": [{"context", "qas": [{"question", "answers": [{"text"}], "is_impossible"}]}]}]}
 *   HotpotQA                  [{"question", "answer", "context": [["title", ["sentence", ...]], ...]}]
 * SQuAD and HotpotQA also as rows of the datasets library: {"answers": {"text": [...]}}, {"context": {"title": [...], "sentences": [[...]]}}.
 * Equal paragraphs are one. Questions that SQuAD marks as impossible, or gives no answer, are left out.
 */
import { shownName } from '../../presses/did-you-mean.ts';
import { InputError } from '../../presses/input-error.ts';
import type { Question, QuestionSet } from './question-set.ts';

const LAYOUTS = 'JSONL or a JSON array of {"question", "answers", "context"}, or SQuAD\'s or HotpotQA\'s JSON';

export function parseQuestions(text: string, name: string): QuestionSet {
  const builder = new Builder(name);
  const source = text.replace(/^\uFEFF/, '').trim();
  if (source === '') throw new InputError('questions_empty', 'questions', `${name} is empty; ${LAYOUTS} work`);
  const whole = tryJson(source);
  if (Array.isArray(whole)) {
    for (const [i, record] of whole.entries()) builder.record(record, `[${i}]`);
  } else if (isObject(whole) && 'data' in whole) builder.squad(whole.data);
  else if (isObject(whole)) builder.record(whole, 'line 1');
  else {
    for (const [i, line] of source.split('\n').entries()) {
      if (line.trim() === '') continue;
      const record = tryJson(line);
      if (record === undefined) throw builder.malformed(`line ${i + 1}`, 'is no JSON', line.trim());
      builder.record(record, `line ${i + 1}`);
    }
  }
  return builder.set();
}

class Builder {
  readonly #name: string;
  readonly #paragraphs: { text: string; article: string }[] = [];
  readonly #at = new Map<string, number>();
  readonly #questions: Question[] = [];
  constructor(name: string) {
    this.#name = name;
  }

  set(): QuestionSet {
    if (this.#questions.length === 0)
      throw new InputError('questions_empty', 'questions', `${this.#name} has no question that has an answer; one or more works`);
    return { name: this.#name, paragraphs: this.#paragraphs, questions: this.#questions };
  }

  malformed(where: string, what: string, seen: unknown): InputError {
    const shown = (typeof seen === 'string' ? seen : JSON.stringify(seen)) ?? 'nothing';
    return new InputError('questions_malformed', 'questions', `${this.#name}: ${where} ${what}, got ${shownName(shown, 80)}; ${LAYOUTS} work`);
  }

  record(record: unknown, where: string): void {
    if (!isObject(record)) throw this.malformed(where, 'is no object', record);
    const { question, context, title } = record;
    if (title !== undefined && typeof title !== 'string') throw this.malformed(`${where}: title`, 'must be a text', title);
    if (isObject(record.answers) && Array.isArray(record.answers.text) && record.answers.text.length === 0) return; // impossible, in the datasets library's layout
    const contexts = isObject(context) ? this.#columns(context, where) : Array.isArray(context) ? context : [context];
    if (contexts.length === 0) throw this.malformed(`${where}: context`, 'must have a paragraph', context);
    const paragraphs = contexts.map((paragraph, i) =>
      this.#paragraph(paragraph, title ?? where, `${where}: context${Array.isArray(context) ? `[${i}]` : ''}`),
    );
    this.#question(question, this.#answers(record, where), paragraphs, where);
  }

  squad(data: unknown): void {
    if (!Array.isArray(data)) throw this.malformed('data', 'must be an array of articles', data);
    for (const [i, article] of data.entries()) {
      const here = `data[${i}]`;
      if (!isObject(article) || !Array.isArray(article.paragraphs)) throw this.malformed(here, 'must have an array "paragraphs"', article);
      const title = typeof article.title === 'string' ? article.title : here;
      for (const [j, paragraph] of article.paragraphs.entries()) {
        const place = `${here}.paragraphs[${j}]`;
        if (!isObject(paragraph) || !Array.isArray(paragraph.qas)) throw this.malformed(place, 'must have a "context" and an array "qas"', paragraph);
        const at = this.#paragraph(paragraph.context, title, `${place}.context`);
        for (const [k, asked] of paragraph.qas.entries()) {
          if (!isObject(asked)) throw this.malformed(`${place}.qas[${k}]`, 'is no object', asked);
          if (asked.is_impossible === true || (Array.isArray(asked.answers) && asked.answers.length === 0)) continue;
          this.#question(asked.question, this.#answers(asked, `${place}.qas[${k}]`), [at], `${place}.qas[${k}]`);
        }
      }
    }
  }

  /** The datasets library's layout of HotpotQA's context: {"title": [...], "sentences": [[...]]}. */
  #columns({ title, sentences }: Record<string, unknown>, where: string): unknown[] {
    if (!Array.isArray(title) || !Array.isArray(sentences) || title.length !== sentences.length)
      throw this.malformed(`${where}: context`, 'must have as many "sentences" as "title"', { title, sentences });
    return title.map((name, i) => [name, sentences[i]]);
  }

  /** A text, or HotpotQA's [title, sentences]. */
  #paragraph(given: unknown, title: string, where: string): number {
    let [article, text] = [title, given];
    if (Array.isArray(given) && typeof given[0] === 'string' && Array.isArray(given[1]) && given[1].every((sentence) => typeof sentence === 'string'))
      [article, text] = [given[0], given[1].map((sentence: string) => sentence.trim()).join(' ')];
    if (typeof text !== 'string' || text.trim() === '') throw this.malformed(where, 'must be a text, or a list of them', given);
    text = text.trim();
    const known = this.#at.get(text as string);
    if (known !== undefined) return known;
    this.#at.set(text as string, this.#paragraphs.length);
    return this.#paragraphs.push({ text: text as string, article }) - 1;
  }

  #answers(record: Record<string, unknown>, where: string): string[] {
    const given = record.answers ?? record.answer;
    const list: unknown[] = Array.isArray(given) ? given : isObject(given) && Array.isArray(given.text) ? given.text : [given];
    const answers = list.map((answer) => (isObject(answer) ? answer.text : answer));
    if (answers.length === 0 || !answers.every((answer): answer is string => typeof answer === 'string' && answer.trim() !== ''))
      throw this.malformed(`${where}: answers`, 'must be a text, or a list of them', given);
    return [...new Set(answers.map((answer) => answer.trim()))];
  }

  #question(question: unknown, answers: string[], paragraphs: number[], where: string): void {
    if (typeof question !== 'string' || question.trim() === '') throw this.malformed(`${where}: question`, 'must be a text', question);
    this.#questions.push({ question: question.trim(), answers, paragraphs: [...new Set(paragraphs)] });
  }
}

function tryJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
