import { describe, expect, test } from 'vitest';
import { seededRandom } from '../worker/engine/sampler.ts';
import { createStopMatcher } from '../worker/engine/stop-strings.ts';
import { TextStream } from '../worker/engine/text-stream.ts';
import { StreamDecoder } from '../worker/engine/tokenizer/stream-decoder.ts';
import type { Tokenizer } from '../worker/engine/tokenizer/tokenizer.ts';

/** Pieces in, final text out; `emitted` is what each push let through. */
function run(stops: string[], pieces: string[]) {
  const matcher = createStopMatcher(stops);
  const emitted: string[] = [];
  for (const piece of pieces) {
    const { text, stop } = matcher.push(piece);
    emitted.push(text);
    if (stop !== null) return { text: emitted.join(''), stop, emitted };
  }
  emitted.push(matcher.flush());
  return { text: emitted.join(''), stop: null, emitted };
}

/** Character by character: the first place where a stop string is complete; the longest that ends there. */
function naive(stops: string[], text: string) {
  for (let end = 1; end <= text.length; end++) {
    const met = stops.filter((s) => text.slice(0, end).endsWith(s)).sort((a, b) => b.length - a.length)[0];
    if (met !== undefined) return { text: text.slice(0, end - met.length), stop: met };
  }
  return { text, stop: null };
}

describe('stop strings', () => {
  test('text ends before the stop string', () => {
    expect(run(['\n\n'], ['one\n', '\ntwo'])).toMatchObject({ text: 'one', stop: '\n\n' });
  });

  test('what may be the start of a stop string waits, and comes out once it is not', () => {
    expect(run(['STOP'], ['a S', 'T', 'O', 'x', 'S']).emitted).toEqual(['a ', '', '', 'STOx', '', 'S']);
  });

  test('without stop strings everything is final at once', () => {
    expect(run([], ['a', 'b']).emitted).toEqual(['a', 'b', '']);
  });

  test('a false start may hold the true one: "aab" in "aaab"', () => {
    expect(run(['aab'], ['a', 'a', 'a', 'b'])).toMatchObject({ text: 'a', stop: 'aab', emitted: ['', '', 'a', ''] });
  });

  test('overlapping stop strings: the one complete first wins, of two complete at once the longer', () => {
    expect(run(['abcd', 'bc'], ['abcd'])).toMatchObject({ text: 'a', stop: 'bc' });
    expect(run(['bc', 'abc'], ['xabc'])).toMatchObject({ text: 'x', stop: 'abc' });
    expect(run(['abcd', 'x'], ['abc', 'x'])).toMatchObject({ text: 'abc', stop: 'x' });
  });

  test('nothing comes out after a stop', () => {
    const matcher = createStopMatcher(['.']);
    expect(matcher.push('a.b')).toEqual({ text: 'a', stop: '.' });
    expect(matcher.push('c')).toEqual({ text: '', stop: null });
    expect(matcher.flush()).toBe('');
  });

  test('an empty stop string is refused', () => {
    expect(() => createStopMatcher(['a', ''])).toThrow('must not be empty');
  });

  test('random texts, stops and splits: the same as a search over the whole text, and never more held than needed', () => {
    const random = seededRandom(3);
    const int = (n: number) => Math.floor(random() * n);
    const word = (letters: number, max: number) => Array.from({ length: 1 + int(max) }, () => 'abc'[int(letters)]).join('');
    let stopped = 0;
    for (let round = 0; round < 5000; round++) {
      const letters = 2 + int(2);
      const stops = Array.from({ length: 1 + int(4) }, () => word(letters, 6));
      const text = word(letters, 40);
      const pieces: string[] = [];
      for (let at = 0; at < text.length; ) pieces.push(text.slice(at, (at += int(5)))); // empty pieces too
      const expected = naive(stops, text);
      expect(run(stops, pieces), JSON.stringify({ stops, pieces })).toMatchObject(expected);
      if (expected.stop !== null) stopped++;

      const matcher = createStopMatcher(stops);
      let seen = '',
        out = '';
      for (const piece of pieces) {
        seen += piece;
        const { text, stop } = matcher.push(piece);
        out += text;
        if (stop !== null) break;
        const held = seen.slice(out.length);
        expect(held === '' || stops.some((s) => s.startsWith(held))).toBe(true);
      }
    }
    expect(stopped).toBeGreaterThan(1000); // the cases are not all one-sided
    expect(stopped).toBeLessThan(4999);
  });
});

describe('text of tokens', () => {
  test('whatever bytes the tokens are, broken characters among them: the decoded text up to the stop string, and every id once', () => {
    const random = seededRandom(12);
    const int = (n: number) => Math.floor(random() * n);
    const bytes = [0x61, 0x62, 0xc3, 0xa4, 0xe2, 0x82, 0xac, 0xff]; // a, b, ä, €, and one that is never right
    const tokenizer = { stream: () => new StreamDecoder((id) => Uint8Array.of(id)) } as Tokenizer;
    let stopped = 0;
    for (let i = 0; i < 3000; i++) {
      const ids = Array.from({ length: int(12) }, () => bytes[int(bytes.length)]);
      const stops = Array.from({ length: int(3) }, () => Array.from({ length: 1 + int(3) }, () => 'abä€\uFFFD'[int(5)]).join(''));
      const stream = new TextStream(tokenizer, stops);
      const events = ids.flatMap((id) => (stream.stopped ? [] : (stream.push(id, null) ?? [])));
      const rest = stream.flush();
      if (rest) events.push(rest);
      const whole = naive(stops, new TextDecoder().decode(Uint8Array.from(ids)));
      expect(events.map(({ text }) => text).join(''), JSON.stringify({ ids, stops })).toBe(whole.text);
      expect(stream.stopped).toBe(whole.stop !== null);
      const shown = events.flatMap(({ tokenIds }) => tokenIds);
      expect(shown).toEqual(ids.slice(0, shown.length));
      if (stream.stopped) stopped++;
      else expect(shown.length).toBe(ids.length);
    }
    expect(stopped).toBeGreaterThan(300);
  });
});
