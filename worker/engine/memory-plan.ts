/**
 * How the memory limit is dealt out when a model is loaded:
 *   limit = beside + weights + fixed + KV pool + ledger + reading
 * The KV pool gets what is left beside the rest; reading is what one prompt at a time finds, and the press that acts on it.
 */
import { formatBytes } from './bytes.ts';

export interface MemoryPlan {
  /** Null: nobody set one. */
  readonly limitBytes: number | null;
  /** For buffers that the host holds outside the engine's memory. */
  readonly besideBytes: number;
  readonly weightBytes: number;
  /** Activations of a chunk of tokens, logits, the module's own data. */
  readonly fixedBytes: number;
  readonly poolBytes: number;
  readonly ledgerBytes: number;
  readonly readingBytes: number;
  /** Tokens of the longest prompt for which that is enough, under a press as they usually are. */
  readonly longestPrompt: number;
}

/** The sum, for who is refused; nothing where there is no limit. */
export function toldPlan({ limitBytes, ...plan }: MemoryPlan): string {
  if (limitBytes === null) return '';
  const parts = [
    [plan.weightBytes, 'of weights'],
    [plan.poolBytes, 'of KV pool'],
    [plan.ledgerBytes, 'for its ledger'],
    [plan.fixedBytes, 'of fixed buffers'],
    [plan.readingBytes, 'for reading prompts'],
    [plan.besideBytes, 'for buffers outside'],
  ] as const;
  const sum = parts.filter(([bytes]) => bytes > 0).map(([bytes, what]) => `${formatBytes(bytes)} ${what}`);
  return `; the memory limit of ${formatBytes(limitBytes)} is ${sum.join(' + ')}`;
}
