/** What one layer alone loses, and which layer budgets follow it: answers whose order of layers is known. */
import { describe, expect, test } from 'vitest';
import { damagesOf, rankCorrelation } from '../../evaluation/damage.ts';
import { damagePlots, damageTable, damageWords } from '../../evaluation/report/damage-plots.ts';
import { outsideSections, summaryOf } from '../../evaluation/report/report.ts';
import type { Setup } from '../../evaluation/results.ts';
import { gridPresses, type NamedPress } from '../../evaluation/variants.ts';
import { answered } from '../support/answered.ts';

const LAYERS = 4;
const DAMAGE = [0.1, 0.9, 0.2, 0.5];
const alone = (scorer: string, layers: readonly number[], ratio = 0.75): NamedPress[] =>
  layers.map((layer) => ({
    name: `${scorer} in layer ${layer}`,
    press: { scorer, layer_budget: { name: 'per_layer', compression_ratios: Array.from({ length: LAYERS }, (_, l) => (l === layer ? ratio : 0)) } },
  }));
const all = [0, 1, 2, 3];
const KEPT: Record<string, readonly number[]> = { zigzag: [10, 90, 20, 50], pyramid: [90, 10, 50, 20], uniform: [40, 40, 40, 40] };

function study(presses: readonly NamedPress[], ratios?: readonly number[]) {
  return answered({
    presses,
    ratios,
    answer(made, draw) {
      const { name, params } = made[0]?.layer_budget ?? { name: 'none', params: {} };
      const pressed = name === 'per_layer' ? [params.compression_ratios].flat().findIndex((ratio) => (ratio as number) > 0) : -1;
      return { score: null, kl: (DAMAGE[pressed] ?? 0) * (1 + 0.01 * draw.next()), kept: KEPT[name] ?? all.map(() => 1) };
    },
  });
}

describe('damage of single layers', () => {
  test('is by layer, and a budget is told by how it orders them', () => {
    const presses = [...alone('snapkv', all), ...gridPresses({ scorers: ['snapkv', 'tova'], layer_budgets: ['uniform', 'zigzag', 'pyramid'] })];
    const { answers, made } = study(presses);
    const found = damagesOf(answers, made);
    expect(found.length).toBe(1); // tova's layers were not pressed alone
    const [{ scorer, ratio, samples, damage, agreements }] = found;
    expect([scorer, ratio, samples]).toEqual(['snapkv', 0.75, 120]);
    for (const [layer, { mean, low, high }] of damage.entries()) {
      expect(mean).toBeGreaterThan(DAMAGE[layer]);
      expect(mean).toBeLessThan(1.01 * DAMAGE[layer]);
      expect(low).toBeLessThan(high);
    }
    expect(agreements.map(({ layer_budget, rho }) => [layer_budget, rho])).toEqual([
      ['zigzag', { mean: 1, low: 1, high: 1 }],
      ['pyramid', { mean: -1, low: -1, high: -1 }],
    ]);
    const [short, long] = [1 / 512, 1 / 1024].map((one) => 90 * one);
    expect(agreements[0].kept[1]).toBeCloseTo((short + long) / 2, 9);
    expect(damagePlots(found).map(({ name }) => name)).toEqual(['layer-damage', 'layer-shares']);
    const table = damageTable(found)!;
    expect(table.head).toEqual(['scorer', 'zigzag', 'pyramid', 'samples']);
    expect(table.rows[0].map(({ text, strong }) => [text, strong])).toEqual([
      ['snapkv', undefined],
      ['1.00 [1.00, 1.00]', true],
      ['-1.00 [-1.00, -1.00]', true],
      ['120', undefined],
    ]);
  });

  test('is not told where a layer was left out, where two are pressed at once, or of presses whose parts are not known', () => {
    const [missing, whole] = [study(alone('snapkv', [0, 1, 3])), study(alone('snapkv', all))];
    expect(damagesOf(missing.answers, missing.made)).toEqual([]);
    expect(damagesOf(whole.answers, new Map())).toEqual([]);
    const [first, ...others] = alone('snapkv', all);
    const two = { ...first, press: { scorer: 'snapkv', layer_budget: { name: 'per_layer', compression_ratios: [0.5, 0.5, 0, 0] } } };
    const both = study([two, ...others]);
    expect(damagesOf(both.answers, both.made)).toEqual([]);
    expect([damagePlots([]), damageTable([])]).toEqual([[], null]);
  });

  test('budgets of several ratios are told apart, and ratios of the single layers too', () => {
    const presses = [
      ...alone('snapkv', all),
      ...alone('snapkv', all, 0.5).map((one) => ({ ...one, name: `${one.name}, half` })),
      ...gridPresses({ scorers: ['snapkv'], layer_budgets: ['zigzag'] }),
    ];
    const { answers, made } = study(presses, [0.25, 0.5]);
    const found = damagesOf(answers, made);
    expect(found.map(({ ratio }) => ratio)).toEqual([0.75, 0.5]);
    for (const { agreements } of found) expect(agreements.map(({ layer_budget }) => layer_budget)).toEqual(['zigzag at 0.25', 'zigzag at 0.5']);
    expect(damageTable(found)!.rows.map(([{ text }]) => text)).toEqual(['snapkv, at 0.75', 'snapkv, at 0.5']);
  });

  test('budgets whose presses carry their ratios themselves are told apart alike, and one that is there under two names is told once', () => {
    const own = [0.25, 0.5].map((ratio) => ({
      name: `zigzag, ${ratio}`,
      press: { scorer: 'snapkv', layer_budget: 'zigzag', compression_ratio: ratio },
    }));
    const again = { ...own[0], name: 'the same' };
    const { answers, made } = study([...alone('snapkv', all), ...own, again]);
    expect(damagesOf(answers, made)[0].agreements.map(({ layer_budget }) => layer_budget)).toEqual(['zigzag at 0.25', 'zigzag at 0.5']);
  });

  test('budgets that are alike in some samples say of how many they are told', () => {
    const presses = [...alone('snapkv', all), ...gridPresses({ scorers: ['snapkv'], layer_budgets: ['zigzag', 'pyramid'] })];
    const { answers, made } = study(presses);
    const equal = answers.map((one) => (one.press.includes('pyramid') && one.task !== 'vt' ? { ...one, kept_per_layer: [40, 40, 40, 40] } : one));
    const found = damagesOf(equal, made);
    expect(found[0].agreements.map(({ samples }) => samples)).toEqual([120, 40]);
    expect(damageTable(found)!.rows[0].map(({ text }) => text)).toEqual(['snapkv', '1.00 [1.00, 1.00]', '-1.00 [-1.00, -1.00], 40 samples', '120']);
    const all40 = answers.map((one) => (one.press.includes('pyramid') ? { ...one, kept_per_layer: [40, 40, 40, 40] } : one));
    expect(damageTable(damagesOf(all40, made))!.rows[0][2].text).toBe('-');
  });

  test('tasks and lengths count alike, however many samples they have', () => {
    const { answers, made } = study(alone('snapkv', all));
    const some = answers
      .filter(({ task, sample }) => task !== 'vt' || Number(sample.split('/').at(-1)) < 5)
      .map((one) => ({ ...one, kl: one.task === 'vt' ? 3 : 0 }));
    const [{ samples, damage }] = damagesOf(some, made);
    expect(samples).toBe(90); // 10 of vt, 40 of each other task
    expect(damage[0].mean).toBeCloseTo(1, 12); // a third of the cells, a ninth of the samples
  });

  test('ratios by layer too many to be told, as a model of 126 layers has them, are passed over', () => {
    const many = { name: 'many', press: { scorer: 'snapkv', layer_budget: { name: 'per_layer', compression_ratios: Array(126).fill(0.5) } } };
    const { answers, made } = study([...alone('snapkv', all), many]);
    expect(damagesOf(answers, made).map(({ samples, agreements }) => [samples, agreements])).toEqual([[120, []]]);
  });

  test('ratios are told in whole words', () => {
    const { answers, made } = study(alone('snapkv', all, 0.55));
    expect(damageWords(damagesOf(answers, made))).toMatch(/^One layer alone loses 55% of its entries/);
  });

  test('presses of one layer alone stand in their own section of a report, and nowhere else', () => {
    const { answers, made } = study([...alone('snapkv', all), ...gridPresses({ scorers: ['snapkv'], layer_budgets: ['uniform', 'zigzag'] })]);
    const setup = {} as Setup;
    const shown = outsideSections({ setup, answers, made }, summaryOf({ setup, answers, made }, []));
    expect(shown.variants.map(({ press }) => press)).toEqual(['snapkv+uniform+uniform', 'snapkv+zigzag+uniform']);
    expect(new Set(shown.answers.map(({ press }) => press))).toEqual(new Set(['snapkv+uniform+uniform', 'snapkv+zigzag+uniform']));
    const some = answers.filter(({ press }) => press !== 'snapkv in layer 2'); // no section: nothing is lost
    expect(outsideSections({ setup, answers: some, made }, summaryOf({ setup, answers: some, made }, [])).variants.length).toBe(5);
  });
});

test('the rank correlation: by hand', () => {
  expect(rankCorrelation([1, 2, 3], [10, 20, 30])).toBeCloseTo(1, 12);
  expect(rankCorrelation([1, 2, 3], [30, 20, 10])).toBeCloseTo(-1, 12);
  expect(rankCorrelation([1, 2, 3, 4], [1, 3, 2, 4])).toBeCloseTo(0.8, 12); // 1 - 6 (0 + 1 + 1 + 0) / (4 (16 - 1))
  expect(rankCorrelation([1, 1, 2], [5, 6, 7])).toBeCloseTo(Math.sqrt(3) / 2, 12);
  expect(rankCorrelation([1, 1, 1], [5, 6, 7])).toBeNaN();
});
