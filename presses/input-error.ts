/**
 * The caller's mistake, found before any compute. The message has three parts: what is wrong, the value seen, what would
 * work. `param` is the field's path on the wire (press.layer_budget.bound_ratio); `code` is stable for programs.
 */
export class InputError extends Error {
  readonly code: string;
  readonly param: string | null;
  constructor(code: string, param: string | null, message: string) {
    super(message);
    this.name = 'InputError';
    this.code = code;
    this.param = param;
  }
}
