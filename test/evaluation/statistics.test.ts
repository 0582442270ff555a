import { describe, expect, test } from 'vitest';
import { Random } from '../../evaluation/random.ts';
import { bootstrap, pairedDifference } from '../../evaluation/statistics.ts';

describe('bootstrap', () => {
  test('covers the true mean as often as it says', () => {
    const random = new Random('coverage');
    const trials = 400;
    let covered = 0;
    for (let trial = 0; trial < trials; trial++) {
      const values = Array.from({ length: 40 }, () => (random.next() < 0.3 ? 1 : 0));
      const { low, high } = bootstrap([values], { resamples: 300, seed: trial });
      if (low <= 0.3 && 0.3 <= high) covered++;
    }
    expect(covered / trials).toBeGreaterThan(0.88);
    expect(covered / trials).toBeLessThan(0.99);
  });

  test('is as wide as the normal interval where that holds', () => {
    const random = new Random('width');
    const values = Array.from({ length: 400 }, () => random.next());
    const { mean, low, high } = bootstrap([values]);
    const deviation = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / 400);
    expect((high - low) / ((2 * 1.96 * deviation) / 20)).toBeCloseTo(1, 1);
  });

  test('weighs groups alike, whatever their size', () => {
    expect(bootstrap([[1, 1, 1, 1], [0]]).mean).toBe(0.5);
    expect(
      bootstrap([
        [1, 1],
        [0, 0],
      ]),
    ).toEqual({ mean: 0.5, low: 0.5, high: 0.5 }); // each is drawn from itself
    expect(bootstrap([[0.25], []]).mean).toBe(0.25);
    expect(bootstrap([[]]).mean).toBeNaN();
  });

  test('of the same seed is the same', () => {
    const values = [0, 1, 1, 0, 1, 0, 0, 1];
    expect(bootstrap([values], { seed: 5 })).toEqual(bootstrap([values], { seed: 5 }));
  });
});

test('a paired difference does not see what both have in common', () => {
  const random = new Random('pairs');
  const hard = Array.from({ length: 60 }, () => random.next());
  const a = hard.map((value) => value + 0.02);
  const { mean, low, high } = pairedDifference([a], [hard]);
  for (const value of [mean, low, high]) expect(value).toBeCloseTo(0.02, 10);
  expect(bootstrap([a]).low).toBeLessThan(bootstrap([hard]).high); // alone they cannot be told apart
  expect(() => pairedDifference([[1, 2]], [[1]])).toThrow(/pairs are needed/);
});
