import { expect, test } from 'vitest';
import { Random } from '../../evaluation/random.ts';

const draws = (random: Random, count = 8) => Array.from({ length: count }, () => random.bits());

test('the same words draw the same, others differ in every draw; numbers and words are told apart', () => {
  expect(draws(new Random('vt', 42, 7))).toEqual(draws(new Random('vt', 42, 7)));
  const others = [['vt', 42, 8], ['vt', 43, 7], ['vt', '42', 7], ['vt', 427], ['vt', 4, 27], [42, 'vt', 7], []].map((seed) =>
    draws(new Random(...seed)),
  );
  const first = draws(new Random('vt', 42, 7));
  for (const other of others) expect(other.filter((bits, i) => bits === first[i])).toEqual([]);
});

test('a fork draws the same whatever was drawn before', () => {
  const random = new Random(1);
  const before = draws(random.fork('needles'));
  random.next();
  expect(draws(random.fork('needles'))).toEqual(before);
  expect(draws(random.fork('haystack'))).not.toEqual(before);
});

test('numbers are uniform: 32 bits each half of the time, and 10 boxes equally often, over neighbouring seeds', () => {
  const boxes = new Array<number>(10).fill(0);
  const ones = new Array<number>(32).fill(0);
  const n = 20_000;
  for (let seed = 0; seed < n; seed++) {
    const bits = new Random(seed).bits();
    for (let i = 0; i < 32; i++) ones[i] += (bits >>> i) & 1;
    boxes[new Random('box', seed).int(0, 9)]++;
  }
  for (const count of ones) expect(Math.abs(count - n / 2)).toBeLessThan(5 * Math.sqrt(n / 4)); // 5 sigma
  for (const count of boxes) expect(Math.abs(count - n / 10)).toBeLessThan(5 * Math.sqrt(n * 0.09));
});

test('sample: different items; shuffled: all of them', () => {
  const items = Array.from({ length: 50 }, (_, i) => i);
  const some = new Random('s').sample(items, 20);
  expect(new Set(some).size).toBe(20);
  expect(new Random('s').shuffled(items).sort((a, b) => a - b)).toEqual(items);
});
