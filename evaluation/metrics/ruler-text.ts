/** What RULER's metrics compare: the prediction without the white space around it and without control characters (line ends vanish, leaving no space), in lower case. */
import { stripped } from './python-text.ts';

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is removed
const CONTROL = /[\x00-\x1f]/g;

export function rulerText(prediction: string): string {
  return stripped(stripped(prediction).replace(CONTROL, '')).toLowerCase();
}
