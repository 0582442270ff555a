/** True where one of `expected` stands right after the first of the prefixes that the text has, one character (the space) left out. Later prefixes are not tried. */
export function afterPrefix(text: string, prefixes: readonly string[], expected: readonly string[]): boolean {
  const prefix = prefixes.find((phrase) => text.includes(phrase));
  if (prefix === undefined) return false;
  const rest = text.slice(text.indexOf(prefix) + prefix.length);
  const [skipped] = rest; // a code point
  return skipped !== undefined && expected.some((answer) => rest.slice(skipped.length).startsWith(answer));
}

export function oneSpace(text: string): string {
  return text.replace(/ {2,}/g, ' ');
}
