import type { View } from '../worker/backend/backend.ts';

/** Stands where there is nothing to be read: whoever tries hears why. */
export function noView(why: string): View {
  return {
    get buffer(): never {
      throw new Error(why);
    },
    offset: 0,
  };
}
