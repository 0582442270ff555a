/** TokenizerData from the files of a Hugging Face folder. */
import * as z from 'zod';
import { firstIssue, invalidModel } from '../model/config.ts';
import { type ModelFiles, readJson, readText } from '../weights/source.ts';
import type { TokenizerData, TokenizerSettings } from './settings.ts';

const maxBytes = 64 << 20;

const tokenSchema = z.union([z.string(), z.looseObject({ content: z.string() })]).nullish();
const configSchema = z.looseObject({
  bos_token: tokenSchema,
  eos_token: tokenSchema,
  unk_token: tokenSchema,
  pad_token: tokenSchema,
  chat_template: z.union([z.string(), z.array(z.object({ name: z.string(), template: z.string() }))]).nullish(),
});

/** Null when the folder has no tokenizer.json. */
export async function tokenizerFromFolder(files: ModelFiles): Promise<TokenizerData | null> {
  const json = await readJson(files, 'tokenizer.json', maxBytes);
  if (json === null) return null;
  const parse = async (name: string) => {
    const result = configSchema.safeParse((await readJson(files, name, maxBytes)) ?? {});
    if (!result.success) throw invalidModel(`${name}: ${firstIssue(result.error)}`);
    return result.data;
  };
  const config = await parse('tokenizer_config.json');
  const map = await parse('special_tokens_map.json');

  const specialTokens: TokenizerSettings['specialTokens'] = {};
  for (const name of ['bos_token', 'eos_token', 'unk_token', 'pad_token'] as const) {
    const token = config[name] ?? map[name];
    if (token != null) specialTokens[name] = typeof token === 'string' ? token : token.content;
  }
  const named = config.chat_template;
  const inConfig = Array.isArray(named) ? (named.find((t) => t.name === 'default')?.template ?? null) : (named ?? null);
  const templateFile = await files.open('chat_template.jinja'); // newer folders keep it beside the config
  const chatTemplate = templateFile ? await readText(templateFile, 1 << 20) : inConfig;
  await templateFile?.close?.();
  return { json, settings: { chatTemplate, specialTokens, bosBeforeChat: false } };
}
