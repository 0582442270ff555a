/** What ZigZag sees: LMBA of every layer, by task and over the samples. */
import { layerBudgets } from '../../presses/registry.ts';
import { labelsOf } from '../labels.ts';
import { isDefault } from '../lift.ts';
import type { Made } from '../made-of.ts';
import type { Answer } from '../results.ts';
import { mean, quantile } from '../statistics.ts';
import { grouped } from '../summary.ts';
import { cellConfig, distinct, inPanels, type Plot } from './plot.ts';

/** In percent of the tokens that the press saw, so that lengths are alike. Of every scorer one variant, of the default parameters where there is one: neither the ratio nor the head budget changes what is measured. */
export function lmbaPlots(answers: readonly Answer[], made: ReadonlyMap<string, Made>): Plot[] {
  const measured = [...grouped(answers, ({ variant }) => variant)].flatMap(([variant, all]) => {
    const parts = made.get(variant);
    const own = all.filter(({ lmba_per_layer }) => lmba_per_layer.every((lmba) => lmba !== null));
    const measures = parts?.length === 1 && layerBudgets.zigzag.name === parts[0].layer_budget.name;
    return measures && own.length > 0 ? [{ parts, own }] : [];
  });
  if (measured.length === 0) return [];
  const { scorer } = labelsOf(measured.map(({ parts }) => parts));
  const chosen = [...grouped(measured, ({ parts }) => scorer(parts))].map(([panel, all]) => ({
    panel,
    ...([...all].sort((a, b) => b.own.length - a.own.length).find(({ parts }) => isDefault(parts[0].layer_budget)) ?? all[0]),
  }));
  const thresholds = distinct(chosen.map(({ parts }) => String(parts[0].layer_budget.params.threshold)));
  const words = `LMBA: how many evictable tokens carry ${thresholds.join(' or ')} of the scores' mass, mean over the heads, in percent of the tokens that the press saw`;
  const panels = chosen.map(({ panel }) => panel);
  const layers = (own: readonly Answer[]): { layer: number; shares: Float64Array }[] =>
    own[0].lmba_per_layer.map((_, layer) => ({
      layer,
      shares: Float64Array.from(own, ({ lmba_per_layer, covered }) => (100 * lmba_per_layer[layer]!) / covered).sort(),
    }));
  const spread = chosen.flatMap(({ panel, own }) =>
    layers(own).map(({ layer, shares }) => ({ panel, layer, mean: mean([...shares]), low: quantile(shares, 0.1), high: quantile(shares, 0.9) })),
  );
  const byTask = chosen.flatMap(({ panel, own }) =>
    [...grouped(own, ({ task }) => task)].flatMap(([task, some]) =>
      layers(some).map(({ layer, shares }) => ({ panel, task, layer, mean: mean([...shares]) })),
    ),
  );
  const count = chosen[0].own[0].lmba_per_layer.length;
  const every = count > 8 ? { values: Array.from({ length: count }, (_, layer) => layer).filter((layer) => layer % 5 === 0) } : {};
  return [
    {
      name: 'lmba-by-layer',
      title: 'LMBA by layer',
      caption: `${words}. The line is the mean over the samples, the band holds the samples from the 10% to the 90% quantile.`,
      ...inPanels('panel', panels, spread, () => ({
        width: 150,
        height: 130,
        encoding: { x: { field: 'layer', type: 'quantitative', title: 'layer', axis: { tickMinStep: 1, format: 'd', ...every } } },
        layer: [
          {
            mark: { type: 'area', opacity: 0.25, color: '#0072b2' },
            encoding: { y: { field: 'low', type: 'quantitative', title: '% of tokens' }, y2: { field: 'high' } },
          },
          {
            mark: { type: 'line', color: '#0072b2', point: { size: 20 } },
            encoding: { y: { field: 'mean', type: 'quantitative', title: '% of tokens' } },
          },
        ],
      })),
    },
    {
      name: 'lmba-by-task',
      title: 'LMBA by layer and task',
      caption: `${words}; means over the samples.`,
      ...inPanels(
        'panel',
        panels,
        byTask,
        () => ({
          mark: 'rect',
          width: { step: count > 16 ? 8 : 22 },
          height: { step: 16 },
          encoding: {
            x: { field: 'layer', type: 'ordinal', title: 'layer', axis: { labelAngle: 0, ...every } },
            y: { field: 'task', type: 'nominal', title: null, sort: distinct(byTask.map(({ task }) => task)) },
            color: { field: 'mean', type: 'quantitative', title: '% of tokens', scale: { scheme: 'viridis' }, legend: { orient: 'bottom' } },
          },
        }),
        { look: cellConfig, most: { wide: count > 16 ? 3 : 4, narrow: 1 } },
      ),
    },
  ];
}
