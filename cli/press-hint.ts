/** What a refusal of a press says would work ("window_size up to 25"), as the --press that says it on a command line. */
import { parsePress } from '../presses/config.ts';
import { InputError } from '../presses/input-error.ts';
import { readPress } from './options.ts';

type Fields = Record<string, unknown>;

/** `text` is what --press was given. Empty where the refusal names no parameter, or none that the press takes. */
export function pressHint(error: unknown, text: string | undefined): string {
  if (!(error instanceof InputError) || text === undefined || !error.param?.startsWith('press')) return '';
  const [, name, most] = /\b([a-z]+(?:_[a-z]+)*) up to (\d+) would work/.exec(error.message) ?? [];
  if (name === undefined || name === 'compression_ratio') return ''; // that one is --ratio
  const given = readPress(text);
  const [, index] = /^press\[(\d+)\]/.exec(error.param) ?? [];
  const press = Array.isArray(given)
    ? given.map((element, i) => (i === Number(index ?? 0) ? withParameter(element, name, Number(most)) : element))
    : withParameter(given, name, Number(most));
  try {
    parsePress(press);
  } catch {
    return '';
  }
  return `; here: --press '${JSON.stringify(press)}'`;
}

function withParameter(press: unknown, name: string, value: number): Fields {
  const fields: Fields = typeof press === 'object' && press !== null ? (press as Fields) : { preset: press };
  if (fields.scorer === undefined) return { ...fields, [name]: value };
  const scorer = typeof fields.scorer === 'object' ? (fields.scorer as Fields) : { name: fields.scorer };
  return { ...fields, scorer: { ...scorer, [name]: value } };
}
