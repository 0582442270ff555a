/**
 * setImmediate for browsers, which scripts/build-browser.mjs puts into the bundle where the engine looks for it: setTimeout waits 4 ms between
 * tokens, and in a hidden tab a second.
 */
const { port1, port2 } = new MessageChannel();
const waiting: (() => void)[] = [];
port1.onmessage = () => waiting.shift()?.();

export function setImmediate(resume: () => void): void {
  waiting.push(resume);
  port2.postMessage(null);
}
