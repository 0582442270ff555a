#!/usr/bin/env node
// Measures llama.cpp and prints one JSON object.
//   node llama-cpp.mjs [--model file.gguf] [--repeats 3]
// Or runs one prompt, greedy, and prints its ids, text and rates:
//   node llama-cpp.mjs --prompt "The capital of France is" [--max-tokens 48]
//   node llama-cpp.mjs --tokens 504,3575,282
import { llamaVersion, openLlama } from './llama.mjs';
import { benchPrompts, DECODE_TOKENS, modelPath, options, REPEATS, report } from './workload.mjs';

const {
  model: path,
  repeats,
  prompt,
  tokens,
  'max-tokens': maxTokens,
} = options({
  model: undefined,
  repeats: REPEATS,
  prompt: undefined,
  tokens: undefined,
  'max-tokens': 48,
});
const { llama, model, sequence } = await openLlama(modelPath(path));

/** Time to the first token is the prefill; each of the n tokens after it is one decode step. */
async function run(ids, n) {
  await sequence.clearHistory();
  const out = [];
  const start = performance.now();
  let first = start;
  for await (const token of sequence.evaluate(ids, { temperature: 0, yieldEogToken: true })) {
    if (out.push(token) === 1) first = performance.now();
    if (out.length === n + 1) break;
  }
  const end = performance.now();
  return { ids: out, prefill: (ids.length / (first - start)) * 1000, decode: (n / (end - first)) * 1000 };
}

if (prompt !== undefined || tokens !== undefined) {
  const ids = tokens === undefined ? model.tokenize(prompt, true) : tokens.split(',').map(Number);
  const { ids: generated, prefill, decode } = await run(ids, maxTokens - 1);
  console.log(
    JSON.stringify({
      prompt_ids: ids,
      generated_ids: generated,
      text: model.detokenize(generated, true),
      prefill_tokens_per_s: prefill,
      decode_tokens_per_s: decode,
    }),
  );
} else {
  const prompts = benchPrompts();
  await run(prompts.short.ids, 8); // warm-up
  const runs = [];
  for (let i = 0; i < repeats; i++) {
    const short = await run(prompts.short.ids, DECODE_TOKENS);
    const long = await run(prompts.long.ids, DECODE_TOKENS);
    runs.push({ prefill: long.prefill, decodeLong: long.decode, decodeShort: short.decode });
  }
  console.log(JSON.stringify(report('llama.cpp', llamaVersion(), runs)));
}
await llama.dispose();
