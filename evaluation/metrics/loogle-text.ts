/** LooGLE scores an empty prediction as if it were the word None. */
export function loogleText(prediction: string): string {
  return prediction === '' ? 'None' : prediction;
}
