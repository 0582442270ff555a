/** Small artefacts of random numbers, one for every part that reads one, for a model of any shape. */
import type { z } from 'zod';
import type { ArtifactModel, ArtifactOf } from '../../presses/artifacts.ts';
import type { PartInfo, PressRequest } from '../../presses/contract.ts';
import { FAMILIES, partList, presetParts, presets } from '../../presses/presets.ts';
import { Artifacts, GIVEN } from '../../worker/engine/artifacts.ts';
import { writeSafetensors } from '../../worker/engine/weights/safetensors.ts';
import { filesOfBytes } from '../../worker/engine/weights/source.ts';
import { Random } from './random.ts';

export type TensorNumbers = Readonly<Record<string, { readonly shape: readonly number[]; readonly values: Float32Array }>>;

export function jsonFile(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

/** Files by name. */
export function testArtifacts(
  { layers: L, queryHeads: Hq, kvHeads: H, headDim: d, hiddenSize: D, intermediateSize: I }: ArtifactModel,
  seed = 7,
): Record<string, Uint8Array> {
  const random = new Random(seed);
  const normal = (shape: readonly number[], scale = 1) => ({
    shape,
    values: random.normals(
      shape.reduce((a, b) => a * b, 1),
      scale,
    ),
  });
  const perLayer = (make: () => Record<string, ReturnType<typeof normal>>): TensorNumbers =>
    Object.fromEntries(Array.from({ length: L }, (_, l) => Object.entries(make()).map(([part, tensor]) => [`layers.${l}.${part}`, tensor])).flat());
  const root = random.normals(L * Hq * d * d, 1 / Math.sqrt(d));
  const cov = new Float32Array(L * Hq * d * d);
  for (let block = 0; block < L * Hq; block++) {
    for (let a = 0; a < d; a++)
      for (let b = 0; b < d; b++)
        for (let c = 0; c < d; c++) cov[(block * d + a) * d + b] += root[(block * d + a) * d + c] * root[(block * d + b) * d + c];
  }
  const scale = 1 / Math.sqrt(D);
  const pruned = Float32Array.from({ length: 99 * L * H }, (_, i) =>
    Math.min(1, Math.max(0, (Math.floor(i / (L * H)) + 1) / 100 + 0.3 * (random.next() - 0.5))),
  );
  return {
    'qfilter.safetensors': writeSafetensors({ filters: normal([L, H, d]) }),
    'statistics.safetensors': writeSafetensors({ mean: normal([L, Hq, d]), cov: { shape: [L, Hq, d, d], values: cov } }),
    'kvzap-linear.safetensors': writeSafetensors(perLayer(() => ({ weight: normal([H, D], scale), bias: normal([H]) }))),
    'kvzap-mlp.safetensors': writeSafetensors(
      perLayer(() => ({
        'up.weight': normal([12, D], scale),
        'up.bias': normal([12]),
        'down.weight': normal([H, 12], 0.3),
        'down.bias': normal([H]),
      })),
    ),
    'fastkvzip.safetensors': writeSafetensors(
      perLayer(() => ({
        'q_proj.weight': normal([Hq * 8, D], scale),
        'q_proj.bias': normal([Hq * 8]),
        'k_proj.weight': normal([H * 8, D], scale),
        'q_norm.weight': normal([8]),
        'k_norm.weight': normal([8]),
        k_base: normal([H, 1, 5, 8]),
        b: normal([H, 1, Hq / H]),
      })),
    ),
    'curves.safetensors': writeSafetensors({ curves: { shape: [99, L, H], values: pruned } }),
    'duo.json': jsonFile({ sink: 3, recent: 9, scores: Array.from({ length: L }, () => Array.from({ length: H }, () => random.next())) }),
    'duo-on-the-fly.json': jsonFile({ sink: 2, recent: 7, scores: Array.from({ length: L }, () => Array.from({ length: H }, () => random.next())) }),
    'restore.safetensors': writeSafetensors(restoreTensors({ L, D, I, query: Hq * d, key: H * d }, normal)),
  };
}

type Normal = (shape: readonly number[], scale?: number) => TensorNumbers[string];

/** Every projection of every layer adapted, in PEFT's names; ranks that are no multiple of four among them. */
function restoreTensors(
  { L, D, I, query, key }: { L: number; D: number; I: number; query: number; key: number },
  normal: Normal,
): Record<string, TensorNumbers[string]> {
  const tensors: Record<string, TensorNumbers[string]> = {
    restore_embeddings: normal([8, D], 0.5),
    scaling: { shape: [1], values: Float32Array.of(2) },
  };
  const features = {
    'self_attn.q_proj': [D, query, 4],
    'self_attn.k_proj': [D, key, 4],
    'self_attn.v_proj': [D, key, 3],
    'self_attn.o_proj': [query, D, 4],
    'mlp.gate_proj': [D, I, 4],
    'mlp.up_proj': [D, I, 5],
    'mlp.down_proj': [I, D, 4],
  };
  for (let l = 0; l < L; l++) {
    for (const [name, [into, out, rank]] of Object.entries(features)) {
      const path = `base_model.model.model.layers.${l}.${name}`;
      tensors[`${path}.lora_A.weight`] = normal([rank, into], 1 / Math.sqrt(into));
      tensors[`${path}.lora_B.weight`] = normal([out, rank], 0.2);
    }
  }
  return tensors;
}

/** Which of the files a part is given. */
const FILES: Readonly<Record<string, string>> = {
  qfilter: 'qfilter.safetensors',
  kvzap: 'kvzap-mlp.safetensors',
  fastkvzip: 'fastkvzip.safetensors',
  curves: 'curves.safetensors',
  duo: 'duo.json',
  sink_recent: 'duo.json',
  restore: 'restore.safetensors',
};

/** The parameter that a part cannot do without: its file, or a threshold. */
export function artifactParams({ name, artifact, params }: PartInfo<z.ZodObject>): Record<string, unknown> {
  if (name === 'threshold') return { threshold: 0 };
  if (artifact === undefined || params.safeParse({}).success) return {};
  if (!(name in FILES)) throw new Error(`test/support/artifacts.ts has no file for "${name}"`);
  return { [artifact.param]: FILES[name] };
}

/** What a preset's parts cannot do without. */
export function presetArtifacts(preset: string): Record<string, unknown> {
  const parts = presetParts(preset);
  return parts === null ? {} : Object.assign({}, ...partList(parts).map(artifactParams));
}

/** A preset with the files that it cannot do without. */
export function withArtifacts(preset: string): { preset: string } & Record<string, unknown> {
  return { preset, ...presetArtifacts(preset) };
}

/** Its scorer draws lots: without a seed every request keeps other tokens. */
export function drawsLots(preset: string): boolean {
  const params = presetParts(preset)?.scorer.params.shape ?? {};
  return 'seed' in params && !('use_random_leverage' in params); // CUR draws where it is asked to
}

/** Presets but for the families of layer budgets, of which those of zigzag and of snapkv stand for all: test/grid.test.ts pairs every scorer with every layer budget. */
export const shownPresets: readonly string[] = Object.keys(presets).filter((name) => {
  const family = FAMILIES.find((budget) => name.startsWith(`${budget}_`));
  return family === undefined || family === 'zigzag' || name.endsWith('_snapkv');
});

/** Of these, the ones that take a compression_ratio: all but no_press, those whose parts settle by themselves how much is kept, those that remove nothing, and those that leave the prompt as it is. */
export const ratioPresets: readonly string[] = shownPresets.flatMap((name) => {
  const parts = presetParts(name);
  const { params = {} } = { params: {}, ...presets[name] };
  const takes =
    parts?.schedule.prefill === true && !('compression_ratio' in params) && partList(parts).every(({ decidesTotal }) => decidesTotal === undefined);
  return takes ? [name] : [];
});

/** Of these, the ones that need no file. */
export const plainPresets: readonly string[] = ratioPresets.filter((name) => Object.keys(presetArtifacts(name)).length === 0);

/** What an engine would have read before the request is checked. */
export async function artifactsOf(request: PressRequest, model: ArtifactModel): Promise<ArtifactOf> {
  return new Artifacts({ files: filesOfBytes(testArtifacts(model)), where: GIVEN }, model).of(request);
}
