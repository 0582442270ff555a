/** Bounds on what one request may bring. The context length and the KV pool bound the rest. */
export interface Limits {
  readonly bodyBytes: number;
  readonly messages: number;
  readonly partsPerMessage: number;
  readonly stopLength: number; // UTF-16 units of one stop string
}

export const defaultLimits: Limits = {
  bodyBytes: 8 * 1024 * 1024, // 2 million tokens of English
  messages: 2048,
  partsPerMessage: 256,
  stopLength: 256,
};
