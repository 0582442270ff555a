/**
 * Schemas of parameters. Each carries one phrase that says what would work, so that every message has its three parts:
 * "bound_ratio must be between 0 and 1, got 1.5". Defaults and texts end up in the JSON Schema of /v1/presses.
 */
import * as z from 'zod';
import { choices } from './did-you-mean.ts';

export function fraction(fallback: number, description: string, range: { above0?: boolean } = {}) {
  const error = range.above0 ? 'must be above 0 and at most 1' : 'must be between 0 and 1';
  const number = z.number({ error }).max(1, { error });
  return (range.above0 ? number.gt(0, { error }) : number.min(0, { error })).default(fallback).describe(description);
}

export function wholeNumber(low: number, high: number, fallback: number, description: string) {
  const error = `must be a whole number between ${low} and ${high}`;
  return z.int({ error }).min(low, { error }).max(high, { error }).default(fallback).describe(description);
}

export function oddNumber(low: number, high: number, fallback: number, description: string) {
  const error = `must be an odd whole number between ${low} and ${high}`;
  const number = z.int({ error }).min(low, { error }).max(high, { error });
  return number
    .refine((value) => value % 2 === 1, { error })
    .default(fallback)
    .describe(description);
}

export function realNumber(low: number, high: number, fallback: number, description: string) {
  const error = `must be a number between ${low} and ${high}`;
  return z.number({ error }).min(low, { error }).max(high, { error }).default(fallback).describe(description);
}

export function oneOf<const T extends readonly [string, ...string[]]>(values: T, fallback: T[number], description: string) {
  const error = `must be ${choices(values)}`;
  return z
    .enum(values, { error })
    .default(fallback as never)
    .describe(description);
}

export function trueOrFalse(fallback: boolean, description: string) {
  return z.boolean({ error: 'must be true or false' }).default(fallback).describe(description);
}

/** What the model is asked, in words or as token ids. */
export function textOrTokens(description: string) {
  const error = 'must be text of at most 2000 characters, or a list of at most 512 token ids';
  const ids = z
    .array(
      z
        .int({ error })
        .min(0, { error })
        .max(2 ** 31 - 1, { error }),
      { error },
    )
    .max(512, { error });
  return z.union([z.string().max(2000, { error }), ids], { error }).describe(description);
}

/** Of scorers that draw; without one each request draws its own. */
export function seedNumber(description: string) {
  const error = 'must be a whole number between 0 and 4294967295';
  return z.int({ error }).min(0, { error }).max(0xffffffff, { error }).optional().describe(description);
}

export const noParams = z.strictObject({});
