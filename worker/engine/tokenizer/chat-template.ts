/** A model's chat template (Jinja), and where in the rendered text the last part of the last user message begins. */
import { Template } from '@huggingface/jinja';
import { InputError } from '../../../presses/input-error.ts';
import { unsupported } from '../model/config.ts';
import type { ChatMessage } from '../types.ts';
import type { TokenizerSettings } from './settings.ts';

export interface SplitPrompt {
  readonly text: string;
  /** Index in `text` where the last text part of the last user message begins; null where the template hides it. */
  readonly boundary: number | null;
}

export class ChatTemplate {
  readonly #settings: TokenizerSettings;
  #template: Template | null = null;

  constructor(settings: TokenizerSettings) {
    this.#settings = settings;
  }

  /** Whether the model came with one. */
  get known(): boolean {
    return this.#settings.chatTemplate !== null;
  }

  /** A message's parts are joined without anything between them. Throws InputError for what the template refuses. */
  render(messages: readonly ChatMessage[], addGenerationPrompt = true): string {
    return this.#render(
      messages.map(({ role, parts }) => ({ role, content: parts.join('') })),
      addGenerationPrompt,
    );
  }

  /**
   * The boundary is found by a marker put there before rendering. It is believed only if the text without the marker is what
   * rendering gives without it: a template that trims, or looks at how a message begins, may react to the marker.
   */
  split(messages: readonly ChatMessage[], addGenerationPrompt = true): SplitPrompt {
    const text = this.render(messages, addGenerationPrompt);
    const last = messages.findLastIndex(({ role }) => role === 'user');
    const part = messages[last]?.parts.at(-1);
    if (part === undefined) return { text, boundary: null };
    const marker = unusedMarker(messages);
    const before = messages[last].parts.slice(0, -1).join('');
    const blank = part.length - part.trimStart().length;
    // Behind leading white space too: trimmed away without the marker, it would stay behind one.
    for (const at of blank > 0 ? [0, blank] : [0]) {
      const content = `${before}${part.slice(0, at)}${marker}${part.slice(at)}`;
      const marked = this.#render(
        messages.map((message, i) => ({ role: message.role, content: i === last ? content : message.parts.join('') })),
        addGenerationPrompt,
      );
      const boundary = marked.indexOf(marker);
      if (boundary >= 0 && marked.slice(0, boundary) + marked.slice(boundary + marker.length) === text) return { text, boundary };
    }
    return { text, boundary: null };
  }

  /** What it writes between a user's words and the answer; a line break where it hides that, or there is no template. */
  answerStart(): string {
    const words = 'x';
    try {
      const { text, boundary } = this.split([{ role: 'user', parts: [words] }]);
      if (boundary !== null && text.length > boundary + words.length) return text.slice(boundary + words.length);
    } catch (error) {
      if (!(error instanceof InputError)) throw error; // a template that refuses a user without a system, ...
    }
    return '\n';
  }

  /** The white space that it writes between where the model's turn begins and the model's words; '' where there is none, or something else too. */
  spaceBeforeAnswer(): string {
    const [asked, words] = [{ role: 'user', parts: ['x'] }, 'y'];
    try {
      const begun = this.render([asked]);
      const answered = this.render([asked, { role: 'assistant', parts: [words] }], false);
      const rest = answered.startsWith(begun) ? answered.slice(begun.length) : words;
      const space = rest.slice(0, rest.length - rest.trimStart().length);
      return rest.startsWith(words, space.length) ? space : '';
    } catch (error) {
      if (!(error instanceof InputError)) throw error; // a template that refuses an answer
      return '';
    }
  }

  #render(messages: readonly { role: string; content: string }[], addGenerationPrompt: boolean): string {
    const { chatTemplate, specialTokens } = this.#settings;
    if (chatTemplate === null) {
      throw new InputError(
        'chat_template_missing',
        'messages',
        'this model has no chat template and takes no messages; give it a text to continue: POST /v1/completions, --raw, or {kind: "text"} in the library',
      );
    }
    try {
      this.#template ??= boundedTemplate(chatTemplate);
    } catch (error) {
      throw unsupported(`the model's chat template cannot be read: ${(error as Error).message}`);
    }
    try {
      const text = this.#template.render({
        ...specialTokens,
        messages,
        add_generation_prompt: addGenerationPrompt,
        tools: null,
        documents: null,
        [boundedRange]: createRange(),
        [step]: createSteps(),
      });
      // indent() and + make texts of any length, which take memory only once they are read.
      const most = mostText + messages.reduce((sum, { content }) => sum + 256 + 2 * content.length, 0);
      if (text.length > most) throw new Error(`its text has ${text.length} characters, at most ${most} are taken for these messages`);
      return text;
    } catch (error) {
      // raise_exception, which templates use to insist on roles and their order, ends here too.
      throw new InputError('chat_template_refused', 'messages', `the model's chat template refuses these messages: ${(error as Error).message}`);
    }
  }
}

const boundedRange = 'edgepress_bounded_range';
const mostRangeItems = 100_000;
/** Characters that a template may add to its messages. */
const mostText = 1 << 20;

const step = 'edgepress_step';
const mostSteps = 100_000;

/**
 * The template with the built-in `range`, which makes a list of any length, replaced (the library takes no variable of a built-in's name),
 * and with every round of a loop and every call of a macro counted.
 */
function boundedTemplate(source: string): Template {
  const template = new Template(source);
  countSteps(template.parsed);
  template.parsed.body.unshift(...new Template(`{% set range = ${boundedRange} %}`).parsed.body);
  return template;
}

/** Writes nothing, and throws when it is reached too often. */
const countedStep = new Template(`{% if ${step}() %}{% endif %}`).parsed.body;

function countSteps(node: unknown): void {
  if (typeof node !== 'object' || node === null) return;
  for (const value of Object.values(node)) countSteps(value);
  const { type, body } = node as { type?: unknown; body?: unknown };
  if ((type === 'For' || type === 'Macro') && Array.isArray(body)) body.unshift(...countedStep);
}

function createSteps() {
  let left = mostSteps;
  return (): boolean => {
    if (left-- === 0) throw new Error(`its loops and macros take more than ${mostSteps} steps`);
    return false;
  };
}

/** Python's range; what one rendering takes from it, in all calls together, is bounded. */
function createRange() {
  let made = 0;
  return (first: unknown, second?: unknown, third?: unknown): number[] => {
    const [start, stop, step] = [second == null ? 0 : first, second ?? first, third ?? 1];
    if (![start, stop, step].every((n): n is number => Number.isSafeInteger(n)) || step === 0)
      throw new Error(`range(${[first, second, third].filter((n) => n != null).join(', ')}) takes whole numbers, and a step that is not 0`);
    const length = Math.max(0, Math.ceil(((stop as number) - (start as number)) / (step as number)));
    made += length;
    if (made > mostRangeItems) throw new Error(`it takes more than ${mostRangeItems} numbers from range()`);
    return Array.from({ length }, (_, i) => (start as number) + i * (step as number));
  };
}

/** Private-use characters around a number that no message contains. */
function unusedMarker(messages: readonly ChatMessage[]): string {
  for (let i = 0; ; i++) {
    const marker = `\uE000${i}\uE001`;
    if (!messages.some(({ parts }) => parts.join('').includes(marker))) return marker;
  }
}
