/** The user's essay and question files. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { shownName } from '../../presses/did-you-mean.ts';
import { InputError } from '../../presses/input-error.ts';
import { parseQuestions } from './question-files.ts';
import type { QuestionSet } from './question-set.ts';

const MOST_BYTES = 256 * 2 ** 20;
const MOST_FILES = 10_000;

/** A text file; JSON with a field "text"; or a folder, whose .txt files are read in the order of their names. */
export async function readEssay(path: string): Promise<string> {
  const found = await stat(path).catch(() => null);
  if (!found?.isDirectory()) return essayOf(path, await textOf('essay', path));
  const names = (await readdir(path)).filter((name) => name.endsWith('.txt')).sort();
  if (names.length === 0) throw new InputError('essay_empty', 'essay', `${path} has no .txt file; a folder with some, or a text file works`);
  if (names.length > MOST_FILES)
    throw new InputError('essay_too_large', 'essay', `${path} has ${names.length} .txt files; ${MOST_FILES} or fewer work`);
  const texts: string[] = [];
  let left = MOST_BYTES;
  for (const name of names) {
    const text = await textOf('essay', join(path, name), left);
    left -= Buffer.byteLength(text);
    texts.push(text);
  }
  return texts.join('\n');
}

export async function readQuestions(path: string): Promise<QuestionSet> {
  return parseQuestions(await textOf('questions', path), path);
}

function essayOf(path: string, text: string): string {
  if (!path.endsWith('.json')) return text;
  try {
    const essay = (JSON.parse(text) as { text?: unknown } | null)?.text;
    if (typeof essay === 'string') return essay;
  } catch {
    // said below
  }
  throw new InputError(
    'essay_malformed',
    'essay',
    `${path} is no JSON object with a text in "text", got ${JSON.stringify(shownName(text))}; a .txt file works`,
  );
}

async function textOf(what: 'essay' | 'questions', path: string, most = MOST_BYTES): Promise<string> {
  const bytes = await stat(path).then(
    (found) => (found.isFile() ? found.size : null),
    () => null,
  );
  if (bytes === null)
    throw new InputError(
      `${what}_missing`,
      what,
      `${path} is no file that can be read; the path of ${what === 'essay' ? 'a text file' : 'a JSONL or JSON file'} works`,
    );
  if (bytes > most) throw new InputError(`${what}_too_large`, what, `${path} is too large: ${bytes} bytes; ${most} or fewer work`);
  const text = await readFile(path, 'utf8');
  if (text.includes('\0') || text.includes('\uFFFD'))
    throw new InputError(`${what}_malformed`, what, `${path} is no UTF-8 text; text in UTF-8 works`);
  return text;
}
