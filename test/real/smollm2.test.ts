/**
 * A model that nobody here wrote: SmolLM2-135M-Instruct, Q4_1, against llama.cpp. Not part of `npm test`, for the file (98 MB) is not in the
 * repository: `npm run test:smollm2` fetches it and runs this.
 *
 * llama.cpp rounds activations to 8 bits before each product, so its own logits are off from exact f32 by 0.1 to 0.2 on average and by up to 1.0
 * (test/golden/smollm2/llama-cpp.json, "note"). A different token is accepted only where llama.cpp's own two candidates were closer than that.
 */
import { existsSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parsePress } from '../../presses/config.ts';
import type { EdgeEngine } from '../../worker/engine/engine.ts';
import { Tokenizer } from '../../worker/engine/tokenizer/tokenizer.ts';
import { openEngine, openModelPath } from '../../worker/node.ts';
import { golden, tokensOf } from '../support/golden.ts';

const PATH = '.cache/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf';
/** Of llama.cpp's logits: the bound of its rounding. */
const TIE = 0.5;

interface Reference {
  tokenizer: { text: string; ids: number[] }[];
  prompts: {
    name: string;
    messages?: { role: string; content: string }[];
    text: string;
    prompt_ids: number[];
    generated_ids: number[];
    top: [id: number, logit: number, probability: number][][];
  }[];
}

const reference = golden<Reference>('smollm2/llama-cpp.json');
const none = parsePress('no_press');

describe('SmolLM2-135M-Instruct Q4_1', () => {
  let engine: EdgeEngine;
  beforeAll(async () => {
    if (!existsSync(PATH)) throw new Error(`${PATH} is missing: run bench/peers/fetch-smollm2.sh`);
    engine = await openEngine(PATH);
  });
  afterAll(() => engine?.close());

  test.each(reference.prompts)('$name: the prompt has the tokens that llama.cpp gives it', ({ text, messages, prompt_ids }) => {
    expect(engine.tokenise({ kind: 'text', text })).toEqual(prompt_ids);
    if (!messages) return;
    const chat = messages.map(({ role, content }) => ({ role, parts: [content] }));
    expect(engine.tokenise({ kind: 'chat', messages: chat })).toEqual(prompt_ids);
  });

  test('texts have the tokens that llama.cpp gives them, control tokens spelled out', async () => {
    const model = await openModelPath(PATH);
    const tokenizer = new Tokenizer(model.tokenizer!);
    for (const { text, ids } of reference.tokenizer) expect(tokenizer.encode(text, { parseSpecial: false })).toEqual(ids);
    await model.source.close();
  });

  test.each(reference.prompts)(
    "$name: every greedy step is llama.cpp's, or a tie within its rounding",
    async ({ name, prompt_ids, generated_ids, top }) => {
      const free = await tokensOf(engine, prompt_ids, 'no_press', { maxTokens: generated_ids.length });
      const same = free.findIndex((id, i) => id !== generated_ids[i]);
      const ties: string[] = [];
      const steps = prompt_ids.length > 256 ? top.slice(0, 16) : top; // each step reads its prompt anew
      for (const [i, best] of steps.entries()) {
        const logits = await engine.logits({ kind: 'tokens', tokens: [...prompt_ids, ...generated_ids.slice(0, i)] }, none);
        const ours = logits.indexOf(Math.max(...logits));
        if (ours === best[0][0]) continue;
        const theirs = best.find(([id]) => id === ours);
        expect(theirs, `step ${i}: ${ours} is not among llama.cpp's five best`).toBeDefined();
        const margin = best[0][1] - theirs![1];
        ties.push(`step ${i}: ${ours} for ${best[0][0]}, margin ${margin.toFixed(3)}`);
        expect(margin, `step ${i}`).toBeLessThan(TIE);
      }
      console.log(
        `${name}: ${same < 0 ? `all ${free.length}` : `the first ${same}`} free-running tokens are llama.cpp's; given its tokens, ${steps.length - ties.length} of ${steps.length} steps agree${ties.length ? `; ${ties.join('; ')}` : ''}`,
      );
    },
  );
});
