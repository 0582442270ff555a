/** Whether a checked request can ever fit this server's memory, and if not, what would. */
import { checkPress } from '../../presses/check-press.ts';
import type { Press } from '../../presses/contract.ts';
import { InputError } from '../../presses/input-error.ts';
import { formatBytes } from './bytes.ts';
import type { Forward } from './forward.ts';
import type { Job } from './job.ts';
import type { KvCache, KvShape } from './kv-cache.ts';
import { anyPressPages, fittingRatio, requestSize } from './request-size.ts';

/** The largest observation window that admission assumes; a press that asks for more takes it from the same memory. */
const MOST_WINDOW = 256;

/**
 * Refuses what can never fit (InputError kv_budget_exceeded, HTTP 413). What fits once others are done waits in the queue instead.
 * `freeBytes` is what reading a prompt finds free when nobody else reads one.
 */
export function checkRoom(job: Job, cache: KvCache, forward: Forward, freeBytes: number): void {
  const { size } = job;
  if (size.pagesMost > cache.pages) {
    const [needed, pool] = [size.pagesMost * cache.pageBytes, cache.poolBytes];
    const how = job.checked ? `at compression_ratio ${(1 - job.checked.averageBudget / job.covered).toFixed(2)}` : 'without a press';
    throw new InputError(
      'kv_budget_exceeded',
      'press.compression_ratio',
      `the request needs ${formatBytes(needed)} (${needed} bytes) of KV pages ${how}; the pool has ${formatBytes(pool)} (${pool} bytes), of which ${formatBytes(cache.openPages * cache.pageBytes)} are free now; ${whatFits(job, cache)}`,
    );
  }
  const scratch = forward.prefillBytes(job.covered, Math.min(job.covered, MOST_WINDOW)) + pressScratchBytes(cache.shape, job.covered);
  if (scratch > freeBytes) {
    throw new InputError(
      'kv_budget_exceeded',
      'messages',
      `reading ${job.covered} tokens at once needs ${formatBytes(scratch)} (${scratch} bytes) of activations, ${formatBytes(freeBytes)} (${freeBytes} bytes) are free: a shorter prompt, a smaller KV pool or a higher memory limit would work`,
    );
  }
}

/** The ratio at which the request's own press would fit; any press, where it has none or sets its ratios by layer. */
function whatFits({ tokens, boundary, checked, shape, press, maxTokens }: Job, { pages, shape: model }: KvCache): string {
  const last = press.presses.at(-1);
  const ratioOf = (mode: Press['mode']): number | null => {
    if (!checked || !last || last.layerBudget.part.ownRatio) {
      const pressed = { ...shape, coveredTokens: checked?.size.tokens ?? boundary ?? tokens.length }; // the scope that a press would have
      return fittingRatio(pages, (ratio) => anyPressPages(model, pressed, ratio));
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

/** Scores per query head and per KV head, rank orders, sorting: what scoring one layer takes at most. */
function pressScratchBytes({ queryHeads, kvHeads }: KvShape, tokens: number): number {
  return tokens * (2 * queryHeads * 4 + 4 * kvHeads * 4 + 32);
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
