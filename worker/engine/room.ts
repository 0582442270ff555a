/** Whether a checked request can ever fit this server's memory, and if not, what would. */

import type { BudgetMath } from '../../presses/budget-math.ts';
import { checkPress, type PressReads } from '../../presses/check-press.ts';
import { parsePress } from '../../presses/config.ts';
import type { Press, PressRequest } from '../../presses/contract.ts';
import { InputError } from '../../presses/input-error.ts';
import { uniform } from '../../presses/layer-budgets/uniform.ts';
import { partParam } from '../../presses/part-param.ts';
import { scoresPrompt, scoringBytes } from '../../presses/token-scores.ts';
import type { Backend } from '../backend/backend.ts';
import { formatBytes } from './bytes.ts';
import { recentBytes } from './eviction.ts';
import type { Forward } from './forward.ts';
import { passSize } from './forward-bytes.ts';
import type { Job } from './job.ts';
import type { KvCache } from './kv-cache.ts';
import { type MemoryPlan, toldPlan } from './memory-plan.ts';
import { decodingBytes, NO_READS, pressBytes, pressReads } from './press-bytes.ts';
import { anyPressPages, fittingRatio, requestSize } from './request-size.ts';

export interface RoomParts {
  readonly cache: KvCache;
  readonly forward: Forward;
  readonly backend: Backend;
  readonly math: BudgetMath;
  readonly plan: MemoryPlan;
}

export function fits(job: Job, parts: RoomParts, freeBytes: number): boolean {
  return job.size.pagesMost <= parts.cache.requestPages && mostWorkBytes(job, parts) + recentBytes(job.decoding, parts) <= freeBytes;
}

/**
 * Refuses what can never fit (InputError kv_budget_exceeded, HTTP 413). What fits once others are done waits in the queue instead.
 * `freeBytes` is what reading a prompt finds free when nobody else reads one.
 */
export function checkRoom(job: Job, parts: RoomParts, freeBytes: number): void {
  const { size } = job;
  const { cache } = parts;
  if (size.pagesMost > cache.requestPages) {
    const [needed, pool, settled] = [size.pagesMost * cache.pageBytes, cache.poolBytes, cache.settledBytes];
    const ratio = job.checked
      ? `at compression_ratio ${(1 - (job.checked.averageBudget + (job.added?.rows ?? 0)) / job.covered).toFixed(2)}`
      : 'without a press on the prompt';
    const how = job.held ? 'beside its context' : job.checked || job.decoding ? ratio : 'without a press';
    const { param, advice } = whatFits(job, parts);
    const contexts = settled > 0 ? `, ${formatBytes(settled)} (${settled} bytes) of them taken by held contexts` : '';
    throw new InputError(
      'kv_budget_exceeded',
      param,
      `the request needs ${formatBytes(needed)} (${needed} bytes) of KV pages ${how}; the pool has ${formatBytes(pool)} (${pool} bytes)${contexts}, of which ${formatBytes(cache.openPages * cache.pageBytes)} are free now; ${advice}${settled > 0 && !job.held ? '; so would closing contexts' : ''}${toldPlan(parts.plan)}`,
    );
  }
  const remembered = recentBytes(job.decoding, parts);
  const needed = readingBytes(job, parts) + remembered;
  if (needed > freeBytes) {
    const bare = readingBytes({ ...job, checked: null, decoding: null, passes: [], added: null }, parts);
    const queries = Math.max(job.checked ? pressReads(job.checked).queries : 0, job.decoding?.queries ?? 0);
    const press = needed > bare ? `, ${formatBytes(needed - bare)} of them for the press and the ${queries} queries that it reads` : '';
    const other = bare <= freeBytes ? 'no press would work, perhaps one with a smaller window or fewer in a row; so would ' : '';
    const { longestPrompt } = parts.plan;
    const halves = !job.held && parts.forward.hiddenType === 'f32' ? ', hidden states as f16 (HIDDEN_TYPE, --hidden-type)' : '';
    throw new InputError(
      'kv_budget_exceeded',
      'messages',
      `reading ${job.held ? job.tokens.length - job.held.tokens.length : job.covered} tokens at once needs ${formatBytes(needed)} (${needed} bytes) of activations${press}; ${formatBytes(freeBytes)} (${freeBytes} bytes) are free: ${other}a shorter prompt${job.held || longestPrompt >= job.covered ? '' : ` (${longestPrompt} tokens with a usual press)`}, a smaller KV pool (KV_POOL, or LONGEST_PROMPT)${halves} or a higher memory limit${other ? '' : ' would work'}${toldPlan(parts.plan)}`,
    );
  }
  checkEviction(job, parts, freeBytes);
}

/** The press that acts while decoding must find room for its work too, once the prompt is read. */
function checkEviction(job: Job, parts: RoomParts, freeBytes: number): void {
  const remembered = recentBytes(job.decoding, parts);
  const needed = evictingBytes(job, parts) + remembered;
  if (needed <= freeBytes) return;
  const { press, queries, hidden } = job.decoding!;
  throw new InputError(
    'kv_budget_exceeded',
    `${press.path}.schedule`,
    `compressing ${job.size.entriesMost} entries a head while decoding needs ${formatBytes(needed)} (${needed} bytes), ${formatBytes(remembered)} of them for the last ${hidden === 0 ? `${queries} queries` : `${hidden} hidden states`} of every layer; ${formatBytes(freeBytes)} (${freeBytes} bytes) are free: a smaller target, interval or window, or a higher memory limit would work`,
  );
}

/** Device memory that a request works with at most, reading its prompt or compressing while it decodes: one request at a time does either. */
export function mostWorkBytes(job: Job, parts: RoomParts): number {
  return Math.max(readingBytes(job, parts), evictingBytes(job, parts));
}

function evictingBytes(
  { decoding, size: { entriesMost: rows }, shape: { promptTokens, maxTokens } }: Job,
  { forward, backend, cache }: RoomParts,
): number {
  if (decoding === null) return 0;
  const shape = { ...cache.shape, hiddenSize: forward.hiddenSize };
  const scoring = decoding.hidden === 0 ? 0 : scoringBytes(decoding, shape, decoding.hidden) + backend.scratchBytes(0, 0, cache.shape);
  if (rows === 0) return scoring;
  const longest = Math.min(promptTokens + maxTokens, rows * cache.shape.kvHeads); // of a head, where they are unequal
  const scratch = backend.scratchBytes(decoding.press.headBudget.part.ragged ? longest : rows, decoding.queries, cache.shape);
  return Math.max(scoring, decodingBytes(decoding, shape, rows) + scratch);
}

/** Device memory that a request's press takes at most beside what reading takes anyway: its scratch, and what is kept of every layer for it. */
export function pressWorkBytes(job: Job, parts: RoomParts): number {
  const { decoding } = job;
  const pressed = mostWorkBytes(job, parts) + recentBytes(decoding, parts);
  return pressed - readingBytes({ ...job, checked: null, decoding: null, passes: [], added: null }, parts);
}

/** What is kept of every layer while the prompt is read, for its press and for one that acts while decoding. */
export function promptReads({ covered, checked, decoding }: Pick<Job, 'covered' | 'checked' | 'decoding'>): PressReads {
  const { queries, ...others } = checked ? pressReads(checked) : NO_READS;
  return {
    ...others,
    hidden: others.hidden || scoresPrompt(decoding, checked),
    queries: Math.max(queries, Math.min(covered, decoding?.queries ?? 0)),
  };
}

/** Device memory that reading the prompt takes at most, beside what is held all the time: activations, and what its press works with. */
function readingBytes(
  { covered, checked, held, decoding, passes, added }: Pick<Job, 'covered' | 'checked' | 'held' | 'decoding' | 'passes' | 'added'>,
  { forward, backend, cache }: RoomParts,
): number {
  const { hiddenSize, chunkTokens } = forward;
  const shape = { ...cache.shape, hiddenSize };
  if (held) return forward.readingBytes(0, NO_READS) + backend.scratchBytes(0, 0, shape); // as decoding does, in the buffers that are there
  const size = passSize(passes, added);
  const pressed = checked !== null && checked.stages.length > 0;
  const reads = promptReads({ covered, checked, decoding });
  const scratch = backend.scratchBytes(pressed ? covered + size.longest : 0, reads.queries, shape);
  // A layer is scored for later, then pressed.
  const work = Math.max(
    pressed ? pressBytes(checked, shape, { longest: size.longest, rows: chunkTokens }) : 0,
    scoresPrompt(decoding, checked) ? scoringBytes(decoding!, shape, covered) : 0,
  );
  return forward.readingBytes(covered, reads, size) + scratch + work + (added ? forward.addedBytes(added) : 0);
}

/** An answer of fewer tokens is not worth the name, where nobody said how long it should be. */
const USABLE_TOKENS = 128;

/** The ratio at which the request would fit, as its last press can be told it, or as a press of its own; and the field that this is about. */
function whatFits(job: Job, parts: RoomParts): { param: string; advice: string } {
  if (job.held) return { param: 'max_tokens', advice: 'fewer tokens of question or answer would work, or closing other contexts' };
  const onPrompt = job.press.presses.filter(({ schedule }) => schedule.part.prefill);
  const last = onPrompt.at(-1);
  if (!job.checked || !last || last.layerBudget.part.ownRatio) return whatPressFits(job, parts);
  const param = `${last.path}.${last.memoryBudgetBytes === null ? 'compression_ratio' : 'memory_budget'}`;
  const whose = last === job.press.presses.at(-1) ? 'the last press' : last.path; // a press that acts while decoding may follow
  const where = `${job.press.presses.length > 1 ? ` of ${whose}` : ''} fits`;
  const instead = last.memoryBudgetBytes === null ? '' : ', in place of memory_budget';
  const { part } = last.layerBudget;
  const ways: { readonly press: Press; readonly param: string; readonly first: string }[] = [{ press: last, param, first: '' }];
  if (part.cascades === false) {
    const first = `layer_budget "${part.name}" stores the whole prompt first; one that streams, e.g. "${uniform.name}", with `;
    ways.push({ press: { ...last, mode: 'streaming', layerBudget: { part: uniform, params: {} } }, param: partParam(last, 'layer_budget'), first });
  }
  if (last.mode === 'deferred')
    ways.push({ press: { ...last, mode: 'streaming' }, param, first: 'mode "deferred" stores the whole prompt first; mode "streaming" with ' });
  for (const maxTokens of answerLengths(job)) {
    for (const { press, param, first } of ways) {
      const ratio = ratioOf(job, parts, last, press, maxTokens);
      if (ratio !== null) return { param, advice: `${first}compression_ratio ${ratio}${where}${instead}${answering(job, maxTokens)}` };
    }
  }
  return { param, advice: nothingFits(job) };
}

/** The ratio at which the request would fit with `instead` in place of one of its presses, or null. */
function ratioOf({ checked, shape, press }: Job, { cache }: RoomParts, place: Press, instead: Press, maxTokens: number): number | null {
  return fittingRatio(cache.requestPages, (ratio) => {
    const other = { ...instead, compressionRatio: ratio, memoryBudgetBytes: null };
    const presses = press.presses.map((one) => (one === place ? other : one));
    const tried = orRefusal(() => checkPress({ ...press, presses }, checked!.size));
    return tried && requestSize(cache.shape, { ...shape, maxTokens, checked: tried }).pagesMost;
  });
}

/** For a request without a press, or with one that sets its ratios by layer: the ratio at which any press would fit, and one that does. */
function whatPressFits(job: Job, { cache: { requestPages: pages, shape: model }, math }: RoomParts): { param: string; advice: string } {
  const { tokens, boundary, checked, shape, press } = job;
  const param = 'press';
  const coveredTokens = checked?.size.tokens ?? boundary ?? tokens.length; // the scope that a press would have
  for (const maxTokens of answerLengths(job)) {
    const pressed = { ...shape, coveredTokens, maxTokens };
    const ratio = fittingRatio(pages, (r) => anyPressPages(model, pressed, math.keptCount(coveredTokens, r, false)));
    if (ratio === null) continue;
    const works = (preset: string) =>
      orRefusal(() => checkPress(parsePress({ preset, compression_ratio: ratio }), { tokens: coveredTokens, ...model, math })) !== null;
    const preset = ['zigzag_snapkv', 'knorm'].find(works);
    const example = preset && `, e.g. {"preset": "${preset}", "compression_ratio": ${ratio}${alsoSaid(press)}}`;
    return { param, advice: `a press with compression_ratio ${ratio} fits${answering(job, maxTokens)}${example ?? ''}` };
  }
  return { param, advice: nothingFits(job) };
}

function alsoSaid({ entryType }: PressRequest): string {
  return entryType === null ? '' : `, "entry_type": "${entryType}"`;
}

/** The lengths of answer to look for a ratio with: the one asked for; else those that a request without max_tokens gets, a usable one first. */
function answerLengths({ maxTokens, defaultTokens }: Job): number[] {
  if (defaultTokens === null) return [maxTokens];
  let length = defaultTokens;
  while (Math.floor(length / 2) >= USABLE_TOKENS) length = Math.floor(length / 2);
  const lengths = [length];
  while (length > 1) lengths.push((length = Math.floor(length / 2)));
  return lengths;
}

function answering({ defaultTokens }: Job, maxTokens: number): string {
  return defaultTokens === null ? '' : `, with room for ${maxTokens} tokens of answer`;
}

function nothingFits({ maxTokens }: Job): string {
  return `no compression_ratio fits: the tokens after the pressed part and max_tokens ${maxTokens} alone are too many`;
}

/** What `run` returns, or null where it refuses its input. */
function orRefusal<T>(run: () => T): T | null {
  try {
    return run();
  } catch (error) {
    if (error instanceof InputError) return null;
    throw error;
  }
}
