/** Whether a checked request can ever fit this server's memory, and if not, what would. */
import type { BudgetMath } from '../../presses/budget-math.ts';
import { checkPress } from '../../presses/check-press.ts';
import type { Press } from '../../presses/contract.ts';
import { InputError } from '../../presses/input-error.ts';
import type { Backend } from '../backend/backend.ts';
import { formatBytes } from './bytes.ts';
import type { Forward } from './forward.ts';
import type { Job } from './job.ts';
import type { KvCache } from './kv-cache.ts';
import { pressBytes, pressQueries } from './press-bytes.ts';
import { anyPressPages, fittingRatio, requestSize } from './request-size.ts';

export interface RoomParts {
  readonly cache: KvCache;
  readonly forward: Forward;
  readonly backend: Backend;
  readonly math: BudgetMath;
}

export function fits(job: Job, parts: RoomParts, freeBytes: number): boolean {
  return job.size.pagesMost <= parts.cache.pages && readingBytes(job, parts) <= freeBytes;
}

/**
 * Refuses what can never fit (InputError kv_budget_exceeded, HTTP 413). What fits once others are done waits in the queue instead.
 * `freeBytes` is what reading a prompt finds free when nobody else reads one.
 */
export function checkRoom(job: Job, parts: RoomParts, freeBytes: number): void {
  const { size } = job;
  const { cache } = parts;
  if (size.pagesMost > cache.pages) {
    const [needed, pool] = [size.pagesMost * cache.pageBytes, cache.poolBytes];
    const how = job.checked ? `at compression_ratio ${(1 - job.checked.averageBudget / job.covered).toFixed(2)}` : 'without a press';
    throw new InputError(
      'kv_budget_exceeded',
      'press.compression_ratio',
      `the request needs ${formatBytes(needed)} (${needed} bytes) of KV pages ${how}; the pool has ${formatBytes(pool)} (${pool} bytes), of which ${formatBytes(cache.openPages * cache.pageBytes)} are free now; ${whatFits(job, parts)}`,
    );
  }
  const needed = readingBytes(job, parts);
  if (needed > freeBytes) {
    const bare = readingBytes({ ...job, checked: null }, parts);
    const queries = job.checked ? pressQueries(job.checked) : 0;
    const press = needed > bare ? `, ${formatBytes(needed - bare)} of them for the press and the ${queries} queries that it reads` : '';
    const other = bare <= freeBytes ? 'no press would work, perhaps one with a smaller window or fewer in a row; so would ' : '';
    throw new InputError(
      'kv_budget_exceeded',
      'messages',
      `reading ${job.covered} tokens at once needs ${formatBytes(needed)} (${needed} bytes) of activations${press}; ${formatBytes(freeBytes)} (${freeBytes} bytes) are free: ${other}a shorter prompt, a smaller KV pool or a higher memory limit${other ? '' : ' would work'}`,
    );
  }
}

/** Device memory that reading the prompt takes at most, beside what is held all the time: activations, and what its press works with. */
function readingBytes({ covered, checked }: Pick<Job, 'covered' | 'checked'>, { forward, backend, cache: { shape } }: RoomParts): number {
  const pressed = checked !== null && checked.stages.length > 0;
  const queries = pressed ? pressQueries(checked) : 0;
  const scratch = backend.scratchBytes(pressed ? covered : 0, queries, shape);
  return forward.readingBytes(covered, queries) + scratch + (pressed ? pressBytes(checked, shape) : 0);
}

/** The ratio at which the request's own press would fit; any press, where it has none or sets its ratios by layer. */
function whatFits({ tokens, boundary, checked, shape, press, maxTokens }: Job, { cache: { pages, shape: model }, math }: RoomParts): string {
  const last = press.presses.at(-1);
  const ratioOf = (mode: Press['mode']): number | null => {
    if (!checked || !last || last.layerBudget.part.ownRatio) {
      const pressed = { ...shape, coveredTokens: checked?.size.tokens ?? boundary ?? tokens.length }; // the scope that a press would have
      return fittingRatio(pages, (ratio) => anyPressPages(model, pressed, math.keptCount(pressed.coveredTokens, ratio, false)));
    }
    return fittingRatio(pages, (ratio) => {
      const other = { ...last, mode, compressionRatio: ratio, memoryBudgetBytes: null };
      const tried = orRefusal(() => checkPress({ ...press, presses: [...press.presses.slice(0, -1), other] }, checked.size));
      return tried && requestSize(model, { ...shape, checked: tried }).pagesMost;
    });
  };
  const which = press.presses.length > 1 ? ' of the last press' : '';
  const ratio = ratioOf(last?.mode ?? 'streaming');
  if (ratio !== null) return `compression_ratio ${ratio}${which} fits`;
  const streaming = last?.mode === 'deferred' ? ratioOf('streaming') : null;
  if (streaming !== null) return `mode "deferred" stores the whole prompt first; mode "streaming" with compression_ratio ${streaming}${which} fits`;
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
