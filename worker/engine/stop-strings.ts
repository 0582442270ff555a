/**
 * Stop strings over a stream of text pieces. The text ends before the stop string that is complete first, character by character (of two
 * that complete at the same place, the longer), so the result does not depend on where the pieces are cut. Text that may yet turn out to be
 * the start of a stop string is held back.
 */
export interface StopMatcher {
  /** Takes a piece; returns the text that is now final, and the stop string that was met, if any. After a stop, nothing more comes out. */
  push(piece: string): { text: string; stop: string | null };
  /** The text is over: what was held back is final. */
  flush(): string;
}

export function createStopMatcher(stops: readonly string[]): StopMatcher {
  if (stops.includes('')) throw new Error('a stop string must not be empty');
  const longest = Math.max(0, ...stops.map((s) => s.length));
  let held = ''; // longest suffix of the text so far that is a proper prefix of a stop string
  let stopped = false;
  return {
    push(piece) {
      if (stopped) return { text: '', stop: null };
      const text = held + piece;
      let at = -1,
        stop: string | null = null;
      for (const s of stops) {
        const start = text.indexOf(s); // the first occurrence is also the first to complete
        if (start < 0) continue;
        const later = stop === null ? -1 : start + s.length - (at + stop.length);
        if (later < 0 || (later === 0 && start < at)) [at, stop] = [start, s];
      }
      if (stop !== null) {
        stopped = true;
        held = '';
        return { text: text.slice(0, at), stop };
      }
      let hold = Math.min(longest - 1, text.length);
      while (hold > 0 && !stops.some((s) => s.startsWith(text.slice(-hold)) && s.length > hold)) hold--;
      hold = Math.max(0, hold);
      held = text.slice(text.length - hold);
      return { text: text.slice(0, text.length - hold), stop: null };
    },
    flush() {
      const text = held;
      held = '';
      return text;
    },
  };
}
