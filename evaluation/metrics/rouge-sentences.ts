/**
 * How the Python package `rouge` reads a text: sentences end at ".", none are empty, words are what white space separates. Nothing is lower-cased, and other punctuation
 * stays on its word. A sentence of white space only has one word, the empty one, which counts like any other.
 */
import { words } from './python-text.ts';

export interface Rouge {
  readonly precision: number;
  readonly recall: number;
  readonly f: number;
}

export const NO_ROUGE: Rouge = { precision: 0, recall: 0, f: 0 };

export function sentences(text: string): string[][] {
  return text
    .split('.')
    .filter((sentence) => sentence.length > 0)
    .map((sentence) => words(sentence))
    .map((found) => (found.length === 0 ? [''] : found));
}

/** F = 2PR / (P + R + 1e-8): the package's, so that equal texts score 0.999999995. */
export function rougeOf(overlap: number, predicted: number, reference: number): Rouge {
  const precision = predicted === 0 ? 0 : overlap / predicted;
  const recall = reference === 0 ? 0 : overlap / reference;
  return { precision, recall, f: 2 * ((precision * recall) / (precision + recall + 1e-8)) };
}
