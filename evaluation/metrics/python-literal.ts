/**
 * Reads a Python literal (dict, list, tuple, string, number, None, True, False) as data. LooGLE's official metric runs the model's answer through eval(), and so would
 * run whatever a model writes; here nothing is executed, and what is no literal is no answer. Not read: bytes, formatted strings, sets, arithmetic, comments.
 */
export type Literal = string | number | boolean | null | Literal[] | Map<string, Literal>;

/** Values may lie in one another so deep. */
const DEEPEST = 16;
const ESCAPES: Record<string, string> = { n: '\n', t: '\t', r: '\r', b: '\b', f: '\f', v: '\v', a: '\x07', '\\': '\\', "'": "'", '"': '"', '\n': '' };
const NUMBER = /[+-]?(?:[0-9][0-9_]*(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?/y;
const NAME = /None|True|False/y;

/** null where the text is no dict, or not only one. Keys that are no strings are dropped: no reference has one. */
export function pythonDict(text: string): Map<string, Literal> | null {
  const reader = new Reader(text);
  const value = reader.value(0);
  return value instanceof Map && reader.atEnd() ? value : null;
}

class Reader {
  private at = 0;
  private readonly text: string;
  constructor(text: string) {
    this.text = text;
  }

  atEnd(): boolean {
    this.skipSpace();
    return this.at === this.text.length;
  }

  /** undefined: no literal here. */
  value(depth: number): Literal | undefined {
    this.skipSpace();
    const next = this.text[this.at];
    if (next === '{') return depth < DEEPEST ? this.dict(depth + 1) : undefined;
    if (next === '[') return depth < DEEPEST ? this.items(']', depth + 1) : undefined;
    if (next === '(') return depth < DEEPEST ? this.items(')', depth + 1) : undefined;
    if (next === "'" || next === '"') return this.strings();
    const name = this.match(NAME);
    if (name !== undefined) return name === 'None' ? null : name === 'True';
    const number = this.match(NUMBER);
    return number === undefined ? undefined : Number(number.replaceAll('_', ''));
  }

  private dict(depth: number): Map<string, Literal> | undefined {
    const entries = new Map<string, Literal>();
    this.at++;
    for (;;) {
      if (this.take('}')) return entries;
      const key = this.value(depth);
      if (key === undefined || !this.take(':')) return undefined;
      const value = this.value(depth);
      if (value === undefined) return undefined;
      if (typeof key === 'string') entries.set(key, value);
      if (!this.take(',')) return this.take('}') ? entries : undefined;
    }
  }

  private items(close: string, depth: number): Literal[] | undefined {
    const items: Literal[] = [];
    this.at++;
    for (;;) {
      if (this.take(close)) return items;
      const item = this.value(depth);
      if (item === undefined) return undefined;
      items.push(item);
      if (!this.take(',')) return this.take(close) ? items : undefined;
    }
  }

  /** Strings beside each other are one. */
  private strings(): string | undefined {
    let whole = '';
    for (;;) {
      const part = this.string();
      if (part === undefined) return undefined;
      whole += part;
      this.skipSpace();
      if (this.text[this.at] !== "'" && this.text[this.at] !== '"') return whole;
    }
  }

  private string(): string | undefined {
    const quote = this.text[this.at];
    const close = this.text.startsWith(quote.repeat(3), this.at) ? quote.repeat(3) : quote;
    this.at += close.length;
    const parts: string[] = [];
    while (this.at < this.text.length) {
      if (this.text.startsWith(close, this.at)) {
        this.at += close.length;
        return parts.join('');
      }
      const character = this.text[this.at++];
      if (character === '\n' && close.length === 1) return undefined;
      const read = character === '\\' ? this.escape() : character;
      if (read === undefined) return undefined;
      parts.push(read);
    }
    return undefined;
  }

  /** After a backslash. An unknown escape keeps its backslash, as in Python. */
  private escape(): string | undefined {
    const letter = this.text[this.at++];
    if (letter === undefined) return undefined;
    const length = { x: 2, u: 4, U: 8 }[letter];
    if (length === undefined) return ESCAPES[letter] ?? `\\${letter}`;
    const digits = this.text.slice(this.at, this.at + length);
    const code = Number.parseInt(digits, 16);
    if (digits.length !== length || !/^[0-9a-fA-F]+$/.test(digits) || code > 0x10ffff) return undefined;
    this.at += length;
    return String.fromCodePoint(code);
  }

  private skipSpace(): void {
    while (' \t\n\r\f'.includes(this.text[this.at] ?? '-')) this.at++;
  }

  private take(character: string): boolean {
    this.skipSpace();
    if (this.text[this.at] !== character) return false;
    this.at++;
    return true;
  }

  private match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text)?.[0];
    if (found !== undefined) this.at += found.length;
    return found;
  }
}
