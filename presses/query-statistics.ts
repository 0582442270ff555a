/** Mean and covariance of a model's queries before RoPE, calibrated offline: what expected attention may use in place of the prompt's own. */
import { type Artifact, type ArtifactNeed, anyTensor } from './artifacts.ts';

export const aboutStatistics = {
  format: 'safetensors',
  what: "mean and covariance of the model's queries before RoPE, per layer and query head",
  layout: 'tensors mean (or query_mean) [layers, query heads, head_dim] and cov (or query_cov) [layers, query heads, head_dim, head_dim]',
  source:
    'edgepress calibrate --kind expected_attention makes one of any text; model.safetensors of alessiodevoto/exp_att_stats_… on the Hugging Face hub is one',
} as const;

const MEAN = ['mean', 'query_mean'] as const;
const COV = ['cov', 'query_cov'] as const;

/** `param`: the scorer's parameter that names the file; null there = the prompt's own statistics. */
export function queryStatistics(param: string): ArtifactNeed {
  return {
    param,
    ...aboutStatistics,
    check(artifact, { layers, queryHeads: Hq, headDim: d }) {
      anyTensor(artifact, MEAN, [layers, Hq, d]);
      anyTensor(artifact, COV, [layers, Hq, d, d]);
    },
  };
}

/** Of one layer: mean [Hq, d] and covariance [Hq, d, d]. */
export function statisticsOf({ tensors }: Artifact, layer: number): { mean: Float32Array; cov: Float32Array } {
  const rows = (names: readonly string[]): Float32Array => {
    const { shape, values } = tensors.get(names.find((name) => tensors.has(name))!)!;
    const size = values.length / shape[0];
    return values.subarray(layer * size, (layer + 1) * size);
  };
  return { mean: rows(MEAN), cov: rows(COV) };
}
