/** GET /: what this is, in plain text, with a request that works. */
import type { Context } from 'hono';
import type { Env } from './env.ts';

export function home(c: Context<Env>): Response {
  const { origin } = new URL(c.req.url);
  return c.text(`edgepress: LLM inference at the edge with a compressed KV cache. The API is OpenAI's; "press" says how the cache is compressed.

curl ${origin}/v1/chat/completions -H 'content-type: application/json' -d '{
  "messages": [{"role": "user", "content": [
    {"type": "text", "text": "A long document: this part is compressed."},
    {"type": "text", "text": "A question: this part is not."}]}],
  "press": {"preset": "zigzag_snapkv", "compression_ratio": 0.5},
  "max_tokens": 32}'

usage.kv_cache in the answer tells what was kept, layer by layer, and in how many bytes.

${origin}/v1/presses      presses, their parts and parameters
${origin}/v1/models       the model served
${origin}/openapi.json    the whole API
${origin}/health          the engine and its memory
`);
}
