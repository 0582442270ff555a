/** tokenizer.json: what we need to know of it, what we refuse, and splitting rules put in a form that the library follows to the letter. */
import * as z from 'zod';
import { firstIssue, invalidModel, unsupported } from '../model/config.ts';

const node = z.looseObject({ type: z.string().nullish() }).nullish();
const id = z
  .number()
  .int()
  .min(0)
  .max(1 << 22);

const schema = z.looseObject({
  added_tokens: z.array(z.looseObject({ id, content: z.string().min(1), special: z.boolean().nullish() })).nullish(),
  normalizer: node,
  pre_tokenizer: node,
  post_processor: node,
  decoder: node,
  model: z.looseObject({ type: z.string().nullish(), merges: z.array(z.union([z.string(), z.array(z.string()).length(2)])).nullish() }),
});

type Node = { type?: string | null; [key: string]: unknown };

export interface TokenizerJson {
  added_tokens: { id: number; content: string; special?: boolean | null }[];
  normalizer: Node | null;
  pre_tokenizer: Node | null;
  post_processor: Node | null;
  decoder: Node | null;
  model: Node & { vocab: Record<string, number> };
}

/** GPT-2's rule. */
export const gpt2Split = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const isolate = (Regex: string): Node => ({ type: 'Split', pattern: { Regex }, behavior: 'Isolated', invert: false });

/**
 * Checks the file, and spells out two built-in rules as patterns: "Digits" is every Unicode number (the library takes only 0-9),
 * and white space is Unicode's, in GPT-2's rule too (JavaScript's \s is another set).
 */
export function withKnownSplitting(value: unknown): TokenizerJson {
  const result = schema.safeParse(value);
  if (!result.success) throw invalidModel(`tokenizer.json: ${firstIssue(result.error)}`);
  const json = result.data;
  if (json.model.type != null && json.model.type !== 'BPE')
    throw unsupported(`tokenizer.json: model "${json.model.type}" is not supported; only BPE is`);
  // By hand: a schema for a record of 100,000 entries takes longer than the tokenizer itself.
  const vocab = json.model.vocab;
  if (typeof vocab !== 'object' || vocab === null || Array.isArray(vocab)) throw invalidModel('tokenizer.json: model.vocab must be an object');
  for (const [token, tokenId] of Object.entries(vocab)) {
    if (!Number.isInteger(tokenId) || (tokenId as number) < 0 || (tokenId as number) > 1 << 22)
      throw invalidModel(`tokenizer.json: token ${JSON.stringify(token)} has id ${String(tokenId)}`);
  }
  checkMerges(json.model.merges ?? [], vocab, json.model.continuing_subword_prefix);
  if (json.post_processor) checkPostProcessor(json.post_processor);
  return {
    ...json,
    added_tokens: json.added_tokens ?? [],
    normalizer: json.normalizer ?? null,
    pre_tokenizer: json.pre_tokenizer ? spellOut(json.pre_tokenizer) : null,
    post_processor: json.post_processor ?? null,
    decoder: json.decoder ?? null,
    model: { type: 'BPE', ...json.model, merges: json.model.merges ?? [], vocab: vocab as Record<string, number> },
  };
}

/** Both parts of every merge, and what it makes of them, are tokens. */
function checkMerges(merges: readonly (string | string[])[], vocab: object, prefix: unknown): void {
  const skipped = typeof prefix === 'string' ? prefix.length : 0;
  const bad = (merge: unknown, what: string) => invalidModel(`tokenizer.json: merge ${JSON.stringify(merge)} ${what}`);
  for (const merge of merges) {
    const parts = typeof merge === 'string' ? merge.split(' ') : merge;
    if (parts.length !== 2) throw bad(merge, 'is not two tokens');
    const [left, right] = parts;
    for (const token of [left, right, left + right.slice(skipped)])
      if (!Object.hasOwn(vocab, token)) throw bad(merge, `needs the token ${JSON.stringify(token)}, which is not in model.vocab`);
  }
}

/** As far as the library would stumble over it. */
function checkPostProcessor(rule: Node, depth = 0): void {
  const bad = (what: string) => invalidModel(`tokenizer.json: post_processor ${what}`);
  if (depth > 8) throw bad('is nested too deep');
  if (typeof rule !== 'object' || rule === null) throw bad(`holds ${JSON.stringify(rule)}, a processor is expected`);
  if (rule.type === 'TemplateProcessing' && !Array.isArray(rule.single))
    throw bad(`TemplateProcessing needs a list "single", got ${JSON.stringify(rule.single)}`);
  if (rule.type !== 'Sequence') return;
  if (!Array.isArray(rule.processors)) throw bad(`Sequence needs a list "processors", got ${JSON.stringify(rule.processors)}`);
  for (const inner of rule.processors) checkPostProcessor(inner as Node, depth + 1);
}

/** A token that the model has no row for would be encoded and then refused, or worse. Added tokens beyond the rows count only where they are used. */
export function checkVocabularyFits(value: unknown, vocabSize: number): void {
  const vocab = (value as { model?: { vocab?: unknown } } | null)?.model?.vocab;
  if (typeof vocab !== 'object' || vocab === null) return; // not a tokenizer; refused when it is built
  for (const [token, id] of Object.entries(vocab))
    if (typeof id === 'number' && id >= vocabSize)
      throw invalidModel(
        `the tokenizer has ${Object.keys(vocab).length} tokens, ${JSON.stringify(token)} with id ${id}; the model's vocabulary has ${vocabSize}: they do not belong together`,
      );
}

function spellOut(rule: Node, depth = 0): Node {
  if (depth > 8) throw invalidModel('tokenizer.json: pre_tokenizer is nested too deep');
  if (typeof rule !== 'object' || rule === null)
    throw invalidModel(`tokenizer.json: pre_tokenizer holds ${JSON.stringify(rule)}, a rule is expected`);
  switch (rule.type) {
    case 'Sequence': {
      if (!Array.isArray(rule.pretokenizers)) throw invalidModel('tokenizer.json: a Sequence needs pretokenizers');
      return { ...rule, pretokenizers: rule.pretokenizers.map((inner) => spellOut(inner as Node, depth + 1)) };
    }
    case 'Digits':
      return isolate(rule.individual_digits ? '\\p{N}' : '\\p{N}+');
    case 'ByteLevel':
      if (rule.use_regex === false || rule.add_prefix_space) return rule;
      return { type: 'Sequence', pretokenizers: [isolate(gpt2Split), { ...rule, use_regex: false }] };
    case 'Split': {
      const behavior = String(rule.behavior).toLowerCase();
      if (behavior !== 'isolated' && behavior !== 'removed')
        throw unsupported(`tokenizer.json: Split with behavior "${String(rule.behavior)}" is not supported; Isolated and Removed are`);
      return rule;
    }
    default:
      return rule;
  }
}

export interface VocabularyKind {
  readonly kind: 'bytes' | 'sentencepiece';
  /** Decoding a whole sequence takes away the space that encoding put before it. */
  readonly stripsFirstSpace: boolean;
}

/** How a token is spelled, told by the decoder: GPT-2's byte alphabet, or SentencePiece's ▁ and <0xNN>. */
export function vocabularyKind(json: TokenizerJson): VocabularyKind {
  const decoders: Node[] = json.decoder?.type === 'Sequence' ? (json.decoder.decoders as Node[]) : json.decoder ? [json.decoder] : [];
  if (Array.isArray(decoders)) {
    const find = (type: string) => decoders.find((decoder) => decoder?.type === type);
    if (find('ByteLevel')) return { kind: 'bytes', stripsFirstSpace: false };
    const metaspace = find('Metaspace');
    if (metaspace) return { kind: 'sentencepiece', stripsFirstSpace: metaspace.prepend_scheme !== 'never' && metaspace.add_prefix_space !== false };
    if (find('ByteFallback')) return { kind: 'sentencepiece', stripsFirstSpace: find('Strip') !== undefined };
  }
  throw unsupported(`tokenizer.json: decoder "${json.decoder?.type ?? 'none'}" is not supported; ByteLevel, Metaspace and ByteFallback are`);
}
