import { z } from 'zod';

export function whole(low: number, high: number) {
  const error = `must be a whole number from ${low} to ${high}`;
  return z.int({ error }).min(low, { error }).max(high, { error });
}

/** Tokens that the model may generate; they count towards the length. */
export function maxNewTokens(tokens: number) {
  return whole(1, 65_536).default(tokens);
}
