/** GET /: what this is, in plain text, with a request that works. */
import type { Context } from 'hono';
import type { Env } from './env.ts';
import { exampleCurl } from './example.ts';

export function home(c: Context<Env>, needsKey: boolean): Response {
  const { origin } = new URL(c.req.url);
  return c.text(`edgepress: LLM inference at the edge with a compressed KV cache. The API is OpenAI's; "press" says how the cache is compressed.

${exampleCurl(origin, needsKey)}

usage.kv_cache in the answer tells what was kept, layer by layer, and in how many bytes.${needsKey ? '\nThis server asks for a key: export API_KEY=<one of its keys> first.' : ''}

${origin}/v1/presses      presses, their parts and parameters
${origin}/v1/models       the model served
${origin}/openapi.json    the whole API
${origin}/health          the engine and its memory
`);
}
