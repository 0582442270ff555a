/**
 * A tokenizer.json rebuilt from GGUF metadata. Two kinds exist there: "gpt2", byte-level BPE whose text splitting is known by name
 * only (`tokenizer.ggml.pre`), and "llama", SentencePiece BPE without merges, which follow from the scores.
 */

import { invalidModel, unsupported } from '../model/config.ts';
import type { GgufMetadata } from '../model/from-gguf.ts';
import type { TokenizerData, TokenizerSettings } from './settings.ts';
import { gpt2Split } from './tokenizer-json.ts';

/** GPT-4's pattern, with digits in groups of at most `digits`. */
const gpt4Split = (digits: string) =>
  `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;
const tekkenSplit =
  '[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|' +
  '[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|' +
  '\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';

interface Splitting {
  /** Applied in order, each to the pieces of the one before. */
  readonly patterns: readonly string[];
  readonly nfc?: boolean;
  /** A piece that is a token is taken whole, whatever the merges say. */
  readonly ignoreMerges?: boolean;
  /** What `add_bos_token` is when the file does not say. */
  readonly addBos?: boolean;
}

const gpt2: Splitting = { patterns: [gpt2Split] };
const digitsThenGpt2: Splitting = { patterns: ['\\p{N}', gpt2Split] };
const llama3: Splitting = { patterns: [gpt4Split('{1,3}')], ignoreMerges: true, addBos: true };
const qwen2: Splitting = { patterns: [gpt4Split('')], nfc: true };

/** By `tokenizer.ggml.pre`. */
const splittings: Readonly<Record<string, Splitting>> = {
  // llama.cpp's rule for files from before `pre` existed
  default: { patterns: ['[\\p{P}\\$\\+<=>\\^~\\|]+', gpt2Split, '\\p{N}+', '[0-9][0-9][0-9]'] },
  'gpt-2': gpt2,
  phi2: gpt2,
  'phi-2': gpt2,
  mpt: gpt2,
  olmo: gpt2,
  jais: gpt2,
  smollm: digitsThenGpt2,
  starcoder: digitsThenGpt2,
  refact: digitsThenGpt2,
  'command-r': digitsThenGpt2,
  codeshell: digitsThenGpt2,
  'llama-bpe': llama3,
  llama3: llama3,
  'llama-v3': llama3,
  falcon3: llama3,
  qwen2,
  'deepseek-r1-qwen': qwen2,
  stablelm2: { patterns: qwen2.patterns },
  tekken: { patterns: [tekkenSplit], ignoreMerges: true, addBos: true },
};

/** `tokenizer.ggml.token_type`. */
const TokenType = { unknown: 2, control: 3, userDefined: 4 } as const;

/** Null when the file has no tokenizer. */
export function tokenizerFromGguf(metadata: GgufMetadata): TokenizerData | null {
  const model = metadata.get('tokenizer.ggml.model');
  if (model === undefined || model === 'none' || model === 'no_vocab') return null;
  if (model !== 'gpt2' && model !== 'llama') throw unsupported(`GGUF tokenizer model "${String(model)}" is not supported; gpt2 and llama are`);
  const tokens = strings(metadata, 'tokenizer.ggml.tokens');
  if (!tokens || tokens.length === 0) throw invalidModel('GGUF metadata: tokenizer.ggml.tokens is missing');
  const types = numbers(metadata, 'tokenizer.ggml.token_type', tokens.length) ?? tokens.map(() => 1);

  const named = (key: string): string | undefined => {
    const id = metadata.get(`tokenizer.ggml.${key}_token_id`);
    if (id === undefined) return undefined;
    const token = tokens[Number(id)];
    if (token === undefined) throw invalidModel(`GGUF metadata: tokenizer.ggml.${key}_token_id is ${String(id)}, there are ${tokens.length} tokens`);
    return token;
  };
  const pre = metadata.get('tokenizer.ggml.pre') ?? 'default';
  const splitting = model === 'gpt2' ? splittings[String(pre)] : undefined;
  if (model === 'gpt2' && (!splitting || !Object.hasOwn(splittings, String(pre)))) {
    throw unsupported(`GGUF tokenizer.ggml.pre "${String(pre)}" is not supported; supported are ${Object.keys(splittings).join(', ')}`);
  }
  const addBos = metadata.get('tokenizer.ggml.add_bos_token') ?? (model === 'llama' || (splitting?.addBos ?? false));
  const bos = named('bos');
  const bosToken = addBos === true && bos !== undefined ? bos : null;

  const vocab = vocabulary(tokens);
  const json = {
    version: '1.0',
    added_tokens: tokens.flatMap((content, id) => {
      const type = types[id];
      if (type !== TokenType.control && type !== TokenType.userDefined && !(model === 'llama' && type === TokenType.unknown)) return [];
      return content === ''
        ? []
        : [{ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: type !== TokenType.userDefined }];
    }),
    post_processor: bosToken === null ? null : bosTemplate(bosToken, Number(metadata.get('tokenizer.ggml.bos_token_id'))),
    ...(splitting ? byteLevel(metadata, vocab, splitting) : sentencePiece(metadata, tokens, vocab, named('unknown') ?? '<unk>')),
  };

  const template = metadata.get('tokenizer.chat_template');
  const specialTokens: TokenizerSettings['specialTokens'] = {};
  for (const [key, name] of [
    ['bos', 'bos_token'],
    ['eos', 'eos_token'],
    ['unknown', 'unk_token'],
    ['padding', 'pad_token'],
  ] as const) {
    const token = named(key);
    if (token !== undefined) specialTokens[name] = token;
  }
  return { json, settings: { chatTemplate: typeof template === 'string' ? template : null, specialTokens, bosBeforeChat: bosToken !== null } };
}

function strings(metadata: GgufMetadata, key: string): string[] | undefined {
  const value = metadata.get(key);
  if (value === undefined) return undefined;
  if (!Array.isArray(value) || value.some((item) => typeof item !== 'string')) throw invalidModel(`GGUF metadata: ${key} must be a list of strings`);
  return value as string[];
}

function numbers(metadata: GgufMetadata, key: string, length: number): number[] | undefined {
  const value = metadata.get(key);
  if (value === undefined) return undefined;
  if (!Array.isArray(value) || value.length !== length || value.some((item) => typeof item !== 'number'))
    throw invalidModel(`GGUF metadata: ${key} must be a list of ${length} numbers`);
  return value as number[];
}

/** Text to id; of equal texts the first counts, as in llama.cpp. The object has no prototype: a token may be called "constructor". */
function vocabulary(tokens: readonly string[]): Record<string, number> {
  const vocab: Record<string, number> = Object.create(null);
  tokens.forEach((token, id) => {
    vocab[token] ??= id;
  });
  return vocab;
}

function bosTemplate(token: string, id: number) {
  return {
    type: 'TemplateProcessing',
    single: [{ SpecialToken: { id: token, type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
    pair: [{ SpecialToken: { id: token, type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 0 } }],
    special_tokens: { [token]: { id: token, ids: [id], tokens: [token] } },
  };
}

function byteLevel(metadata: GgufMetadata, vocab: Record<string, number>, splitting: Splitting) {
  const lines = strings(metadata, 'tokenizer.ggml.merges');
  if (!lines) throw invalidModel('GGUF metadata: tokenizer.ggml.merges is missing');
  const merges = lines.map((line) => {
    const space = line.indexOf(' ', 1); // a token may itself begin with a space in old files
    if (space < 1) throw invalidModel(`GGUF metadata: merge "${line}" is not two tokens`);
    return [line.slice(0, space), line.slice(space + 1)];
  });
  return {
    normalizer: splitting.nfc ? { type: 'NFC' } : null,
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        ...splitting.patterns.map((Regex) => ({ type: 'Split', pattern: { Regex }, behavior: 'Isolated', invert: false })),
        { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false },
      ],
    },
    decoder: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false },
    model: { type: 'BPE', dropout: null, unk_token: null, byte_fallback: false, ignore_merges: splitting.ignoreMerges ?? false, vocab, merges },
  };
}

function sentencePiece(metadata: GgufMetadata, tokens: readonly string[], vocab: Record<string, number>, unknown: string) {
  const scores = numbers(metadata, 'tokenizer.ggml.scores', tokens.length);
  if (!scores) throw invalidModel('GGUF metadata: tokenizer.ggml.scores is missing');
  const prefix = metadata.get('tokenizer.ggml.add_space_prefix') ?? true;
  const replace = { type: 'Replace', pattern: { String: ' ' }, content: '▁' };
  return {
    normalizer: prefix === true ? { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: '▁' }, replace] } : replace,
    pre_tokenizer: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...(prefix === true ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
      ],
    },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: unknown,
      fuse_unk: true,
      byte_fallback: true,
      ignore_merges: false,
      vocab,
      merges: mergesFromScores(tokens, scores, vocab),
    },
  };
}

/**
 * Every way to put a token together from two others, best token first. SentencePiece joins the neighbours whose joint token has the
 * best score; as a list of merges that is: by score, then the longer left part first (the order of transformers' own conversion).
 */
export function mergesFromScores(tokens: readonly string[], scores: readonly number[], vocab: Readonly<Record<string, number>>): [string, string][] {
  const found: { left: string; right: string; score: number; leftLength: number; order: number }[] = [];
  tokens.forEach((token, id) => {
    if (vocab[token] !== id) return;
    const characters = [...token];
    const own: { left: string; right: string; leftLength: number }[] = [];
    for (let cut = 1, left = ''; cut < characters.length; cut++) {
      left += characters[cut - 1];
      const right = token.slice(left.length);
      if (vocab[left] !== undefined && vocab[right] !== undefined) own.push({ left, right, leftLength: cut });
    }
    own.sort((a, b) => vocab[a.left] - vocab[b.left] || vocab[a.right] - vocab[b.right]);
    for (const merge of own) found.push({ ...merge, score: scores[id], order: found.length });
  });
  found.sort((a, b) => b.score - a.score || b.leftLength - a.leftLength || a.order - b.order);
  return found.map(({ left, right }) => [left, right]);
}
