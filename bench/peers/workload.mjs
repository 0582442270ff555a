// What every peer runs: the same file, the same prompt ids, the same lengths, one thread.
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const at = (path) => fileURLToPath(new URL(path, import.meta.url));

export const ROOT = at('../..');
export const MODEL = at('../../.cache/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf');
export const REFERENCE = at('../../test/golden/smollm2/llama-cpp.json');

export const PREFILL_TOKENS = 512;
export const DECODE_TOKENS = 128;
export const SHORT_CONTEXT = 64; // tokens before the first decode measurement; the second comes after PREFILL_TOKENS
export const CONTEXT_SIZE = 1024;
export const REPEATS = 3;

/** --name value and --name, nothing else. Values of unknown names are an error, so that a typing mistake is seen. */
export function options(known) {
  const found = {};
  const args = process.argv.slice(2);
  for (let i = 0; i < args.length; i++) {
    const name = args[i].replace(/^--/, '');
    if (!args[i].startsWith('--') || !(name in known)) {
      fail(
        `unknown argument ${args[i]}; known: ${Object.keys(known)
          .map((name) => `--${name}`)
          .join(' ')}`,
      );
    }
    if (args[i + 1] === undefined) fail(`--${name} needs a value`);
    found[name] = args[++i];
  }
  return { ...known, ...found };
}

export function modelPath(path = MODEL) {
  if (!existsSync(path)) fail(`no model at ${path}; bench/peers/fetch-smollm2.sh gets it`);
  return path;
}

/** The prompt "long" of the golden reference and its start: running English text, so that what follows is text too. */
export function benchPrompts() {
  const long = JSON.parse(readFileSync(REFERENCE, 'utf8')).prompts.find((prompt) => prompt.name === 'long');
  if (long?.prompt_ids.length !== PREFILL_TOKENS) {
    fail(`${REFERENCE} has no prompt "long" of ${PREFILL_TOKENS} tokens; reference.mjs writes it`);
  }
  return {
    short: { ids: long.prompt_ids.slice(0, SHORT_CONTEXT), text: long.short_text },
    long: { ids: long.prompt_ids, text: long.text },
  };
}

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** One entry per measured repeat -> the record every peer prints. Rates in tokens per second, two decimals. */
export function report(peer, version, runs) {
  const round = (x) => Math.round(x * 100) / 100;
  const of = (name, pick) => round(pick(runs.map((run) => run[name])));
  const best = (values) => Math.max(...values);
  return {
    peer,
    version,
    threads: 1,
    repeats: runs.length,
    prompt_tokens: PREFILL_TOKENS,
    decode_tokens: DECODE_TOKENS,
    prefill_tokens_per_s: of('prefill', median),
    decode_tokens_per_s: of('decodeLong', median), // after the 512-token prompt
    decode_short_tokens_per_s: of('decodeShort', median), // after a 64-token prompt
    best: {
      prefill_tokens_per_s: of('prefill', best),
      decode_tokens_per_s: of('decodeLong', best),
      decode_short_tokens_per_s: of('decodeShort', best),
    },
  };
}

export function fail(message) {
  console.error(message);
  process.exit(1);
}
