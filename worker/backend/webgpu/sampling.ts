/**
 * The next token, drawn where the logits lie: two dispatches, whatever the settings. The token stays on the device, for `embed` to read. `token`,
 * `counts` and `logits` are to lie in different buffers: what one dispatch both reads and writes may not overlap.
 */
import type { SampleSettings, View } from '../backend.ts';
import { type Gpu, withScratch } from './gpu.ts';
import { fold } from './recorder.ts';

const SLICE = 1024; // ids that one workgroup of sample-stats sums up
const STATS_WORDS = 4 + 32; // of a slice, and of its segments
const COLDEST = 1e-30; // below it 1 / temperature is no f32; long before, only the likeliest has a weight
const BELOW_1 = 1 - 2 ** -24; // a draw nearer to 1 would round to it

const statsBytes = (vocab: number): number => Math.ceil(vocab / SLICE) * STATS_WORDS * 4;
const listBytes = (vocab: number, cuts: boolean): number => (cuts ? vocab : Math.min(vocab, SLICE)) * 8; // key and id

/** The most that `sample` needs while it runs. */
export function sampleScratchBytes(vocab: number): number {
  return statsBytes(vocab) + listBytes(vocab, true);
}

export function sample(gpu: Gpu, token: View, logits: View, vocab: number, counts: View | null, settings: SampleSettings, draw: number): void {
  const { frequencyPenalty: frequency, presencePenalty: presence } = settings;
  const greedy = settings.temperature === 0;
  const temperature = Math.max(settings.temperature, COLDEST);
  const topK = settings.topK < vocab ? settings.topK : 0;
  const { topP, minP } = settings;
  const cuts = topK > 0 || topP < 1 || minP > 0;
  const penalised = Number(counts !== null && (frequency !== 0 || presence !== 0));
  const shared = { vocab, penalised, frequency, presence, inverseTemperature: greedy ? 0 : 1 / temperature };
  withScratch(gpu, statsBytes(vocab), 'sampling: slices', (stats) => {
    gpu.recorder.dispatch('sample-stats', {
      entry: gpu.software ? 'alone' : 'main',
      views: { logits, counts: penalised ? counts : null, stats },
      dims: shared,
      grid: fold(Math.ceil(vocab / SLICE / (gpu.software ? 8 : 1))),
    });
    const pick = (list: View | null): void =>
      gpu.recorder.dispatch('sample-pick', {
        entry: greedy ? 'greedy' : 'main',
        views: { logits, counts, stats, list, token },
        dims: {
          ...shared,
          counted: Number(counts !== null),
          temperature,
          topK,
          topP: Math.min(topP, 1),
          minP,
          nucleusFloor: (1 - topP) / vocab,
          draw: Math.min(draw, BELOW_1),
        },
        grid: [1],
      });
    if (greedy) pick(null);
    else withScratch(gpu, listBytes(vocab, cuts), 'sampling: list', pick);
  });
}
