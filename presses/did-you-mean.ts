/** Names longer than this are shown cut, and are no misspelling of anything. */
const LONGEST = 60;
/** More known names than these are not all told. */
const MOST_TOLD = 20;

/** What an unknown name may have meant: "; did you mean "zigzag"?", or the list of known names. */
export function didYouMean(typed: string, known: readonly string[]): string {
  return nearestName(typed, known) ?? `; known: ${toldNames(known)}`;
}

export function toldNames(names: readonly string[]): string {
  const more = names.length > MOST_TOLD ? `, … (${names.length} in all, see /v1/presses)` : '';
  return `${names.slice(0, MOST_TOLD).join(', ')}${more}`;
}

/** "; did you mean "zigzag"?", or null where nothing known is near: fewer edits than letters were typed, at most a third of them or two. */
export function nearestName(typed: string, known: readonly string[]): string | null {
  if (typed.length > LONGEST) return null;
  const distance = (name: string): number => editDistance(typed.toLowerCase(), name);
  const nearest = known.reduce((best, name) => (distance(name) < distance(best) ? name : best), known[0] ?? '');
  const most = Math.min(typed.length - 1, Math.max(2, Math.floor(typed.length / 3)));
  return nearest !== '' && distance(nearest) <= most ? `; did you mean "${nearest}"?` : null;
}

/** A caller's name, short enough to be told: refusals do not echo megabytes. */
export function shownName(name: string): string {
  return name.length > LONGEST ? `${name.slice(0, LONGEST - 1)}…` : name;
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
