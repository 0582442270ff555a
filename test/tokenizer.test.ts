import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { configFromGguf } from '../worker/engine/model/from-gguf.ts';
import { mergesFromScores, tokenizerFromGguf } from '../worker/engine/tokenizer/gguf.ts';
import { tokenizerFromFolder } from '../worker/engine/tokenizer/huggingface.ts';
import type { TokenizerData } from '../worker/engine/tokenizer/settings.ts';
import { Tokenizer } from '../worker/engine/tokenizer/tokenizer.ts';
import { openGguf } from '../worker/engine/weights/gguf.ts';
import { openFile, openFolder } from '../worker/engine/weights/node-files.ts';
import { openHuggingFaceModel } from '../worker/engine/weights/open-model.ts';
import { memoryFiles } from './fixtures/memory-files.ts';
import { Random } from './support/random.ts';

const path = (name: string) => new URL(name, import.meta.url).pathname;
const json = (name: string) => JSON.parse(readFileSync(path(name), 'utf8'));
const user = (...parts: string[]) => ({ role: 'user', parts });

const needleData = (await tokenizerFromFolder(openFolder(path('../models/needle'))))!;
const needle = new Tokenizer(needleData);
const golden: {
  cases: { text: string; ids: number[]; decoded_without_special: string }[];
  chats: { messages: { role: string; content: string }[]; add_generation_prompt: boolean; text: string }[];
} = json('golden/tokenizer/needle.json');
const spm: { metadata: Record<string, unknown>; cases: { text: string; ids: number[]; decoded: string }[] } = json('golden/gguf/spm-tokenizer.json');
const sentencePiece = (more: object = {}) => tokenizerFromGguf(new Map(Object.entries({ ...spm.metadata, ...more })))!;

async function ggufMetadata(name: string): Promise<Map<string, unknown>> {
  const file = await openFile(path(`golden/gguf/${name}.gguf`));
  const { metadata } = await openGguf(file);
  await file.close?.();
  return new Map(metadata);
}

describe('byte-level BPE', () => {
  test('tokens of every sample that the model was tested on, written out and by the chat template', () => {
    const samples = readFileSync(path('../models/needle/samples.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(samples.length).toBeGreaterThan(100);
    for (const { context, question, prompt_token_ids } of samples) {
      expect(needle.encode(`<|bos|><|user|>${context}\n${question}<|assistant|>`)).toEqual(prompt_token_ids);
      const chat = needle.encodeChat([user(`${context}\n`, question)]);
      expect(chat.ids).toEqual(prompt_token_ids);
      expect(prompt_token_ids[chat.boundary! - 1]).toBe(15); // the newline before the question
    }
  });

  test('ids, decoded text and rendered chats are those of transformers', () => {
    for (const { text, ids, decoded_without_special } of golden.cases) {
      expect(needle.encode(text)).toEqual(ids);
      expect(needle.decode(ids)).toBe(decoded_without_special);
      expect(needle.decode(ids, { skipSpecial: false })).toBe(text);
    }
    for (const { messages, add_generation_prompt, text } of golden.chats) {
      expect(
        needle.chat.render(
          messages.map(({ role, content }) => ({ role, parts: [content] })),
          add_generation_prompt,
        ),
      ).toBe(text);
    }
  });

  test('control tokens in a text are one token, or spelled out when asked', () => {
    expect(needle.encode('a<|end|>')).toEqual([needle.id('a'), 4]);
    const spelled = needle.encode('a<|end|>', { parseSpecial: false });
    expect(spelled).not.toContain(4);
    expect(needle.decode(spelled)).toBe('a<|end|>');
  });

  test('numbers of every script are split, not only 0-9', () => {
    // as transformers' Digits does; each is its bytes, without the space before it
    const ids = needle.encode('x ²٣');
    expect(needle.tokenText(ids[1])).toBe(' ');
  });

  test('the vocabulary rebuilt from GGUF gives the same tokens', async () => {
    const fromGguf = new Tokenizer(tokenizerFromGguf(await ggufMetadata('tiny-llama'))!);
    for (const { text, ids } of golden.cases) expect(fromGguf.encode(text)).toEqual(ids);
    expect(fromGguf.encodeChat([user('Where does Anna live?')])).toEqual(needle.encodeChat([user('Where does Anna live?')]));
    expect([fromGguf.bosId, fromGguf.eosId, fromGguf.vocabSize]).toEqual([0, 4, 1536]);
  });

  test('every splitting rule covers every character: decoding gives the text back', async () => {
    const metadata = await ggufMetadata('tiny-llama');
    const random = new Random(4);
    const alphabet = [..."aZé 5²٣\n\r\t'’s'LL?!_-—日本е́\u{1F469}\u200d\u{1F4BB}\u0085\uFEFF  "];
    for (const pre of ['default', 'gpt-2', 'smollm', 'llama-bpe', 'qwen2', 'tekken']) {
      const tokenizer = new Tokenizer(tokenizerFromGguf(new Map([...metadata, ['tokenizer.ggml.pre', pre]]))!);
      for (let i = 0; i < 100; i++) {
        const text = Array.from({ length: random.int(1, 20) }, () => random.pick(alphabet)).join('');
        expect(tokenizer.decode(tokenizer.encode(text))).toBe(pre === 'qwen2' ? text.normalize('NFC') : text);
      }
    }
  });

  test('llama-bpe splits digits by threes, qwen2 one by one', async () => {
    const metadata = await ggufMetadata('tiny-llama');
    const pieces = (pre: string, text: string) => {
      const data = tokenizerFromGguf(new Map([...metadata, ['tokenizer.ggml.pre', pre]]))!;
      // every merge of two digits is allowed, so that only the splitting keeps them apart
      const model = (data.json as { model: { vocab: Record<string, number>; merges: string[][] } }).model;
      let next = 1536;
      for (const a of '0123456789')
        for (const b of '0123456789') {
          model.vocab[a + b] = next++;
          model.merges.push([a, b]);
        }
      const tokenizer = new Tokenizer(data);
      return tokenizer.encode(text).map((id) => tokenizer.tokenText(id));
    };
    expect(pieces('llama-bpe', '1234567')).toEqual(['12', '3', '45', '6', '7']);
    expect(pieces('qwen2', '1234567')).toEqual([...'1234567']);
    expect(pieces('gpt-2', '1234567')).toEqual(['12', '34', '56', '7']);
  });

  test('an unknown splitting rule is refused by name', async () => {
    const metadata = await ggufMetadata('tiny-llama');
    for (const pre of ['mystery', 'constructor']) {
      expect(() => tokenizerFromGguf(new Map([...metadata, ['tokenizer.ggml.pre', pre]]))).toThrow(
        expect.objectContaining({ code: 'model_unsupported', message: expect.stringMatching(`"${pre}" is not supported; supported are default`) }),
      );
    }
    expect(() => tokenizerFromGguf(new Map([...metadata, ['tokenizer.ggml.model', 'bert']]))).toThrow(/tokenizer model "bert"/);
  });
});

describe('SentencePiece', () => {
  test('ids and decoded text are those of sentencepiece', () => {
    const tokenizer = new Tokenizer(sentencePiece());
    for (const { text, ids, decoded } of spm.cases) {
      expect(tokenizer.encode(text, { parseSpecial: false })).toEqual(ids);
      expect(tokenizer.decode(ids)).toBe(decoded);
    }
  });

  test('merges: best score first, then the longer left part', () => {
    const tokens = ['a', 'b', 'ab', 'aba', 'ba'];
    const vocab = Object.fromEntries(tokens.map((token, id) => [token, id]));
    expect(mergesFromScores(tokens, [0, 0, -1, -3, -2], vocab)).toEqual([
      ['a', 'b'],
      ['b', 'a'],
      ['ab', 'a'],
      ['a', 'ba'],
    ]);
  });

  test('a continuation keeps its first space, a whole text loses the one that encoding put there', () => {
    const tokenizer = new Tokenizer(sentencePiece());
    const ids = tokenizer.encode('the end');
    expect(tokenizer.decode(ids)).toBe('the end');
    const stream = tokenizer.stream();
    expect(ids.map((id) => stream.push(id)).join('') + stream.flush()).toBe(' the end');
  });
});

describe('BOS', () => {
  test('a text prompt gets it where the file asks for it, and never twice', () => {
    const asks = new Tokenizer(sentencePiece());
    const bare = asks.encode('Hello world');
    expect(asks.encodeText('Hello world')).toEqual([1, ...bare]);
    expect(asks.encodeText('<s>Hello world').filter((id) => id === 1)).toHaveLength(1);
    expect(asks.encodeText('')).toEqual([1]);
    expect(new Tokenizer(sentencePiece({ 'tokenizer.ggml.add_bos_token': false })).encodeText('Hello world')).toEqual(bare);
    expect(needle.encodeText('Once')).toEqual(needle.encode('Once'));
  });

  test('a chat whose template writes it keeps one; a GGUF file that asks for it gets one anyway', () => {
    const chat = (template: string) => new Tokenizer(sentencePiece({ 'tokenizer.chat_template': template })).encodeChat([user('Hello')]).ids;
    const writes = chat('{{ bos_token }}{{ messages[0].content }}');
    const leaves = chat('{{ messages[0].content }}');
    expect(writes.filter((id) => id === 1)).toEqual([1]);
    expect(leaves[0]).toBe(1);
    // Hugging Face takes the rendered text as it is
    const data = sentencePiece({ 'tokenizer.chat_template': '{{ messages[0].content }}' });
    expect(new Tokenizer({ ...data, settings: { ...data.settings, bosBeforeChat: false } }).encodeChat([user('Hello')]).ids).toEqual(leaves.slice(1));
  });
});

describe('streaming', () => {
  test('pieces put together are the decoded text, and none holds half a character', () => {
    const random = new Random(5);
    for (const tokenizer of [needle, new Tokenizer(sentencePiece({ 'tokenizer.ggml.add_space_prefix': false }))]) {
      for (let i = 0; i < 300; i++) {
        const text = Array.from({ length: random.int(1, 12) }, () => random.pick([...'ab é日👩‍💻🚀'])).join('');
        const ids = tokenizer.encode(text);
        const stream = tokenizer.stream();
        let out = '';
        for (const id of ids) {
          const piece = stream.push(id);
          expect(piece).not.toContain('\uFFFD');
          expect(piece).not.toMatch(/\p{Cs}/u); // a lone surrogate
          out += piece;
        }
        expect(out + stream.flush()).toBe(text);
      }
    }
  });

  test('random tokens: the same as decoding them at once; bytes that are no character become U+FFFD', () => {
    const random = new Random(6);
    for (let i = 0; i < 300; i++) {
      const ids = Array.from({ length: 20 }, () => random.int(0, 300));
      const stream = needle.stream();
      expect(ids.map((id) => stream.push(id)).join('') + stream.flush()).toBe(needle.decode(ids));
    }
    const half = needle.stream();
    expect(half.push(needle.encode('é')[0])).toBe('');
    expect(half.flush()).toBe('\uFFFD');
  });

  test('bytes of single tokens, also of parts of characters, of control tokens and of ids beyond the vocabulary', () => {
    const euro = needle.encode('€');
    expect(euro.flatMap((id) => [...needle.tokenBytes(id)])).toEqual([0xe2, 0x82, 0xac]);
    expect(needle.tokenText(4)).toBe('<|end|>');
    expect(needle.isSpecial(4)).toBe(true);
    expect([...needle.tokenBytes(99999)]).toEqual([]);
  });
});

describe('chat templates', () => {
  const withTemplate = (chatTemplate: string | null) => new Tokenizer({ ...needleData, settings: { ...needleData.settings, chatTemplate } });

  test('the last part of the last user message is found, and no other place', () => {
    const split = (...messages: { role: string; parts: string[] }[]) => {
      const { text, boundary } = needle.chat.split(messages);
      return boundary === null ? null : [text.slice(0, boundary), text.slice(boundary)];
    };
    expect(split(user('document\n', 'question'))).toEqual(['<|bos|><|user|>document\n', 'question<|assistant|>']);
    expect(split(user('question'))).toEqual(['<|bos|><|user|>', 'question<|assistant|>']);
    expect(split(user('a', 'b', 'b'), { role: 'assistant', parts: ['c'] })).toEqual(['<|bos|><|user|>ab', 'b<|assistant|> c<|end|><|assistant|>']);
    expect(split({ role: 'system', parts: ['x'] })).toBeNull();
    // the template trims the message: without a part before it, the white space is not part of the question
    expect(split(user('  question '))).toEqual(['<|bos|><|user|>', 'question<|assistant|>']);
    expect(split(user('document', '\n question'))).toEqual(['<|bos|><|user|>document', '\n question<|assistant|>']);
  });

  test('an answer begins where the template writes it, with the space that the model was trained on', () => {
    const question = { context: 'document\n', question: 'question' };
    const asked = '<|bos|><|user|>document\nquestion<|assistant|>';
    const ids = (answerPrefix: string, tokenizer = needle) => tokenizer.encodeQuestion({ ...question, answerPrefix }).ids;
    const written = needle.encodeChat([user('document\n', 'question'), { role: 'assistant', parts: ['The number is'] }], false).ids;
    expect([...ids('The number is'), 4]).toEqual(written); // 4 ends it
    expect(ids(' The number is')).toEqual(ids('The number is'));
    expect(ids('\nThe')).toEqual(needle.encode(`${asked}\nThe`)); // its own
    expect(ids('')).toEqual(needle.encode(asked));
    const plain = (template: string, answerPrefix: string) =>
      ids(answerPrefix, withTemplate(`{% for m in messages %}${template}{% endfor %}{% if add_generation_prompt %}A:{% endif %}`));
    const user_ = "{% if m.role == 'user' %}{{ m.content }}{% endif %}";
    const text = 'document\nquestionA:';
    for (const [answer, between] of [
      ['A: {{ m.content }}', ' '],
      ['A:\n\n{{ m.content }}', '\n\n'],
      ['A:{{ m.content }}', ''],
      ['A: <think></think> {{ m.content }}', ''], // what it writes besides is the model's to say
      ['B: {{ m.content }}', ''],
      ["{{ raise_exception('no answers') }}", ''],
    ])
      expect(plain(`${user_}{% if m.role == 'assistant' %}${answer}{% endif %}`, 'The'), answer).toEqual(needle.encode(`${text}${between}The`));
    expect(ids('The', withTemplate(null))).toEqual(needle.encode('document\nquestion\nThe')); // as kvpress
  });

  test('so it does with SentencePiece, where the space is a part of the first word', () => {
    const template =
      "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }} </s>{% endif %}{% endfor %}";
    const tokenizer = new Tokenizer(sentencePiece({ 'tokenizer.chat_template': template }));
    const { ids, boundary } = tokenizer.encodeQuestion({ context: 'the end ', question: 'the', answerPrefix: 'the end' });
    expect(ids).toEqual([1, ...tokenizer.encode('[INST] the end the [/INST] the end')]);
    expect(tokenizer.decode(ids)).toMatch(/ the end$/);
    expect(tokenizer.decode(ids.slice(0, boundary!))).toMatch(/\[INST\] the end$/);
  });

  test('the text is always what rendering without a marker gives', () => {
    const messages = [user('\uE0000\uE001 document', ' question \uE0001\uE001')];
    expect(needle.chat.split(messages).text).toBe(needle.chat.render(messages));
    expect(needle.chat.split(messages).boundary).not.toBeNull();
  });

  test.each([
    ['drops it', '{% for m in messages %}{{ m.role }}{% endfor %}'],
    ['says it twice', '{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}'],
    ['looks at how it begins', "{% for m in messages %}{% if m.content.startswith('q') %}Q: {% endif %}{{ m.content }}{% endfor %}"],
    ['counts it', '{% for m in messages %}{{ m.content | length }} {{ m.content }}{% endfor %}'],
  ])('a template that %s gives no boundary', (_, template) => {
    const { text, boundary } = withTemplate(template).chat.split([user('question')]);
    expect(boundary).toBeNull();
    expect(text).toBe(withTemplate(template).chat.render([user('question')]));
  });

  test('tokens before the boundary never reach into the question', () => {
    const random = new Random(7);
    for (let i = 0; i < 100; i++) {
      const word = () => Array.from({ length: random.int(0, 8) }, () => random.pick([...'ab the\n1é'])).join('');
      const messages = [user(`x${word()}`, `${word()}x`)];
      const { ids, boundary } = needle.encodeChat(messages);
      const { text, boundary: at } = needle.chat.split(messages);
      expect(ids).toEqual(needle.encode(text));
      expect(text.slice(0, at!).startsWith(needle.decode(ids.slice(0, boundary!), { skipSpecial: false }))).toBe(true);
    }
  });

  test("range is Python's, and bounded: in one call, and in all calls of a rendering", () => {
    const render = (template: string) => withTemplate(template).chat.render([]);
    expect(
      render(
        "\n{% for i in range(3) %}{{ i }}{% endfor %} {{ range(2, 9, 3) | join(',') }} {{ range(3, 0, -2) | join(',') }} {{ range(5, 5) | length }}",
      ),
    ).toBe('\n012 2,5,8 3,1 0');
    const refused = expect.objectContaining({
      code: 'chat_template_refused',
      message: expect.stringMatching(/more than 100000 numbers from range\(\)/),
    });
    expect(() => render('{% for i in range(1000000000) %}x{% endfor %}')).toThrow(refused);
    expect(() => render('{% for i in range(1000) %}{% for j in range(1000) %}{% endfor %}{% endfor %}')).toThrow(refused);
    expect(() => render('{% for i in range(0, 1, 0) %}{% endfor %}')).toThrow(/a step that is not 0/);
    expect(() => render('{% macro f() %}{{ range(1000000000) | length }}{% endmacro %}{{ f() }}')).toThrow(refused);
  });

  test('loops within loops, and macros that call themselves, come to an end', () => {
    const render = (template: string) => withTemplate(template).chat.render([user('x')]);
    const deep = (levels: number) =>
      `${Array.from({ length: levels }, (_, i) => `{% for a${i} in many %}`).join('')}${'{% endfor %}'.repeat(levels)}`;
    expect(render(`{% set many = range(10) %}${deep(3)}.{% for m in messages %}{{ m.content }}{% else %}none{% endfor %}`)).toBe('.x');
    const refused = expect.objectContaining({ code: 'chat_template_refused', message: expect.stringMatching(/more than 100000 steps/) });
    expect(() => render(`{% set many = range(1000) %}${deep(5)}`)).toThrow(refused);
    expect(() => render('{% macro f(n) %}{% if n > 0 %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}')).toThrow(refused);
  });

  test('a text far beyond its messages is refused, a long message is not', () => {
    const refused = expect.objectContaining({
      code: 'chat_template_refused',
      message: expect.stringMatching(/its text has \d+ characters, at most 104/),
    });
    const doubling = '{% set all = namespace(text="x") %}{% for i in range(27) %}{% set all.text = all.text + all.text %}{% endfor %}{{ all.text }}';
    for (const template of [doubling, "{{ 'x\ny' | indent(100000000) }}"])
      expect(() => withTemplate(template).chat.render([user('x')])).toThrow(refused);
    const long = 'long '.repeat(500_000);
    expect(withTemplate('{{ messages[0].content }}').chat.render([user(long)])).toBe(long);
  });

  test('no template, a broken one, and one that refuses: each says so', () => {
    expect(() => withTemplate(null).encodeChat([user('x')])).toThrow(
      expect.objectContaining({ code: 'chat_template_missing', param: 'messages', message: expect.stringMatching('/v1/completions') }),
    );
    expect(() => withTemplate('{% if %}').encodeChat([user('x')])).toThrow(expect.objectContaining({ code: 'model_unsupported' }));
    expect(() => withTemplate("{{ raise_exception('roles must alternate') }}").encodeChat([user('x')])).toThrow(
      expect.objectContaining({ code: 'chat_template_refused', message: expect.stringMatching('roles must alternate') }),
    );
    expect(withTemplate("{{ strftime_now('%Y') }}").chat.render([])).toMatch(/^20\d\d$/);
  });
});

describe('files of a Hugging Face folder', () => {
  const folder = (more: Record<string, object | string>) =>
    tokenizerFromFolder(memoryFiles({ 'tokenizer.json': needleData.json as object, ...more }));

  test('special tokens as strings or objects, templates in the config, in a list or in a file of their own', async () => {
    const settings = async (more: Record<string, object | string>) => ((await folder(more)) as TokenizerData).settings;
    expect(await settings({ 'tokenizer_config.json': { bos_token: { content: '<|bos|>' }, eos_token: '<|end|>', chat_template: 'one' } })).toEqual({
      chatTemplate: 'one',
      specialTokens: { bos_token: '<|bos|>', eos_token: '<|end|>' },
      bosBeforeChat: false,
    });
    expect(
      (
        await settings({
          'tokenizer_config.json': {
            chat_template: [
              { name: 'tool_use', template: 'x' },
              { name: 'default', template: 'two' },
            ],
          },
        })
      ).chatTemplate,
    ).toBe('two');
    expect((await settings({ 'tokenizer_config.json': { chat_template: 'one' }, 'chat_template.jinja': 'three' })).chatTemplate).toBe('three');
    expect(await settings({ 'special_tokens_map.json': { eos_token: '<|end|>' } })).toMatchObject({
      chatTemplate: null,
      specialTokens: { eos_token: '<|end|>' },
    });
    expect(await tokenizerFromFolder(memoryFiles({}))).toBeNull();
  });

  test("the tokenizer's eos ends a generation even if config.json names another", async () => {
    const opened = await openHuggingFaceModel({
      open: async (name) => (name === 'generation_config.json' ? null : openFolder(path('../models/needle')).open(name)),
    });
    expect(opened.config.eosIds).toEqual([4]);
    await opened.source.close();
    const metadata = new Map([...(await ggufMetadata('tiny-llama'))].filter(([key]) => key !== 'tokenizer.ggml.eos_token_id'));
    expect(configFromGguf(metadata, { vocabSize: 1536, hasHead: true, ropeFactors: null }).eosIds).toEqual([4]); // <|end|> by its name
  });

  test('a vocabulary beyond the model, also by one token, is refused with both sizes; added tokens beyond it are not', async () => {
    const open = (json: object) =>
      openHuggingFaceModel({
        open: (name) => (name === 'tokenizer.json' ? memoryFiles({ 'tokenizer.json': json }) : openFolder(path('../models/needle'))).open(name),
      });
    const sound = needleData.json as { model: { vocab: object }; added_tokens: object[] };
    const larger = { ...sound, model: { ...sound.model, vocab: { ...sound.model.vocab, beyond: 1536 } } };
    await expect(open(larger)).rejects.toThrow(
      expect.objectContaining({
        code: 'model_invalid',
        message: expect.stringMatching(/the tokenizer has \d+ tokens, "beyond" with id 1536; the model's vocabulary has 1536/),
      }),
    );
    const added = await open({ ...sound, added_tokens: [...sound.added_tokens, { ...sound.added_tokens[0], id: 1536, content: '<|beyond|>' }] });
    await added.source.close();
  });

  test.each([
    [{ model: { type: 'Unigram', vocab: [] } }, 'model_unsupported', /model "Unigram" is not supported/],
    [{ model: { type: 'BPE', vocab: [] } }, 'model_invalid', /model\.vocab must be an object/],
    [{ model: { type: 'BPE', vocab: { a: -1 } } }, 'model_invalid', /token "a" has id -1/],
    [{ model: { type: 'BPE', vocab: { a: 0 }, merges: [1] } }, 'model_invalid', /model\.merges/],
    [{ decoder: { type: 'CTC' } }, 'model_unsupported', /decoder "CTC" is not supported/],
    [
      { pre_tokenizer: { type: 'Split', pattern: { String: ' ' }, behavior: 'MergedWithPrevious' } },
      'model_unsupported',
      /behavior "MergedWithPrevious"/,
    ],
    [
      { post_processor: { type: 'TemplateProcessing' } },
      'model_invalid',
      /^tokenizer\.json: post_processor TemplateProcessing needs a list "single"/,
    ],
    [{ post_processor: { type: 'TemplateProcessing', single: [null] } }, 'model_invalid', /^tokenizer\.json: /],
    [{ post_processor: { type: 'Sequence', processors: [null] } }, 'model_invalid', /^tokenizer\.json: post_processor holds null/],
    [{ pre_tokenizer: { type: 'Sequence', pretokenizers: [null] } }, 'model_invalid', /^tokenizer\.json: pre_tokenizer holds null/],
    [
      { model: { type: 'BPE', vocab: { a: 0, b: 1 }, merges: ['a b'] } },
      'model_invalid',
      /^tokenizer\.json: merge "a b" needs the token "ab", which is not in model\.vocab/,
    ],
    [{ model: { type: 'BPE', vocab: { a: 0 }, merges: [['a', 'toString']] } }, 'model_invalid', /needs the token "toString"/],
    [{ model: { type: 'BPE', vocab: { a: 0 }, merges: ['a'] } }, 'model_invalid', /merge "a" is not two tokens/],
    [{ added_tokens: [{ id: 1e9, content: 'x' }] }, 'model_invalid', /added_tokens\.0\.id/],
    [{ normalizer: { type: 'Magic' } }, 'model_invalid', /Magic/],
  ])('a tokenizer.json that we cannot follow is refused by name: %#', (change, code, message) => {
    expect(() => new Tokenizer({ ...needleData, json: { ...(needleData.json as object), ...change } })).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(message) }),
    );
  });
});
