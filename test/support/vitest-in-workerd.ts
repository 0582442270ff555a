/** The part of vitest that test/parity and the suite of context stores use, in workerd, where vitest does not run: test/worker/relaxed.test.ts puts this file in its place. */

export interface Result {
  readonly name: string;
  /** Null where it passed. */
  readonly error: string | null;
}

type Body = (...values: any[]) => void | Promise<void>;
type Each = (values: readonly unknown[]) => (name: string, body: Body) => void;

let tests: { name: string; body: () => void | Promise<void> }[] = [];
let hooks: (() => void)[] = [];
let group = '';

/** Loads a file of tests and runs them in order. */
export async function runTests(load: () => Promise<unknown>): Promise<Result[]> {
  [tests, hooks, group] = [[], [], ''];
  await load();
  const results: Result[] = [];
  for (const { name, body } of tests) {
    try {
      for (const hook of hooks) hook();
      await body();
      results.push({ name, error: null });
    } catch (error) {
      results.push({ name, error: error instanceof Error ? `${error.message}\n${error.stack}` : String(error) });
    }
  }
  return results;
}

export function describe(name: string, body: () => void): void {
  const outer = group;
  group = `${outer}${name} > `;
  body();
  group = outer;
}

export const beforeEach = (hook: () => void): void => void hooks.push(hook);

export const test = (name: string, body: Body): void => void tests.push({ name: group + name, body });
const each: Each = (values) => (name, body) => {
  for (const value of values) {
    const row = Array.isArray(value) ? value : [value];
    test(name.replace(/%\w/, String(row[0])), () => body(...row));
  }
};
test.each = each;
export const it = test;

/** Matchers by vitest's names. One that is missing here throws, so no expectation passes unseen. */
export function expect(seen: any, about = ''): Record<string, (...wanted: any[]) => void> {
  const is = (holds: boolean, wanted: string) => {
    if (!holds) throw new Error(`${about} expected ${show(seen)} ${wanted}`);
  };
  const matchers: Record<string, (...wanted: any[]) => void> = {
    toBe: (wanted) => is(Object.is(seen, wanted), `to be ${show(wanted)}`),
    toEqual: (wanted) => is(equal(seen, wanted), `to equal ${show(wanted)}`),
    toContain: (wanted) => is(seen.includes(wanted), `to contain ${show(wanted)}`),
    toBeNaN: () => is(Number.isNaN(seen), 'to be NaN'),
    toBeLessThan: (wanted) => is(seen < wanted, `to be less than ${wanted}`),
    toBeLessThanOrEqual: (wanted) => is(seen <= wanted, `to be at most ${wanted}`),
    toBeGreaterThanOrEqual: (wanted) => is(seen >= wanted, `to be at least ${wanted}`),
    toBeCloseTo: (wanted, digits = 2) => is(Math.abs(seen - wanted) < 10 ** -digits / 2, `to be close to ${wanted}`),
  };
  return new Proxy(matchers, {
    get(all, name: string) {
      if (!(name in all)) throw new Error(`vitest-in-workerd.ts has no ${name}`);
      return all[name];
    },
  });
}
expect.fail = (message: string): never => {
  throw new Error(message);
};

function equal(a: unknown, b: unknown): boolean {
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return Object.is(a, b);
  if (Object.getPrototypeOf(a) !== Object.getPrototypeOf(b)) return false;
  const [left, right] = [Object.entries(a), Object.entries(b)];
  return left.length === right.length && left.every(([key, value]) => equal(value, (b as Record<string, unknown>)[key]));
}

function show(value: unknown): string {
  const text = typeof value === 'object' ? JSON.stringify(value) : String(value);
  return text.length > 300 ? `${text.slice(0, 300)}…` : text;
}
