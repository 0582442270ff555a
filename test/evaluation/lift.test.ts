/** What layer budgets gain: answers whose lift is known, told again. */
import { describe, expect, test } from 'vitest';
import { labelsOf } from '../../evaluation/labels.ts';
import { comparisonOf, type Lift, liftsOf, tally, verdictOf } from '../../evaluation/lift.ts';
import { type Made, madeOf } from '../../evaluation/made-of.ts';
import { liftPlots } from '../../evaluation/report/lift-plots.ts';
import { liftTables, liftWords } from '../../evaluation/report/lift-tables.ts';
import { lmbaPlots } from '../../evaluation/report/lmba-plots.ts';
import { plotsOf } from '../../evaluation/report/plots.ts';
import { summarise } from '../../evaluation/summary.ts';
import { gridPresses, variantsOf } from '../../evaluation/variants.ts';
import { answered } from '../support/answered.ts';

const grid = (layer_budgets: readonly unknown[], head_budgets: readonly unknown[] = ['uniform'], scorers: readonly unknown[] = ['snapkv', 'tova']) =>
  gridPresses({ scorers, layer_budgets, head_budgets });
const budgetOf = (made: Made): string => made[0]?.layer_budget.name ?? 'none';
const found = (lifts: readonly Lift[], scorer: string, comparison: string): Lift =>
  lifts.find((one) => one.scorer === scorer && comparisonOf(one) === comparison)!;

describe('a lift', () => {
  test('is the difference by pairs, over tasks and by task, whatever the samples are worth', () => {
    const { answers, made } = answered({
      presses: grid(['uniform', 'zigzag', 'zigzag_shuffled', 'cake']),
      answer(parts, draw, task) {
        const hard = 0.8 * draw.next(); // far wider than the lift: only pairs see it
        const lift = { zigzag: task === 'vt' ? 0.12 : 0.03, cake: -0.05 }[budgetOf(parts)] ?? 0;
        return { score: hard + lift, kl: hard - lift };
      },
    });
    const lifts = liftsOf(answers, made);
    expect(lifts.length).toBe(8); // two scorers: three budgets against uniform, one against its control
    for (const scorer of ['snapkv', 'tova']) {
      const zigzag = found(lifts, scorer, 'zigzag');
      expect(zigzag).toMatchObject({ ratio: 0.5, head_budget: 'uniform', against: 'uniform', samples: 120, bytes: 1, part: { name: 'zigzag' } });
      expect(zigzag.score!.mean).toBeCloseTo(6, 9); // (12 + 3 + 3) / 3 percent points
      expect(zigzag.kl!.mean).toBeCloseTo(-0.06, 9);
      expect(zigzag.tasks.map(({ task, samples, score }) => [task, samples, Math.round(score!.mean * 1e6) / 1e6])).toEqual([
        ['vt', 40, 12],
        ['cwe', 40, 3],
        ['qa_1', 40, 3],
      ]);
      expect(zigzag.lengths.map(({ length, samples, score }) => [length, samples, Math.round(score!.mean * 1e6) / 1e6])).toEqual([
        [512, 60, 6],
        [1024, 60, 6],
      ]);
      for (const { low, high } of [zigzag.score!, zigzag.tasks[0].score!]) expect(high - low).toBeLessThan(1e-9); // all pairs differ alike
      expect(found(lifts, scorer, 'cake').score!.mean).toBeCloseTo(-5, 9);
      expect(found(lifts, scorer, 'zigzag_shuffled').score).toEqual({ mean: 0, low: 0, high: 0 });
      expect(found(lifts, scorer, 'zigzag less zigzag_shuffled').score!.mean).toBeCloseTo(6, 9);
    }
  });

  test('counts tasks and lengths alike where they have fewer samples', () => {
    const { answers, made } = answered({
      presses: grid(['uniform', 'zigzag'], ['uniform'], ['snapkv']),
      answer: (parts, _draw, task) => ({ score: budgetOf(parts) === 'zigzag' && task === 'vt' ? 1 : 0 }),
    });
    const few = answers.filter(({ task, sample }) => task === 'vt' || sample.endsWith('/0') || sample.endsWith('/1'));
    expect(liftsOf(few, made)[0].score!.mean).toBeCloseTo(100 / 3, 9);
  });

  test('is of the samples that both answered, and of twins alike in all but the layer budget', () => {
    const presses = [
      ...grid(['uniform'], ['uniform', 'adakv'], [{ name: 'snapkv', window_size: 16 }, 'tova']),
      { name: 'one+two', press: { scorer: { name: 'snapkv', window_size: 16 }, layer_budget: 'zigzag' } }, // its name says nothing
      { name: 'mine', press: { scorer: { name: 'snapkv', window_size: 8 }, layer_budget: 'zigzag' } }, // no twin
      { name: 'zigzag_tova', press: 'zigzag_tova' },
      { name: 'no_press', press: 'no_press' },
    ];
    const { answers, made } = answered({ presses, ratios: [0.5, 0.75], answer: () => ({ score: 1 }) });
    const some = answers.filter(({ variant, sample }) => !(variant === 'one+two@0.5' && sample.endsWith('7')));
    const lifts = liftsOf(some, made);
    expect(lifts.map(({ variant, twin, samples }) => [variant, twin, samples])).toEqual([
      ['one+two@0.5', 'snapkv(window_size=16)+uniform+uniform@0.5', 108],
      ['one+two@0.75', 'snapkv(window_size=16)+uniform+uniform@0.75', 120],
      ['zigzag_tova@0.5', 'tova+uniform+uniform@0.5', 120],
      ['zigzag_tova@0.75', 'tova+uniform+uniform@0.75', 120],
    ]);
    expect(liftsOf(some, new Map())).toEqual([]);
  });

  test('is not told where one sample has both, or none has a score', () => {
    const presses = grid(['uniform', 'zigzag'], ['uniform'], ['snapkv']);
    const { answers, made } = answered({ presses, samples: 2, answer: () => ({ score: null, kl: 0.5 }) });
    expect(liftsOf(answers, made)[0]).toMatchObject({ score: null, kl: { mean: 0 } });
    const one = answers.filter(({ sample }) => sample === 'vt/512/0');
    expect(liftsOf(one, made)[0]).toMatchObject({ samples: 1, score: null, kl: null });
    const twins = answers.filter(({ variant, sample }) => variant.includes('zigzag') === sample.endsWith('0'));
    expect(liftsOf(twins, made)).toEqual([]); // no sample has both
  });

  test('of single samples has an interval of all of them together', () => {
    const presses = grid(['uniform', 'zigzag'], ['uniform'], ['snapkv']);
    const { answers, made } = answered({
      presses,
      samples: 1,
      answer: (parts, _draw, task) => ({ score: budgetOf(parts) === 'zigzag' && task === 'vt' ? 1 : 0 }),
    });
    const { mean, low, high } = liftsOf(answers, made)[0].score!; // two of six cells
    expect(mean).toBeCloseTo(100 / 3, 9);
    expect(low).toBe(0);
    expect(high).toBeCloseTo(400 / 6, 9);
  });
});

test('where nothing differs, as many lie outside as chance puts there', () => {
  const seeds = Array.from({ length: 40 }, (_, i) => ({ name: 'zigzag', threshold: (i + 1) / 50 }));
  const { answers, made } = answered({
    presses: grid(['uniform', ...seeds]),
    answer: (parts, draw) => ({ score: draw.fork(JSON.stringify(parts)).next() < 0.5 ? 1 : 0 }),
  });
  const lifts = liftsOf(answers, made);
  const alike = tally(lifts.map((lift) => ({ ...lift, layer_budget: 'zigzag' })));
  expect(alike.map(({ measure, by, by_chance }) => [measure, by, by_chance])).toEqual([
    ['score', 'press', 2],
    ['score', 'task', 6],
  ]);
  for (const { better, worse, within, by_chance } of alike) {
    expect(better + worse + within).toBe(by_chance * 40);
    expect(better + worse).toBeLessThan(5 * by_chance); // all of a scorer share their twin, so they come in clusters
  }
});

test('better is more of a score and less of a divergence', () => {
  const above = { mean: 1, low: 0.5, high: 2 };
  const below = { mean: -1, low: -2, high: -0.5 };
  expect([verdictOf(above, 'score'), verdictOf(above, 'kl')]).toEqual(['better', 'worse']);
  expect([verdictOf(below, 'score'), verdictOf(below, 'kl')]).toEqual(['worse', 'better']);
  expect(verdictOf({ mean: 1, low: 0, high: 2 }, 'score')).toBe('within');
});

test('labels tell what differs and nothing else', () => {
  const made = (press: unknown): Made => madeOf(variantsOf([{ name: 'p', press }], [0.5], false).variants[0].request);
  const mine = made({ scorer: { name: 'snapkv', window_size: 16 }, layer_budget: { name: 'zigzag', threshold: 0.8 } });
  expect(labelsOf([mine]).layerBudget(mine)).toBe('zigzag');
  expect(labelsOf([mine]).others(mine)).toBe('');
  const label = labelsOf([mine, made({ scorer: { name: 'snapkv', window_size: 8 }, layer_budget: 'zigzag', compat: 'kvpress' })]);
  expect([label.scorer(mine), label.layerBudget(mine), label.others(mine)]).toEqual([
    'snapkv(window_size=16)',
    'zigzag(threshold=0.8)',
    'compat none',
  ]);
});

describe('the report', () => {
  const sweep = [0.8, 0.9, 0.95].flatMap((threshold) => [0, 0.2].map((bound_ratio) => ({ name: 'zigzag', threshold, bound_ratio })));
  const study = answered({
    presses: [{ name: 'no_press', press: 'no_press' }, ...grid(['uniform', ...sweep, 'pyramid'], ['uniform', 'adakv'])],
    ratios: [0.5, 0.75],
    answer(parts, draw, _task, ratio) {
      const { name, params } = parts[0]?.layer_budget ?? { name: 'none', params: {} };
      const lift = name === 'zigzag' && ratio === 0.75 ? 0.1 * (params.threshold as number) : 0;
      return { score: 0.5 * draw.next() + lift, kl: draw.next() - lift };
    },
  });
  const lifts = liftsOf(study.answers, study.made);

  test('has a table of every press, with what lies outside its interval in bold', () => {
    const tables = liftTables(lifts);
    expect(tables.map(({ title }) => title)).toEqual([
      'Score, percent points',
      'KL divergence, nats a token: below 0 is better',
      'How many lie outside their interval',
      'By length: score, percent points',
      'By length: KL divergence, nats a token: below 0 is better',
      'Tasks outside their interval: score, percent points',
      'Tasks outside their interval: KL divergence, nats a token: below 0 is better',
    ]);
    const [scores] = tables;
    expect(scores.head.slice(0, 3)).toEqual(['scorer', 'head budget', 'ratio']);
    expect(scores.rows.length).toBe(8); // two scorers, two head budgets, two ratios
    const column = scores.head.indexOf('zigzag(threshold=0.9,bound_ratio=0.2)');
    expect(scores.rows.map((row) => [row[2].text, row[column].text, row[column].strong]).slice(0, 2)).toEqual([
      ['0.5', '0.0 [0.0, 0.0]', false],
      ['0.75', '+9.0 [+9.0, +9.0]', true],
    ]);
    expect(tables[5].rows.length).toBe(6 * 2 * 2 * 3); // settings, scorers, head budgets, tasks, at one ratio
    expect(tables[5].rows[0].map(({ text }) => text)).toEqual(expect.arrayContaining(['+9.5 [+9.5, +9.5]', '40']));
    expect(liftWords(lifts)).toMatch(/^56 pairs .* They hold 100.0% to 100.0% of the bytes of the other\.$/);
    expect(liftWords(lifts.map((lift) => ({ ...lift, samples: 9 })))).toMatch(/56 of the pairs have fewer than 10 samples a task/);
  });

  test('has a plot by ratio, by task and by parameters for each measure and head budget', () => {
    const plots = liftPlots(lifts);
    const kinds = ['', '-by-task', '-sensitivity-zigzag'];
    const names = ['lift', 'lift-kl'].flatMap((name) => ['uniform', 'adakv'].flatMap((head) => kinds.map((kind) => `${name}-${head}${kind}`)));
    expect(plots.map(({ name }) => name)).toEqual(names);
    const rows = (name: string) =>
      (plots.find((plot) => plot.name === name)!.spec as unknown as { data: { values: Record<string, unknown>[] } }).data.values;
    expect(plots.find(({ name }) => name === 'lift-uniform-by-task')!.title).toMatch(/ratio 0\.75/); // there they differ
    const at = rows('lift-adakv-sensitivity-zigzag').filter(({ panel, settings }) => panel === 'tova at 0.75' && settings === 'bound_ratio 0.2');
    expect(at.map(({ along, mean }) => [along, (mean as number).toFixed(3)])).toEqual([
      [0.8, '8.000'],
      [0.9, '9.000'],
      [0.95, '9.500'],
    ]);
  });

  test('shows one setting of each layer budget where there are more than colours, the default one', () => {
    const settings = [...sweep, ...['pyramid', ...[2, 5, 10].map((beta) => ({ name: 'pyramid', beta }))]];
    const { answers, made } = answered({ presses: grid(['uniform', ...settings]), samples: 2, answer: (_, draw) => ({ score: draw.next() }) });
    const [plot] = liftPlots(liftsOf(answers, made));
    expect(plot.caption).toMatch(/2 of 10 layer budgets are shown: of each one setting/);
    const { values } = (plot.spec as unknown as { data: { values: { comparison: string }[] } }).data;
    expect(new Set(values.map(({ comparison }) => comparison))).toEqual(new Set(['zigzag(threshold=0.9,bound_ratio=0.2)', 'pyramid(beta=20)']));
  });

  test('shows LMBA of every layer in percent of what the press saw, once a scorer', () => {
    const plots = lmbaPlots(study.answers, study.made);
    expect(plots.map(({ name }) => name)).toEqual(['lmba-by-layer', 'lmba-by-task']);
    const { values } = (plots[0].spec as unknown as { data: { values: unknown[] } }).data;
    expect(values).toEqual(
      ['snapkv', 'tova'].flatMap((panel) => [25, 50].map((share, layer) => ({ panel, layer, mean: share, low: share, high: share }))),
    );
    expect(lmbaPlots(study.answers, new Map())).toEqual([]);
  });

  test('shows many presses in panels where they are a grid, else the best by name', () => {
    const summaries = summarise(study.answers, { resamples: 10 });
    const captions = (made: ReadonlyMap<string, Made>) => plotsOf(summaries, study.answers, made).map(({ name, caption }) => `${name}: ${caption}`);
    expect(captions(study.made)[0]).toMatch(/^score-by-bytes: .* The broken line is the full cache\.$/);
    expect(captions(new Map())[0]).toMatch(/The best 12 of 33 presses/);
    const uneven = { presses: [...grid(['uniform', ...sweep, 'pyramid', { name: 'pyramid', beta: 10 }]), { name: 'no_press', press: 'no_press' }] };
    const many = answered({ ...uneven, samples: 1, answer: (_, draw) => ({ score: draw.next() }) });
    const [plot] = plotsOf(summarise(many.answers, { resamples: 10 }), many.answers, many.made);
    expect(plot.caption).toMatch(/The best 12 of 19 presses/); // more layer budgets than colours
    expect(JSON.stringify(plot.spec)).toContain('"press":"tova zigzag(threshold=0.9,bound_ratio=0.2)"');
    expect(captions(study.made).find((caption) => caption.startsWith('layer-budgets'))).toMatch(/means over the samples, ratios and head budgets/);
  });
});
