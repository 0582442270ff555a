/** Every part that can be named in a press config. Adding one = one file, one line here. */
import type { HeadBudget, LayerBudget, Schedule, Scorer, Selection, Transform } from './contract.ts';
import { adakv } from './head-budgets/adakv.ts';
import { criticalAdakv } from './head-budgets/critical-adakv.ts';
import { curves as curveHeads } from './head-budgets/curves.ts';
import { duo } from './head-budgets/duo.ts';
import { uniform as uniformHeads } from './head-budgets/uniform.ts';
import { cake as cakeLayers } from './layer-budgets/cake.ts';
import { composite } from './layer-budgets/composite.ts';
import { curves as curveLayers } from './layer-budgets/curves.ts';
import { dynamickv } from './layer-budgets/dynamickv.ts';
import { global } from './layer-budgets/global.ts';
import { lava as lavaLayers } from './layer-budgets/lava.ts';
import { lazy } from './layer-budgets/lazy.ts';
import { perLayer } from './layer-budgets/per-layer.ts';
import { pyramid } from './layer-budgets/pyramid.ts';
import { squeeze } from './layer-budgets/squeeze.ts';
import { uniform as uniformLayers } from './layer-budgets/uniform.ts';
import { zigzag } from './layer-budgets/zigzag.ts';
import { zigzagShuffled } from './layer-budgets/zigzag-shuffled.ts';
import { decoding } from './schedules/decoding.ts';
import { prefill } from './schedules/prefill.ts';
import { prefillAndDecoding } from './schedules/prefill-and-decoding.ts';
import { cake } from './scorers/cake.ts';
import { cap } from './scorers/cap.ts';
import { compactor } from './scorers/compactor.ts';
import { cur } from './scorers/cur.ts';
import { expectedAttention } from './scorers/expected-attention.ts';
import { fastkvzip } from './scorers/fastkvzip.ts';
import { finch } from './scorers/finch.ts';
import { keydiff } from './scorers/keydiff.ts';
import { knorm } from './scorers/knorm.ts';
import { kvcompose } from './scorers/kvcompose.ts';
import { kvzap } from './scorers/kvzap.ts';
import { kvzip } from './scorers/kvzip.ts';
import { lagkv } from './scorers/lagkv.ts';
import { lava } from './scorers/lava.ts';
import { leverage } from './scorers/leverage.ts';
import { nonCausal } from './scorers/non-causal.ts';
import { observedAttention } from './scorers/observed-attention.ts';
import { qfilter } from './scorers/qfilter.ts';
import { random } from './scorers/random.ts';
import { sinkRecent } from './scorers/sink-recent.ts';
import { snapkv } from './scorers/snapkv.ts';
import { streamingLlm } from './scorers/streaming-llm.ts';
import { tova } from './scorers/tova.ts';
import { blocks } from './selections/blocks.ts';
import { chunks } from './selections/chunks.ts';
import { scoreSegments } from './selections/score-segments.ts';
import { segments } from './selections/segments.ts';
import { threshold } from './selections/threshold.ts';
import { topK } from './selections/top-k.ts';
import { twoStage } from './selections/two-stage.ts';
import { cam } from './transforms/cam.ts';
import { merge } from './transforms/merge.ts';
import { rerotate } from './transforms/rerotate.ts';
import { restore } from './transforms/restore.ts';
import { think } from './transforms/think.ts';

export const scorers = {
  random,
  knorm,
  streaming_llm: streamingLlm,
  tova,
  snapkv,
  keydiff,
  cur,
  lagkv,
  qfilter,
  kvzap,
  fastkvzip,
  sink_recent: sinkRecent,
  observed_attention: observedAttention,
  non_causal: nonCausal,
  finch,
  kvzip,
  kvcompose,
  expected_attention: expectedAttention,
  cap,
  leverage,
  compactor,
  cake,
  lava,
} satisfies Record<string, Scorer>;

export const layerBudgets = {
  uniform: uniformLayers,
  pyramid,
  per_layer: perLayer,
  lazy,
  zigzag,
  zigzag_shuffled: zigzagShuffled,
  global,
  composite,
  curves: curveLayers,
  cake: cakeLayers,
  lava: lavaLayers,
  dynamickv,
  squeeze,
} satisfies Record<string, LayerBudget>;

export const headBudgets = {
  uniform: uniformHeads,
  adakv,
  critical_adakv: criticalAdakv,
  duo,
  curves: curveHeads,
} satisfies Record<string, HeadBudget>;

export const selections = {
  top_k: topK,
  chunks,
  segments,
  score_segments: scoreSegments,
  blocks,
  threshold,
  two_stage: twoStage,
} satisfies Record<string, Selection>;

export const transforms = {
  cam,
  rerotate,
  merge,
  think,
  restore,
} satisfies Record<string, Transform>;

export const schedules = {
  prefill,
  decoding,
  prefill_and_decoding: prefillAndDecoding,
} satisfies Record<string, Schedule>;
