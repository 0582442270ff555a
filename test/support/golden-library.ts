/** Our config for every entry of test/golden/library, and where our parts for it are not there yet. test/golden-library.test.ts holds one against the other. */
import type { PressRequest, RankContext, Ranked } from '../../presses/contract.ts';
import { at } from '../../worker/backend/backend.ts';

/** test/golden/README.md says what is in it. */
export interface Library {
  context_ids: number[];
  suffix_ids: number[];
  shape: [layers: number, heads: number, tokens: number];
  settings: {
    finch_window: number;
    per_layer_ratios: number[];
    lazy_threshold: [number, number];
    dms_threshold: number;
    target_size: number;
    cam_uniform: number;
    /** In which tokens KVzip asks. */
    kvzip: { prefix_tokens: number; repeat_prompt: number[]; repeat_answer_start: number[] };
  };
  entries: Record<string, LibraryRun[]>;
  decoding: Record<string, DecodingRun>;
}

export interface LibraryRun {
  ratio: number | null;
  scores?: number; // offset in bytes
  kept: string; // base64 of bits [layers, heads, ceil(tokens / 8)]
  next_position?: number;
  generated: number[];
  margins: number[];
}

export interface DecodingRun {
  compressions: { tokens: number; kept: string }[];
  generated: number[];
  margins: number[];
}

/** What a config may depend on beside the ratio. */
interface Given {
  readonly settings: Library['settings'];
}

type Config = (given: Given) => Record<string, unknown>;
type DecodingConfig = (given: Given) => unknown;

const preset =
  (name: string, params: object = {}): Config =>
  () => ({ preset: name, ...params });
const scorer =
  (name: string, params: object = {}, rest: object = {}): Config =>
  () => ({ scorer: { name, ...params }, ...rest });
/** A scorer with a trained artefact. */
const trained =
  (name: string, file: string, params: object = {}, rest: object = {}): Config =>
  () => ({ scorer: { name, artifact: file, ...params }, ...rest });

const sketched = { name: 'leverage', sketch_dimension: 12 };
const bareEa = { use_vnorm: false };
const twoStage = { name: 'two_stage', first_stage_ratio: 0.5, second_stage_epsilon: 1e-4 };
const perHead = { name: 'adakv', alpha_safeguard: 0 };
/** KVzip's cut: the lowest entries of all layers and heads together. */
const global = { layer_budget: 'global', head_budget: perHead };

/** Entry -> our config, without the ratio and "compat". */
export const CONFIGS: Record<string, Config> = {
  knorm: preset('knorm'),
  random: preset('random', { seed: 7 }),
  streaming_llm: preset('streaming_llm'),
  'streaming_llm-sink9': preset('streaming_llm', { n_sink: 9 }),
  keydiff: preset('keydiff'),
  tova: preset('tova'),
  snapkv: preset('snapkv'),
  'snapkv-w32-k7': preset('snapkv', { window_size: 32, kernel_size: 7 }),
  pyramidkv: preset('pyramidkv'),
  'pyramidkv-w16-beta8': preset('pyramidkv', { window_size: 16, beta: 8 }),
  cur: preset('cur'),
  ...Object.fromEntries(
    ['key', 'value', 'kv_avg', 'kv_product'].map((kind) => [
      `cur-${kind}`,
      preset('cur', { leverage_type: kind, use_local_approximation: false, num_sinks: 2 }),
    ]),
  ),
  'cur-local9': preset('cur', { leverage_type: 'kv_avg', local_window_size: 9 }),
  'cur-random': preset('cur', { use_random_leverage: true, seed: 7 }),
  lagkv: preset('lagkv'),
  'lagkv-cross': preset('lagkv', { cross_scoring: true }),
  'lagkv-lag48': preset('lagkv', { n_sink: 7, lag_size: 48, cross_scoring: true }),
  observed_attention: preset('observed_attention'),
  ea: scorer('expected_attention'),
  'ea-mean': scorer('expected_attention', { use_covariance: false }),
  'ea-no-vnorm': scorer('expected_attention', { use_vnorm: false }),
  'ea-future64-sink9': scorer('expected_attention', { n_future_positions: 64, n_sink: 9, epsilon: 0.02 }),
  expected_attention: preset('expected_attention'),
  'ea-statistics': trained('expected_attention', 'statistics.safetensors'),
  'ea-statistics-mean': trained('expected_attention', 'statistics.safetensors', { use_covariance: false, n_future_positions: 100 }),
  non_causal: scorer('non_causal'),
  'non_causal-chunk100': scorer('non_causal', { chunk_size: 100 }),
  leverage: trained('leverage', 'sketch.safetensors'),
  'leverage-12': trained('leverage', 'sketch-12.safetensors', { sketch_dimension: 12 }),
  compactor: trained('compactor', 'sketch.safetensors'),
  'compactor-blend': trained('compactor', 'sketch-12.safetensors', {
    sink_size_start: 5,
    sink_size_end: 3,
    chunk_size: 64,
    sketch_dimension: sketched.sketch_dimension,
    blending: 0.35,
  }),
  adakv_compactor: trained('compactor', 'sketch.safetensors', {}, { head_budget: 'adakv' }),
  cap: scorer('cap'),
  'cap-tau2': scorer('cap', { tau: 2, n_future_positions: 100, n_sink: 6, epsilon: 1e-3 }),
  qfilter: trained('qfilter', 'qfilter.safetensors'),
  'kvzap-linear': trained('kvzap', 'kvzap-linear.safetensors'),
  'kvzap-mlp': trained('kvzap', 'kvzap-mlp.safetensors'),
  kvzap_mlp_layer: trained('kvzap', 'kvzap-mlp.safetensors', {}, { head_budget: 'adakv' }),
  critical_snapkv: preset('critical_snapkv'),
  'critical_snapkv-first30': scorer('snapkv', {}, { selection: { name: 'two_stage', first_stage_ratio: 0.3, second_stage_epsilon: 1e-2 } }),
  critical_expected_attention: scorer('expected_attention', bareEa, { selection: twoStage }),
  adakv_snapkv: preset('adakv_snapkv'),
  'adakv_snapkv-alpha50': preset('adakv_snapkv', { alpha_safeguard: 0.5 }),
  critical_adakv_snapkv: preset('critical_adakv_snapkv'),
  critical_adakv_expected_attention: scorer('expected_attention', bareEa, { head_budget: 'critical_adakv', selection: twoStage }),
  'critical_adakv-alpha40': scorer(
    'snapkv',
    {},
    {
      head_budget: { name: 'critical_adakv', alpha_safeguard: 0.4 },
      selection: { name: 'two_stage', first_stage_ratio: 0.3, second_stage_epsilon: 1e-2 },
    },
  ),
  rerotate_knorm: scorer('knorm', {}, { transforms: ['rerotate'] }),
  rerotate_snapkv: scorer('snapkv', {}, { transforms: ['rerotate'] }),
  finch: ({ settings }) => ({ scorer: { name: 'finch', window_size: settings.finch_window }, transforms: ['rerotate'] }),
  'finch-no-rerotation': ({ settings }) => ({ scorer: { name: 'finch', window_size: settings.finch_window } }),
  'finch-not-normalised': ({ settings }) => ({
    scorer: { name: 'finch', window_size: settings.finch_window, normalize_scores: false },
    transforms: ['rerotate'],
  }),
  'finch-chunks': ({ settings }) => ({
    scorer: { name: 'finch', window_size: settings.finch_window },
    selection: { name: 'score_segments', segment_length: 100 },
    transforms: ['rerotate'],
  }),
  segments_knorm: scorer('knorm', {}, { selection: { name: 'segments', segment_length: 100 } }),
  segments_keydiff: scorer('keydiff', {}, { selection: { name: 'segments', segment_length: 100 } }),
  chunkkv: preset('chunkkv'),
  'chunkkv_knorm-7': scorer('knorm', {}, { selection: { name: 'chunks', chunk_length: 7 } }),
  block_keydiff: preset('block_keydiff'),
  'block_keydiff-16': scorer('keydiff', {}, { selection: { name: 'blocks', block_size: 16 } }),
  block_knorm: scorer('knorm', {}, { selection: { name: 'blocks', block_size: 64 } }),
  per_layer_knorm: ({ settings }) => ({
    scorer: 'knorm',
    layer_budget: { name: 'per_layer', compression_ratios: settings.per_layer_ratios },
  }),
  merging_knorm: preset('merging_knorm'),
  merging_snapkv: preset('merging_snapkv'),
  merging_expected_attention: preset('merging_expected_attention'),
  merging_kvzap_mlp: trained('kvzap', 'kvzap-mlp.safetensors', {}, { transforms: ['merge'] }),
  'merging_knorm-threshold': scorer('knorm', {}, { transforms: [{ name: 'merge', similarity_threshold: 0.6 }] }),
  'merging_snapkv-fraction': scorer('snapkv', {}, { transforms: [{ name: 'merge', merge_fraction: 0.6 }] }),
  // ThinK's ratio is one of channels: withRatio() below puts it where it belongs
  think: preset('think'),
  'think-w8': scorer('knorm', {}, { compression_ratio: 0, transforms: [{ name: 'think', think_window_size: 8 }] }),
  snap_think: preset('snap_think'),
  lazy: ({ settings }) => ({
    scorer: 'streaming_llm',
    layer_budget: { name: 'lazy', lazy_threshold: settings.lazy_threshold[0], n_last: 1, n_recent: 100, n_initial: 4 },
  }),
  'lazy-last3': ({ settings }) => ({
    scorer: { name: 'streaming_llm', n_sink: 8 },
    layer_budget: { name: 'lazy', lazy_threshold: settings.lazy_threshold[1], n_last: 3, n_recent: 60, n_initial: 8 },
  }),
  duo: () => ({ scorer: { name: 'sink_recent', artifact: 'duo.json' }, head_budget: { name: 'duo', artifact: 'duo.json' } }),
  lukv: () => ({
    scorer: { name: 'expected_attention', epsilon: 2e-2 },
    layer_budget: { name: 'curves', curves: 'curves.safetensors' },
    head_budget: { name: 'curves', curves: 'curves.safetensors' },
    selection: { name: 'top_k', protect_first: 4, protect_last: 1 },
  }),
  lukv_snapkv: () => ({
    scorer: 'snapkv',
    layer_budget: { name: 'curves', curves: 'curves.safetensors' },
    head_budget: { name: 'curves', curves: 'curves.safetensors' },
    selection: { name: 'top_k', protect_first: 2, protect_last: 12 },
  }),
  dms_knorm: ({ settings }) => ({
    scorer: 'knorm',
    selection: { name: 'threshold', threshold: settings.dms_threshold, sliding_window_size: 64 },
  }),
  kvzap_linear: trained('kvzap', 'kvzap-linear.safetensors', {}, { selection: { name: 'threshold', threshold: 0.1 } }),
  kvzap_mlp: trained('kvzap', 'kvzap-mlp.safetensors', {}, { selection: { name: 'threshold', threshold: 0.1, sliding_window_size: 40 } }),
  kvzip: ({ settings }) => ({ preset: 'kvzip', ...settings.kvzip }),
  'kvzip-layerwise': ({ settings }) => ({ preset: 'kvzip', ...settings.kvzip, n_sink: 6, layerwise: true }),
  kvzip_plus: ({ settings }) => ({ preset: 'kvzip_plus', ...settings.kvzip }),
  fastkvzip: trained('fastkvzip', 'fastkvzip.safetensors', {}, global),
  'fastkvzip-layerwise': trained(
    'fastkvzip',
    'fastkvzip.safetensors',
    { n_sink: 7, window_ratio: 0.1 },
    { layer_budget: { name: 'global', layerwise: true }, head_budget: perHead },
  ),
  kvcompose: preset('kvcompose'),
  'kvcompose-mean': scorer(
    'kvcompose',
    { agg_task: 'mean', agg_group: 'max' },
    { layer_budget: { name: 'composite', agg_head: 'max', keep_token_lower_bound: 10 } },
  ),
  kvcompose_unstructured: preset('kvcompose_unstructured'),
  'kvcompose_unstructured-plain': scorer('kvcompose', { add_mean_across_heads: false }, global),
};

const decoding =
  (scorer: unknown): Config =>
  ({ settings }) => ({ scorer, schedule: { name: 'decoding', interval: 8, target_size: settings.target_size } });

/** The same for what is compressed while tokens are generated. */
export const DECODING: Record<string, DecodingConfig> = {
  decoding_knorm: decoding('knorm'),
  decoding_streaming_llm: decoding('streaming_llm'),
  decoding_keydiff: decoding('keydiff'),
  decoding_tova: decoding('tova'),
  decoding_snapkv: decoding({ name: 'snapkv', window_size: 4 }),
  decoding_qfilter: ({ settings }) => decoding({ name: 'qfilter', artifact: 'qfilter.safetensors' })({ settings }),
  decoding_adakv_snapkv: ({ settings }) => ({ ...decoding({ name: 'snapkv', window_size: 4 })({ settings }), head_budget: 'adakv' }),
  decoding_adakv_expected_attention: ({ settings }) => ({
    ...decoding({ name: 'expected_attention', epsilon: 1e-2 })({ settings }),
    head_budget: 'adakv',
  }),
  decoding_ratio_knorm: () => ({ scorer: 'knorm', schedule: { name: 'decoding', interval: 8, target_compression_ratio: 0.6 } }),
  prefill_decoding: (given) => [{ scorer: 'snapkv', compression_ratio: 0.3, compat: 'kvpress' }, decoding('knorm')(given)],
  dms_decoding: ({ settings }) => ({
    scorer: 'knorm',
    selection: { name: 'threshold', threshold: settings.dms_threshold, sliding_window_size: 16 },
    schedule: { name: 'prefill_and_decoding', interval: 1 }, // DMS judges after every token
  }),
  dms_decoding_kvzap: () => ({
    scorer: { name: 'kvzap', artifact: 'kvzap-mlp.safetensors' },
    selection: { name: 'threshold', threshold: 0.1, sliding_window_size: 16 },
    schedule: { name: 'prefill_and_decoding', interval: 1 },
  }),
  cam_knorm: (given) => ({ ...decoding('knorm')(given), transforms: [{ name: 'cam', merge_budget: 4 }] }),
  cam_streaming_llm: (given) => ({ ...decoding('streaming_llm')(given), transforms: ['cam'] }),
  cam_keydiff: (given) => ({ ...decoding('keydiff')(given), transforms: [{ name: 'cam', merge_budget: 4 }] }),
  cam_tova: (given) => ({ ...decoding('tova')(given), transforms: ['cam'] }),
};

/** The ratio where our config has it. */
export function withRatio(name: string, config: Record<string, unknown>, ratio: number | null): Record<string, unknown> {
  if (ratio === null) return config;
  if (name === 'think') return { ...config, key_channel_compression_ratio: ratio };
  if (name === 'think-w8') {
    const [think] = config.transforms as object[];
    return { ...config, transforms: [{ ...think, key_channel_compression_ratio: ratio }] };
  }
  if (name === 'snap_think') return { ...config, compression_ratio: ratio, key_channel_compression_ratio: ratio };
  if (name === 'duo') return { ...config, head_budget: { ...(config.head_budget as object), head_compression_ratio: ratio } };
  return { ...config, compression_ratio: ratio };
}

/** [layer][head] ascending positions. */
export function unpack(bits: string, [layers, heads]: readonly number[], tokens: number): number[][][] {
  const bytes = Buffer.from(bits, 'base64');
  const width = Math.ceil(tokens / 8);
  if (bytes.length !== layers * heads * width) throw new Error(`${bytes.length} bytes for ${layers} x ${heads} x ${width}`);
  return Array.from({ length: layers }, (_, l) =>
    Array.from({ length: heads }, (_, h) => {
      const start = (l * heads + h) * width;
      return Array.from({ length: tokens }, (_, t) => t).filter((t) => bytes[start + (t >> 3)] & (1 << (t & 7)));
    }),
  );
}

/** A selection that keeps what is written down: for continuations where a tie leaves the choice open. */
export async function givenRank(
  { backend, scratch, n, shape, count, layer }: RankContext,
  scores: Ranked['scores'],
  kept: number[][][],
): Promise<Ranked> {
  const order = scratch(shape.kvHeads * count * 4, 'given order');
  const rows = new Uint32Array(shape.kvHeads * count);
  for (const [h, positions] of kept[layer].entries()) {
    const chosen = new Set(positions);
    const rest = Array.from({ length: n }, (_, t) => t).filter((t) => !chosen.has(t));
    rows.set([...positions, ...rest].slice(0, count), h * count);
  }
  backend.write(at(order, 0), rows);
  return { scores, order };
}

/** The same press, but what its first element keeps is `kept`, [layer][head] -> positions. */
export function keeping({ presses: [{ selection, ...press }, ...others], ...request }: PressRequest, kept: number[][][]): PressRequest {
  const rank: typeof selection.part.rank = async (context, params) => givenRank(context, (await selection.part.rank(context, params)).scores, kept);
  const counts = ({ index }: { index: number }): number[] => kept[index].map((head) => head.length);
  return { ...request, presses: [{ ...press, selection: { ...selection, part: { ...selection.part, rank, counts } } }, ...others] };
}
