/** OpenAI's error envelope: {error: {message, type, param, code}}. Whatever is thrown becomes one of these. */
import { InputError } from '../../presses/input-error.ts';
import { ContextDamaged } from '../contexts/contract.ts';

type Status = 400 | 401 | 404 | 405 | 413 | 415 | 429 | 499 | 500 | 503;

export class ApiError extends Error {
  readonly status: Status;
  readonly code: string;
  readonly param: string | null;
  readonly headers: Readonly<Record<string, string>>;
  constructor(status: Status, code: string, param: string | null, message: string, headers: Record<string, string> = {}, cause?: unknown) {
    super(message, { cause });
    this.name = 'ApiError';
    this.status = status;
    this.code = code;
    this.param = param;
    this.headers = headers;
  }
}

/** InputErrors whose status is not 400, or whose code has another name at OpenAI. */
const KNOWN: Record<string, { status: Status; code?: string; headers?: Record<string, string> }> = {
  kv_budget_exceeded: { status: 413 },
  prompt_too_long: { status: 400, code: 'context_length_exceeded' },
  model_not_found: { status: 404 },
  context_not_found: { status: 404 },
  context_file_invalid: { status: 500 }, // one that came with the server
  context_too_large: { status: 413 },
  context_quota_exceeded: { status: 429 },
  contexts_busy: { status: 429, headers: { 'retry-after': '5' } }, // until others are answered
  contexts_full: { status: 429, headers: { 'retry-after': '5' } },
  contexts_closed: { status: 503, headers: { 'retry-after': '1' } }, // the model is loaded anew
  context_closed: { status: 503, headers: { 'retry-after': '1' } },
  queue_full: { status: 429, headers: { 'retry-after': '5' } }, // a prompt of a few hundred tokens on one core
  model_output_invalid: { status: 500 }, // the server's model, not the request
  device_failed: { status: 503, headers: { 'retry-after': '1' } }, // the next request finds the model loaded anew
  model_loading: { status: 503, headers: { 'retry-after': '2' } },
};

export function toApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof InputError) {
    const { status, code, headers } = KNOWN[error.code] ?? { status: 400 };
    return new ApiError(status, code ?? error.code, error.param, error.message, headers, error);
  }
  if (error instanceof ContextDamaged) return new ApiError(500, 'context_damaged', 'context', error.message, {}, error);
  return new ApiError(
    500,
    'internal_error',
    null,
    'the server failed while it answered; the x-request-id header of this response finds the cause in its log',
    {},
    error,
  );
}

/** The answer that nobody reads: the client has gone. 499 is nginx's number for it. */
export const clientGone = () => new ApiError(499, 'client_closed_request', null, 'the client closed the request before the answer was complete');

export function envelope({ message, status, param, code }: ApiError) {
  return { error: { message, type: errorType(status), param, code } };
}

function errorType(status: Status): string {
  if (status === 401) return 'authentication_error';
  if (status === 429) return 'rate_limit_error';
  return status >= 500 ? 'server_error' : 'invalid_request_error';
}
