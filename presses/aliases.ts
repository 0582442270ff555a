/** What presets and fields are called elsewhere: in papers, in kvpress, in other libraries. For hints alone: none of these names is taken. */

/** What would be right, for a name that is no preset; keys as `plainName` has them. */
export const PRESETS: Readonly<Record<string, string>> = {
  h2o: 'its score is "observed_attention"',
  heavyhitter: 'its score is "observed_attention"',
  dms: 'its rule is selection "threshold": {"scorer": "knorm", "selection": {"name": "threshold", "threshold": -20}}',
  uniform: 'every press is uniform unless it says otherwise; name a scorer, such as "snapkv"',
  full: '"no_press" keeps everything',
  fullcache: '"no_press" keeps everything',
  none: '"no_press" keeps everything',
  off: '"no_press" keeps everything',
  ada: 'heads that share by score are "adakv_snapkv", and others that begin with "adakv_"',
  l2: 'the norm of keys is "knorm"',
  l2norm: 'the norm of keys is "knorm"',
  sink: 'first and most recent tokens are "streaming_llm"',
  attentionsink: 'first and most recent tokens are "streaming_llm"',
  slidingwindow: 'first and most recent tokens are "streaming_llm"',
  curdkv: 'its score is "cur"',
  capkv: 'its score is {"scorer": "cap"}',
  leveragescore: 'its score is {"scorer": "leverage"}',
  noncausalattention: 'its score is {"scorer": "non_causal"}',
  criticalkv: 'its two stages are "critical_snapkv", and others that begin with "critical_"',
  layerkv: 'layers with different budgets are "zigzag_snapkv", "pyramidkv" or "cake"',
  quest: 'it chooses what is read and frees nothing, so it is no press; "snapkv" goes by queries too',
  minference: 'it makes reading the prompt cheaper and frees nothing, so it is no press; "snapkv" goes by queries too',
};

/** The field that is meant; the caller may not have it, and then nothing is said. */
const FIELDS: Readonly<Record<string, string>> = {
  ratio: 'compression_ratio',
  compression: 'compression_ratio',
  sparsity: 'compression_ratio',
  window: 'window_size',
  budget: 'memory_budget',
  memory: 'memory_budget',
  sinks: 'n_sink',
  compressioninterval: 'interval',
  quantization: 'entry_type',
  dtype: 'entry_type',
};

/** Fields of kvpress that have no counterpart, and what to do. */
const LEFT_OUT: Readonly<Record<string, string>> = {
  delimitertokenstr: 'the question is the last window_size tokens of what is pressed; give their number, with "scope": "prompt"',
  press: 'a press holds no other; name a preset, spell out its parts, or give a list of presses, applied in order',
};

export function leftOut(field: string): string | null {
  const plain = plainName(field);
  return Object.hasOwn(LEFT_OUT, plain) ? LEFT_OUT[plain] : null;
}

/** Without case, word breaks and kvpress's ending: "SnapKVPress" is snapkv, "KVzip+" is kvzipplus. */
export function plainName(name: string): string {
  const plain = name
    .toLowerCase()
    .replaceAll('+', 'plus')
    .replace(/[^a-z0-9]/g, '');
  return plain.replace(/(?<=..)press$/, '');
}

export function presetElsewhere(name: string): string | null {
  const plain = plainName(name);
  return Object.hasOwn(PRESETS, plain) ? PRESETS[plain] : null;
}

export function fieldElsewhere(field: string, known: readonly string[]): string | null {
  const plain = plainName(field);
  return Object.hasOwn(FIELDS, plain) && known.includes(FIELDS[plain]) ? FIELDS[plain] : null;
}
