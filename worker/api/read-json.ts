/** The request body as JSON, whatever its content type says, and never more than `maxBytes` of it in memory. */
import { shownName } from '../../presses/did-you-mean.ts';
import { MOST_LEVELS, nestedTooDeep } from '../../presses/nesting.ts';
import { ApiError, clientGone } from './errors.ts';

export async function readJson(request: Request, maxBytes: number): Promise<unknown> {
  const bytes = await readBytes(request, maxBytes);
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw invalidJson('the request body is not UTF-8; send JSON as UTF-8', request);
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    if (text.trim() === '') throw invalidJson('the request body is empty; send a JSON object', request);
    const offset = jsonErrorOffset(text);
    const before = text.slice(0, offset).split('\n');
    const seen = offset < text.length ? `got ${JSON.stringify(text.slice(offset, offset + 12))}` : 'the text ends too early';
    throw invalidJson(`the request body is not valid JSON: line ${before.length}, column ${before[before.length - 1].length + 1}: ${seen}`, request);
  }
  if (nestedTooDeep(json))
    throw invalidJson(`the request body has lists or objects in each other more than ${MOST_LEVELS} deep; ${MOST_LEVELS} at most are read`, request);
  return json;
}

async function readBytes(request: Request, maxBytes: number): Promise<Uint8Array> {
  const tooLarge = (seen: string) =>
    new ApiError(413, 'body_too_large', null, `the request body has ${seen} bytes; at most ${maxBytes} are accepted`);
  const announced = Number(request.headers.get('content-length') ?? 0);
  if (announced > maxBytes) throw tooLarge(String(announced));
  const parts: Uint8Array[] = [];
  let size = 0;
  for (const reader = request.body?.getReader(); reader; ) {
    const { done, value } = await reader.read().catch(() => {
      throw clientGone(); // only the connection can fail here
    });
    if (done) break;
    size += value.length;
    if (size > maxBytes) {
      reader.cancel().catch(() => {});
      throw tooLarge(`more than ${maxBytes}`);
    }
    parts.push(value);
  }
  if (parts.length === 1) return parts[0];
  const whole = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** 415 when the client says that it sent something else than JSON, else 400. */
function invalidJson(message: string, request: Request): ApiError {
  const type = request.headers.get('content-type');
  if (type === null || /\bjson\b|^text\/plain/i.test(type)) return new ApiError(400, 'invalid_json', null, message);
  return new ApiError(415, 'unsupported_content_type', null, `the content type is "${shownName(type)}" and ${message}; send application/json`);
}

/** Where `text` stops being JSON. V8's own messages tell a position in some cases only. */
export function jsonErrorOffset(text: string): number {
  const token =
    // biome-ignore lint/suspicious/noControlCharactersInRegex: JSON forbids them in strings, so the pattern must name them
    /[ \t\n\r]*(?:([{}[\],:])|("(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*")|(-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.+-])|true\b|false\b|null\b))/y;
  const open: ('{' | '[')[] = [];
  let expects: 'value' | 'value or ]' | 'key' | 'key or }' | ':' | 'next' = 'value';
  let end = 0;
  const here = () => end + /^[ \t\n\r]*/.exec(text.slice(end))![0].length;
  for (;;) {
    token.lastIndex = end;
    const match = token.exec(text);
    if (match === null) return here();
    const [, mark, string, scalar] = match;
    const value = expects === 'value' || expects === 'value or ]';
    const parent = open[open.length - 1];
    if (value && (mark === '{' || mark === '[')) {
      open.push(mark);
      expects = mark === '{' ? 'key or }' : 'value or ]';
    } else if (value && (string !== undefined || scalar !== undefined)) {
      expects = 'next';
    } else if ((expects === 'key' || expects === 'key or }') && string !== undefined) {
      expects = ':';
    } else if (expects === ':' && mark === ':') {
      expects = 'value';
    } else if (expects === 'next' && mark === ',' && parent !== undefined) {
      expects = parent === '{' ? 'key' : 'value';
    } else if (
      (mark === '}' && parent === '{' && (expects === 'next' || expects === 'key or }')) ||
      (mark === ']' && parent === '[' && (expects === 'next' || expects === 'value or ]'))
    ) {
      open.pop();
      expects = 'next';
    } else {
      return here();
    }
    end = token.lastIndex;
  }
}
