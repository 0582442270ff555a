/** What a tokenizer is made from: tokenizer.json in Hugging Face's form, and what stands beside it. Plain data: a packed model carries it. */
import * as z from 'zod';

const token = z.string().max(1000);

export const tokenizerSettingsSchema = z.strictObject({
  /** Jinja source; null = the model has none and takes no chat messages. */
  chatTemplate: z
    .string()
    .max(1 << 20)
    .nullable(),
  /** bos_token, eos_token, unk_token, pad_token: known to the chat template under these names. */
  specialTokens: z.partialRecord(z.enum(['bos_token', 'eos_token', 'unk_token', 'pad_token']), token),
  /**
   * Hugging Face takes a rendered chat as it is; llama.cpp also puts BOS before it where the file asks for BOS. So true only
   * for GGUF files that do. BOS is never doubled.
   */
  bosBeforeChat: z.boolean(),
});

export type TokenizerSettings = z.infer<typeof tokenizerSettingsSchema>;

export interface TokenizerData {
  /** tokenizer.json, parsed. */
  readonly json: unknown;
  readonly settings: TokenizerSettings;
}
