/** What parts make once and find again by its name: `once` of their context. */
export class MadeOnce {
  readonly #made = new Map<string, unknown>();

  readonly once = <T>(key: string, make: () => T): T => {
    if (!this.#made.has(key)) this.#made.set(key, make());
    return this.#made.get(key) as T;
  };

  forget(): void {
    this.#made.clear();
  }
}
