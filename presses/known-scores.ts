/** Scores that presses over one reading share: a scorer gives a layer the same ones whatever budget they are ranked under. On the host. */

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
