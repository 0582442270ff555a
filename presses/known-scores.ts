/** Scores that presses over one reading share: a scorer gives a layer the same ones whatever budget they are ranked under. On the host. */
import { readFloats, type View } from '../worker/backend/backend.ts';
import type { Chosen, ScoreContext, Scorer } from './contract.ts';

/** What a scorer returned for all rows of a layer, and said of it. */
export interface Known {
  readonly scores: Float32Array; // [H, n]
  readonly notes: readonly string[];
}

export class KnownScores {
  readonly #known = new Map<string, Known>();
  readonly #most: number;
  #bytes = 0;

  /** Holds at most so many bytes: what was asked for longest ago is forgotten first. */
  constructor(most: number) {
    this.#most = most;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get(key: string): Known | null {
    const known = this.#known.get(key);
    if (!known) return null;
    this.#known.delete(key);
    this.#known.set(key, known);
    return known;
  }

  set(key: string, known: Known): void {
    this.#forget(key);
    this.#known.set(key, known);
    this.#bytes += known.scores.byteLength;
    for (const oldest of this.#known.keys()) {
      if (this.#bytes <= this.#most) return;
      this.#forget(oldest);
    }
  }

  #forget(key: string): void {
    const known = this.#known.get(key);
    if (known) this.#bytes -= known.scores.byteLength;
    this.#known.delete(key);
  }
}

/** What the scorer gives all rows of a layer, [H, n]: what it gave them for another press, where it did. */
export function scoreOnce(known: KnownScores, { part, params }: Chosen<Scorer>, context: ScoreContext): View {
  const { backend, scratch, layer, n, shape, compressionRatio, compat, seed } = context;
  const key = JSON.stringify([part.name, params, layer, compat, seed]);
  const ofRatio = `${key} ${compressionRatio}`;
  const found = known.get(key) ?? known.get(ofRatio);
  if (found) {
    for (const note of found.notes) context.note(note);
    const scores = scratch(found.scores.byteLength, 'known scores');
    backend.write(scores, found.scores);
    return scores;
  }
  const notes: string[] = [];
  const checks: Promise<void>[] = [];
  let asked = false; // few formulas have r in them
  const scores = part.score(
    {
      ...context,
      note(text) {
        notes.push(text);
        context.note(text);
      },
      later(check) {
        checks.push(check);
        context.later(check);
      },
      get compressionRatio() {
        asked = true;
        return compressionRatio;
      },
    },
    params,
  );
  const read = readFloats(backend, scores, shape.kvHeads * n);
  context.later(Promise.all([read, ...checks]).then(([made]) => known.set(asked ? ofRatio : key, { scores: made, notes })));
  return scores;
}
