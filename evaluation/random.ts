/**
 * Seeded random numbers of the evaluation: the same words give the same draws on every machine, also where samples are made in another order.
 *   words -> 128 bits, by four lanes of multiply-xorshift; then sfc32 (Doty-Humphrey's small fast counter: 96 bits of state and a counter).
 */
export class Random {
  readonly #seed: string;
  #a: number;
  #b: number;
  #c: number;
  #counter: number;

  constructor(...seed: readonly (string | number)[]) {
    this.#seed = JSON.stringify(seed);
    const lanes = [0x9e3779b9, 0x243f6a88, 0xb7e15162, 0x6a09e667]; // golden ratio, pi, e, root 2
    for (let i = 0; i < this.#seed.length; i++) {
      const code = this.#seed.charCodeAt(i);
      for (let lane = 0; lane < 4; lane++) lanes[lane] = Math.imul(lanes[lane] ^ code ^ (lanes[(lane + 1) & 3] >>> 15), 0x85ebca6b + 2 * lane);
    }
    [this.#a, this.#b, this.#c, this.#counter] = lanes;
    for (let i = 0; i < 16; i++) this.bits(); // every bit of the seed reaches every bit of the state
  }

  /** A generator of its own for one purpose: what it draws does not move when other draws are more or fewer. */
  fork(purpose: string | number): Random {
    return new Random(this.#seed, purpose);
  }

  /** 32 random bits. */
  bits(): number {
    const sum = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0;
    return sum >>> 0;
  }

  /** Uniform in [0, 1). */
  next(): number {
    return this.bits() / 2 ** 32;
  }

  /** Integer in [low, high]. */
  int(low: number, high: number): number {
    return low + Math.floor(this.next() * (high - low + 1));
  }

  pick<T>(items: readonly T[]): T {
    return items[this.int(0, items.length - 1)];
  }

  /** The items in random order (Fisher-Yates). */
  shuffled<T>(items: readonly T[]): T[] {
    const all = [...items];
    for (let i = all.length - 1; i > 0; i--) {
      const j = this.int(0, i);
      [all[i], all[j]] = [all[j], all[i]];
    }
    return all;
  }

  /** `count` different items, in random order. */
  sample<T>(items: readonly T[], count: number): T[] {
    return this.shuffled(items).slice(0, count);
  }
}
