#!/usr/bin/env node
// Writes test/golden/smollm2/llama-cpp.json: what llama.cpp makes of SmolLM2, for edgepress to be compared with.
//   node reference.mjs [--model file.gguf] [--out file.json]
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { Template } from '@huggingface/jinja';
import { llamaVersion, openLlama } from './llama.mjs';
import { modelPath, options, PREFILL_TOKENS, REFERENCE, SHORT_CONTEXT } from './workload.mjs';

const STEPS = 48;
const TOP = 5;

const user = (content) => ({ role: 'user', content });
const assistant = (content) => ({ role: 'assistant', content });

const CHATS = {
  capital: [user('What is the capital of France?')],
  'two-turns': [
    user('My name is Ada and I like gardening.'),
    assistant('Nice to meet you, Ada! Gardening is a lovely hobby.'),
    user('What is my name, and what do I like?'),
  ],
  system: [{ role: 'system', content: 'You answer in one short sentence.' }, user('Why is the sky blue?')],
  code: [user('Write a Python function that returns the factorial of n.')],
  arithmetic: [user('A box holds 12 eggs. How many eggs are in 7 boxes?')],
  unicode: [user('Translate to English: «Où est la bibliothèque?» — 图书馆在哪里？ 📚')],
};

const PLAIN = {
  completion: 'Once upon a time, in a small village by the sea, there lived',
  'code-completion': 'def fibonacci(n):\n    """Return the n-th Fibonacci number."""\n    if n < 2:\n',
};

// Cut to PREFILL_TOKENS ids; also the prompt of the speed measurements.
const LONG = `The old lighthouse stood at the end of a narrow spit of land, where the river met the sea. For more than a hundred years its lamp had guided fishing boats home through fog and storm. The keeper, a quiet woman named Marta, had learned the work from her father, and he had learned it from his. Every evening she climbed the one hundred and twelve steps to the lantern room, cleaned the glass, wound the clockwork that turned the lens, and wrote the weather into a thick book bound in green cloth.

One autumn a young engineer came from the city with a letter from the harbour office. The lamp, he explained, would soon be run by a small computer. It would measure the light of the sky, switch itself on, and report by radio if anything failed. Nobody would have to climb the stairs at night any more. Marta listened, poured him a cup of tea, and asked whether the computer would also notice when a boat was late.

The engineer did not know what to answer. He had brought drawings, a list of parts and a plan for the cables, but there was nothing in them about boats that were late. So he stayed a few days longer than he had planned. He watched how Marta looked at the horizon, how she counted the sails in the morning and again at dusk, and how she rang the harbour when one of them was missing. In the green book he found that eleven boats had been saved in this way since she had become the keeper, and many more in the time of her father.

When he went back to the city he wrote a new plan. The lamp would still be run by a computer, and the stairs would still be empty at night. But the computer would also listen to the radio beacons of the boats, keep a list of those that had gone out, and call the harbour when one did not return in time. He named the program after the keeper. It was not a large program, and it ran on a machine that needed less power than the lamp itself, yet it was the part of the project that he was proudest of.

Marta moved into a house in the village, with a garden and a view of the spit. She still woke up at dusk, and she still counted the sails. On most evenings her number and the number of the machine were the same. When they were not, she picked up the telephone, and so did the machine, and the people in the harbour office began to say that the coast had never been safer than with two keepers. The engineer visited her every summer, and`;

const TOKENIZER = [
  'Hello, world!',
  'The quick brown fox jumps over the lazy dog.',
  '  two leading spaces and  two inside',
  '\n\n\ttabs and\nnewlines \n',
  '1234567890 3.14159 2024-02-29 1,000,000',
  'for (let i = 0; i < n; i++) { sum += a[i]; }  // loop',
  "I'm sure they'll say it's DON'T or we've",
  'Größe, naïve café, ¿qué?, Ωμέγα, привет',
  '你好，世界 日本語 한국어 हिन्दी',
  '👩‍💻🚀 e\u0301 \u00a0 <|im_start|>user',
];

// What a comparison must allow for; measured once with an f32 forward pass of the dequantised file (numpy), fed the same ids.
const NOTE =
  'llama.cpp rounds activations to 8 bits before each matrix product: against exact f32 its logits are off by 0.1 to 0.2 ' +
  'on average and by up to 1.0, and 17 of the 432 argmaxes differ, all at margins below 0.25. Compare step by step, feeding generated_ids.';

const { model: path, out } = options({ model: undefined, out: REFERENCE });
const file = modelPath(path);
const { llama, model, sequence } = await openLlama(file);
const template = new Template(model.fileInfo.metadata.tokenizer.chat_template);

/** One greedy step: feeds the ids, returns the top candidates as [id, logit, probability], best first. */
async function step(ids) {
  const next = { token: true, totalLogitWeight: true, logits: { filter: { tokens: [], includeTop: TOP } }, options: { temperature: 0 } };
  const last = ids.length - 1;
  const result = await sequence.controlledEvaluate(ids.map((id, i) => (i === last ? [id, { generateNext: next }] : id)));
  const { token, logits, totalLogitWeight } = result[last].next;
  const [[best, max]] = logits;
  if (token !== best) throw new Error(`llama.cpp chose ${token} but the highest logit belongs to ${best}`);
  return [...logits].map(([id, logit]) => [id, round(logit, 4), round(Math.exp(logit - max) / totalLogitWeight, 6)]);
}

async function greedy(promptIds) {
  await sequence.clearHistory();
  const generated = [],
    top = [];
  for (let ids = promptIds; generated.length < STEPS; ids = generated.slice(-1)) {
    top.push(await step(ids));
    generated.push(top.at(-1)[0][0]);
  }
  return { generated, top };
}

const round = (x, digits) => Number(x.toFixed(digits));

const start = (n) => model.detokenize(model.tokenize(LONG, true).slice(0, n), true);

const inputs = [
  ...Object.entries(CHATS).map(([name, messages]) => ({ name, messages, text: template.render({ messages, add_generation_prompt: true }) })),
  ...Object.entries(PLAIN).map(([name, text]) => ({ name, text })),
  { name: 'long', text: start(PREFILL_TOKENS), short_text: start(SHORT_CONTEXT) }, // short_text: for the decode speed after a short prompt
];

const prompts = [];
for (const input of inputs) {
  const ids = [...model.tokenize(input.text, true)];
  const { generated, top } = await greedy(ids);
  const end = generated.findIndex((id) => model.isEogToken(id));
  const margin = Math.min(...top.map(([a, b]) => a[1] - b[1]));
  prompts.push({
    ...input,
    prompt_ids: ids,
    generated_ids: generated,
    generated_text: model.detokenize(generated, true),
    end_of_generation_at: end < 0 ? null : end,
    smallest_margin: round(margin, 4),
    top,
  });
  console.error(`${input.name}: ${ids.length} ids, smallest margin ${margin.toFixed(3)}: ${JSON.stringify(prompts.at(-1).generated_text)}`);
}

const golden = {
  made_by: 'bench/peers/reference.mjs',
  engine: `${llamaVersion()}, CPU, one thread, KV cache f16`,
  model: basename(file),
  sha256: createHash('sha256').update(readFileSync(file)).digest('hex'),
  sampling: 'greedy: temperature 0, no penalties, no tokens added before the prompt; goes on past the end of generation',
  end_of_generation_ids: [...model.iterateAllTokens()].filter((id) => model.isEogToken(id)),
  note: NOTE,
  top: 'per step: [id, logit, probability over the whole vocabulary at temperature 1], best first',
  tokenizer: TOKENIZER.map((text) => ({ text, ids: [...model.tokenize(text, false)] })),
  prompts,
};

// Lists of numbers, and the candidates of a step, on one line each: the file can be read and compared.
const oneLine = (list) => list.replace(/\s+/g, ' ').replaceAll('[ ', '[').replaceAll(' ]', ']');
const json = JSON.stringify(golden, null, 1)
  .replace(/\[[\d\s,.e+-]*\]/g, oneLine)
  .replace(/\[\s*(?:\[[^[\]]*\],?\s*)+\]/g, oneLine);
mkdirSync(dirname(out), { recursive: true });
writeFileSync(out, `${json}\n`);
await llama.dispose();
