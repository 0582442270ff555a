/**
 * From zod's issues to one sentence a client can act on: the field, what would work, the value seen. A schema's `error` is the middle part
 * ("must be a number between 0 and 2"); this file adds the field before it and the value behind it.
 */
import * as z from 'zod'; // not { z }: that would bundle all of zod's languages
import { choices, didYouMean, nearestName, shownName } from '../../presses/did-you-mean.ts';
import { InputError } from '../../presses/input-error.ts';

type Issue = z.core.$ZodIssue;

/** What would have been known where unknown fields were found, by zod's list of those: the sentence is made only for the issue that is told. */
const knownBeside = new WeakMap<readonly string[], readonly string[]>();

/** An object that refuses fields it does not know, and says which one was meant. */
export function strictObject<S extends z.core.$ZodShape>(shape: S) {
  const known = Object.keys(shape);
  return z.strictObject(shape, {
    error: (issue) => {
      if (issue.code !== 'unrecognized_keys') return undefined;
      knownBeside.set(issue.keys, known);
      return 'has an unknown field';
    },
  });
}

export function validate<S extends z.ZodType>(schema: S, value: unknown): z.output<S> {
  const result = parsed(schema, value);
  if (result.success) return result.data;
  throw inputErrorOf(result.error.issues, value);
}

/** Past this many elements of one list, issues are no longer collected. */
const MOST_TOLD = 4096;

/** zod passes issues on as arguments: of hundreds of thousands it throws a RangeError. Those within the first elements tell enough. */
function parsed<S extends z.ZodType>(schema: S, value: unknown) {
  try {
    return schema.safeParse(value, { error: defaultPhrase });
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    const result = schema.safeParse(firstOf(value), { error: defaultPhrase });
    if (result.success) throw new InputError('invalid_value', null, 'the request body has too many wrong values to tell one');
    return result;
  }
}

/** The value with the first elements only of its lists and objects. */
function firstOf(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.slice(0, MOST_TOLD).map(firstOf);
  const entries = Object.entries(value).slice(0, MOST_TOLD);
  return Object.fromEntries(entries.map(([key, inner]) => [key, firstOf(inner)]));
}

/** The most helpful of several issues: a misspelt field explains a missing one; otherwise the first in the schema's order. */
function inputErrorOf(issues: readonly Issue[], root: unknown): InputError {
  const misspelt = issues.slice(0, 64).find((i) => i.code === 'unrecognized_keys' && nearestName(i.keys[0], knownBeside.get(i.keys) ?? []) !== null);
  const { issue, path } = deepest(misspelt ?? issues[0]);
  if (issue.code === 'unrecognized_keys') {
    const [field] = issue.keys;
    const message = `unknown field ${JSON.stringify(shownName(field))}${didYouMean(field, knownBeside.get(issue.keys) ?? [])}`;
    return new InputError('unknown_field', wirePath([...path, field]), message);
  }
  const seen = path.reduce<unknown>((at, key) => (at as Record<PropertyKey, unknown> | undefined)?.[key], root);
  const params = issue.code === 'custom' ? issue.params : undefined;
  const code = params?.code ?? (seen === undefined ? 'missing_field' : issue.code === 'invalid_type' ? 'invalid_type' : 'invalid_value');
  const param = path.length === 0 ? null : wirePath(path);
  return new InputError(code, param, params?.whole ? issue.message : `${param ?? 'the request body'} ${issue.message}, got ${show(seen)}`);
}

/**
 * Of a union's branches, the one that was meant: its outer type fits, and least of the rest is wrong. What is wrong inside it is told; what is
 * wrong with it as a whole is told in the union's own words. Paths of inner issues count from the union.
 */
function deepest(issue: Issue): { issue: Issue; path: PropertyKey[] } {
  if (issue.code !== 'invalid_union') return { issue, path: issue.path };
  const fitting = issue.errors.filter((branch) => !branch.some((i) => i.code === 'invalid_type' && i.path.length === 0));
  const meant = fitting.sort((a, b) => a.length - b.length)[0]?.[0];
  if (meant === undefined || meant.path.length === 0) return { issue, path: issue.path };
  const inner = deepest(meant);
  return { issue: inner.issue, path: [...issue.path, ...inner.path] };
}

function defaultPhrase(issue: z.core.$ZodRawIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      return `must be ${issue.expected === 'int' || issue.expected === 'array' || issue.expected === 'object' ? 'an' : 'a'} ${issue.expected}`;
    case 'invalid_value':
      return `must be ${choices(issue.values)}`;
    case 'too_small':
      return issue.origin === 'array' || issue.origin === 'string' ? 'must not be empty' : `must be at least ${issue.minimum}`;
    case 'too_big':
      return issue.origin === 'array'
        ? `must have at most ${issue.maximum} elements`
        : issue.origin === 'string'
          ? `must have at most ${issue.maximum} characters`
          : `must be at most ${issue.maximum}`;
    default:
      return 'is not valid';
  }
}

/** The value seen, short enough for one line. */
export function show(value: unknown): string {
  if (value === undefined) return 'nothing';
  const text = typeof value === 'object' || typeof value === 'string' ? JSON.stringify(value) : String(value); // JSON knows no Infinity, which 1e999 becomes
  if (text.length <= 80) return text;
  return Array.isArray(value) ? `an array of ${value.length}` : `${text.slice(0, 60)}… (${text.length} characters)`;
}

const wirePath = (path: readonly PropertyKey[]) => path.map((step) => shownName(String(step))).join('.');
