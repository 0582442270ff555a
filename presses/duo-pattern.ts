/** DuoAttention's pattern of heads: which of the model's KV heads retrieve, and what the others, the streaming ones, keep. */
import { type Artifact, type ArtifactNeed, Misfit } from './artifacts.ts';

export interface DuoPattern {
  readonly sink: number;
  readonly recent: number;
  readonly scores: readonly (readonly number[])[]; // [L][H], 1 = retrieves
}

export const aboutPattern = {
  format: 'json',
  what: "DuoAttention's pattern of heads",
  layout: '{"sink": tokens, "recent": tokens, "scores": one list per layer of one number per KV head, higher = it retrieves}',
  source: 'edgepress calibrate --kind duo makes one of any text; those of the paper can be converted',
} as const;

const MOST_TOKENS = 65_536;

export const duoPattern: ArtifactNeed = {
  param: 'artifact',
  ...aboutPattern,
  check({ json }, { layers, kvHeads }) {
    const { sink, recent, scores } = (typeof json === 'object' && json !== null ? json : {}) as Record<string, unknown>;
    for (const [field, value, least] of [
      ['sink', sink, 0],
      ['recent', recent, 1],
    ] as const) {
      if (!(Number.isInteger(value) && (value as number) >= least && (value as number) <= MOST_TOKENS))
        throw new Misfit(`${field} must be a whole number between ${least} and ${MOST_TOKENS}, got ${show(value)}`);
    }
    if (!Array.isArray(scores) || scores.length !== layers)
      throw new Misfit(`scores must hold a list for each of the ${layers} layers of this model, got ${sizeOf(scores)}`);
    for (const [l, row] of scores.entries()) {
      if (!Array.isArray(row) || row.length !== kvHeads)
        throw new Misfit(`scores[${l}] must hold a number for each of the ${kvHeads} KV heads of this model, got ${sizeOf(row)}`);
      const odd = row.findIndex((score) => typeof score !== 'number' || !Number.isFinite(score));
      if (odd >= 0) throw new Misfit(`scores[${l}][${odd}] must be a number, got ${show(row[odd])}`);
    }
  },
};

export function patternOf({ json }: Artifact): DuoPattern {
  return json as DuoPattern;
}

const found = new WeakMap<Artifact, Map<number, ReadonlySet<number>>>();

/** The round(L H ratio) heads of the smallest scores (a half to even, as Python rounds), as layer * H + head; scores below 0 count as 0, above 1 as 1. */
export function streamingHeads(artifact: Artifact, ratio: number): ReadonlySet<number> {
  const known = found.get(artifact)?.get(ratio);
  if (known) return known;
  const scores = patternOf(artifact).scores.flat();
  const clipped = scores.map((score) => Math.min(1, Math.max(0, score)));
  const byScore = scores.map((_, i) => i).sort((a, b) => clipped[a] - clipped[b] || a - b);
  const heads = new Set(byScore.slice(0, halfToEven(scores.length * ratio)));
  found.set(artifact, new Map([[ratio, heads]])); // one ratio is enough: requests alternate seldom
  return heads;
}

export function halfToEven(x: number): number {
  const low = Math.floor(x);
  return x - low === 0.5 ? low + (low % 2) : Math.round(x);
}

function show(value: unknown): string {
  return (JSON.stringify(value) ?? 'nothing').slice(0, 60);
}

function sizeOf(value: unknown): string {
  return Array.isArray(value) ? `${value.length}` : show(value);
}
