/** JSON can be nested deeper than the stack is, and what walks it calls itself: zod, JSON.stringify. Nothing that is read here needs more than a few levels. */
export const MOST_LEVELS = 64;

/** Whether lists or objects stand in each other more than MOST_LEVELS deep. */
export function nestedTooDeep(value: unknown): boolean {
  let level = [value].filter(isNest);
  for (let depth = 0; level.length > 0; depth++) {
    if (depth === MOST_LEVELS) return true;
    level = level.flatMap((one) => (Array.isArray(one) ? one : Object.values(one)).filter(isNest));
  }
  return false;
}

function isNest(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}
