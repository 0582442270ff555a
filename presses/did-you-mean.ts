import { fieldElsewhere, plainName } from './aliases.ts';

/** Names longer than this are shown cut, and are no misspelling of anything. */
const LONGEST = 60;
/** More known names than these are not all told. */
const MOST_TOLD = 20;
/** Fewer letters begin too many names. */
const LEAST_BEGUN = 3;

/** What an unknown name may have meant: "; did you mean "zigzag"?", or the list of known names. */
export function didYouMean(typed: string, known: readonly string[]): string {
  return nearestName(typed, known) ?? `; known: ${toldNames(known)}`;
}

export function toldNames(names: readonly string[], most = MOST_TOLD): string {
  const more = names.length > most ? `, … (${names.length} in all, see /v1/presses)` : '';
  return `${names.slice(0, most).join(', ')}${more}`;
}

/**
 * "; did you mean "zigzag"?", or null where nothing known is near. Near is the same name written otherwise ("SnapKVPress"), what a field is called elsewhere,
 * the shortest name that begins so, or few edits: fewer than letters were typed, at most a third of them or two.
 */
export function nearestName(typed: string, known: readonly string[]): string | null {
  const nearest =
    typed.length > LONGEST ? null : (sameName(typed, known) ?? fieldElsewhere(typed, known) ?? begunName(typed, known) ?? editedName(typed, known));
  return nearest === null ? null : `; did you mean "${nearest}"?`;
}

function sameName(typed: string, known: readonly string[]): string | null {
  const plain = plainName(typed);
  return known.find((name) => plainName(name) === plain) ?? null;
}

function begunName(typed: string, known: readonly string[]): string | null {
  const plain = plainName(typed);
  if (plain.length < LEAST_BEGUN) return null;
  const begun = known.filter((name) => plainName(name).startsWith(plain));
  return begun.reduce<string | null>((best, name) => (best === null || name.length < best.length ? name : best), null);
}

function editedName(typed: string, known: readonly string[]): string | null {
  const distance = (name: string): number => editDistance(typed.toLowerCase(), name);
  const nearest = known.reduce((best, name) => (distance(name) < distance(best) ? name : best), known[0] ?? '');
  const most = Math.min(typed.length - 1, Math.max(2, Math.floor(typed.length / 3)));
  return nearest !== '' && distance(nearest) <= most ? nearest : null;
}

/** A caller's name, or other words of theirs, short enough to be told: refusals do not echo megabytes. */
export function shownName(name: string, most = LONGEST): string {
  return name.length > most ? `${name.slice(0, most - 1)}…` : name;
}

/** Levenshtein: fewest insertions, deletions and replacements of one character. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const above = row;
    row = [i];
    for (let j = 1; j <= b.length; j++) {
      row[j] = Math.min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
  }
  return row[b.length];
}

/** Values to choose from, as a sentence has them: "f32", "f16" or "int8". */
export function choices(values: readonly unknown[]): string {
  const shown = values.map((value) => JSON.stringify(value));
  return [shown.slice(0, -1).join(', '), ...shown.slice(-1)].filter((part) => part !== '').join(' or ');
}
