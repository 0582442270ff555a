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

  test('groups of one value are drawn from each other, so that a table of single samples has intervals', () => {
    const singles = [[0], [1], [1], [0], [1], [0], [0], [1]];
    expect(bootstrap(singles)).toEqual(bootstrap([singles.flat()]));
    const { mean, low, high } = bootstrap([[1], [0, 0], [0]]); // groups count alike: (1 + 0 + 0) / 3, and of the singles 0, 1 or 2 are drawn
    expect([mean, low, high]).toEqual([1 / 3, 0, 2 / 3]);
  });

  test('more draws than are kept are the same draws', () => {
    const values = Array.from({ length: 1500 }, (_, i) => i % 2);
    const few = bootstrap([values, [1, 1]], { resamples: 1000 }); // 1,502,000 places
    const halves = bootstrap([values, [1, 1]], { resamples: 2000 }); // 3,004,000: drawn as they are needed
    expect(halves.low).toBeCloseTo(few.low, 2);
    expect(bootstrap([values, [1, 1]], { resamples: 1000 })).toEqual(few);
    expect(bootstrap([values, [1, 1]], { resamples: 2000 })).toEqual(halves);
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
