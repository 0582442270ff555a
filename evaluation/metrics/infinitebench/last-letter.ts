/** What finds the last of some capitals, "A-D", that stands alone on the first line that has one. */
export function lastLetterAlone(capitals: string): RegExp {
  const alone = String.raw`(?<![\p{L}\p{N}_])[${capitals}](?![\p{L}\p{N}_])`;
  return new RegExp(`${alone}(?![^\n]*${alone})`, 'u');
}
