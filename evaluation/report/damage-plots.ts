/** What is lost when one layer alone is pressed, beside what layer budgets deal it. */
import type { LayerDamage } from '../damage.ts';
import type { Table } from './lift-tables.ts';
import { COLOURS, distinct, inPanels, legendBelow, type Plot } from './plot.ts';

export function damagePlots(damages: readonly LayerDamage[]): Plot[] {
  if (damages.length === 0) return [];
  const panelOf = panels(damages);
  const names = damages.map(panelOf);
  const x = { field: 'layer', type: 'quantitative', title: 'layer', axis: { tickMinStep: 1, format: 'd' } };
  const lost = damages.flatMap((one) => one.damage.map(({ mean, low, high }, layer) => ({ panel: panelOf(one), layer, mean, low, high })));
  const dealt = damages.flatMap((one) =>
    one.agreements.flatMap(({ layer_budget, kept }) =>
      kept.map((share, layer) => ({ panel: panelOf(one), layer_budget, layer, share: 100 * share })),
    ),
  );
  const budgets = distinct(dealt.map(({ layer_budget }) => layer_budget));
  const size = { width: 170, height: 130 };
  return [
    {
      name: 'layer-damage',
      title: 'What is lost when one layer alone is pressed',
      caption:
        'KL divergence of the next-token distributions from the full cache, nats a token, with the layer on the axis pressed and all others whole; means with 95% intervals.',
      ...inPanels('panel', names, lost, () => ({
        ...size,
        encoding: { x },
        layer: [
          {
            mark: { type: 'rule', color: '#d55e00' },
            encoding: { y: { field: 'low', type: 'quantitative', title: 'KL, nats' }, y2: { field: 'high' } },
          },
          {
            mark: { type: 'point', color: '#d55e00', filled: true, size: 30 },
            encoding: { y: { field: 'mean', type: 'quantitative', title: 'KL, nats' } },
          },
        ],
      })),
    },
    ...(dealt.length === 0
      ? []
      : [
          {
            name: 'layer-shares',
            title: 'What layer budgets deal these layers',
            caption: 'Entries kept, in percent of the tokens that the press saw, means over the samples.',
            ...inPanels('panel', names, dealt, (narrow) => ({
              ...size,
              mark: { type: 'line', point: { size: 20 } },
              encoding: {
                x,
                y: { field: 'share', type: 'quantitative', title: '% kept' },
                color: {
                  field: 'layer_budget',
                  type: 'nominal',
                  title: null,
                  sort: budgets,
                  scale: { domain: budgets, range: COLOURS },
                  legend: legendBelow(budgets, narrow),
                },
              },
            })),
          },
        ]),
  ];
}

export function damageWords(damages: readonly LayerDamage[]): string {
  const ratios = distinct(damages.map(({ ratio }) => ratio));
  return `One layer alone loses ${ratios.map((ratio) => `${Number((100 * ratio).toPrecision(6))}%`).join(' or ')} of its entries, all others keep theirs: a layer budget that knew its layers would spare those where this costs most.`;
}

/** How far each layer budget follows the damage. */
export function damageTable(damages: readonly LayerDamage[]): Table | null {
  const budgets = distinct(damages.flatMap(({ agreements }) => agreements.map(({ layer_budget }) => layer_budget)));
  if (budgets.length === 0) return null;
  const panelOf = panels(damages);
  return {
    title: 'Do layer budgets spare the layers where most is lost?',
    words:
      "Spearman's rank correlation over the layers of what a layer keeps and what is lost when it alone is pressed, mean over the samples: 1 where the order is the same, 0 by chance, -1 where it is the other way round. The order alone counts, not how much more is lost in one layer than in another. Bold: the interval leaves out 0.",
    head: ['scorer', ...budgets, 'samples'],
    left: 1,
    rows: damages.map((one) => [
      { text: panelOf(one) },
      ...budgets.map((budget) => {
        const { rho, samples } = one.agreements.find(({ layer_budget }) => layer_budget === budget) ?? { rho: null };
        if (rho === null) return { text: '-' };
        const [mean, low, high] = [rho.mean, rho.low, rho.high].map((value) => value.toFixed(2));
        const fewer = samples < one.samples ? `, ${samples} samples` : '';
        return { text: `${mean} [${low}, ${high}]${fewer}`, strong: rho.low > 0 || rho.high < 0 };
      }),
      { text: String(one.samples) },
    ]),
  };
}

function panels(damages: readonly LayerDamage[]): (one: LayerDamage) => string {
  const [heads, ratios] = [distinct(damages.map(({ head_budget }) => head_budget)), distinct(damages.map(({ ratio }) => ratio))];
  return ({ scorer, head_budget, ratio }) =>
    [scorer, ...(heads.length > 1 ? [head_budget] : []), ...(ratios.length > 1 ? [`at ${ratio}`] : [])].join(', ');
}
