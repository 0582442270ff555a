/** What one owner may keep. Contexts count, and blobs that are being written; what is over does not. */
import { InputError } from '../../presses/input-error.ts';

export interface Quota {
  readonly count: number;
  readonly bytes: number;
}

export const DEFAULT_QUOTA: Quota = { count: 1000, bytes: 4 * 2 ** 30 };

/** Longest-prefix look-ups go over all of an owner's contexts that begin alike. */
export const MOST_COUNT = 10_000;

export class QuotaError extends InputError {
  readonly held: Quota;
  /** Bytes; null: refused before it was known. */
  readonly asked: number | null;
  /** What could still be added. */
  readonly fits: Quota;
  constructor(held: Quota, asked: number | null, most: Quota) {
    const fits = { count: Math.max(0, most.count - held.count), bytes: Math.max(0, most.bytes - held.bytes) };
    const works = fits.count === 0 || fits.bytes === 0 ? 'nothing more fits' : `one of ${mebibytes(fits.bytes)} would fit`;
    super(
      asked !== null && asked > most.bytes ? 'context_too_large' : 'context_quota_exceeded',
      null,
      `this key holds ${held.count} of ${most.count} contexts and ${mebibytes(held.bytes)} of ${mebibytes(most.bytes)}${asked === null ? '' : `; this one takes ${mebibytes(asked)}`}: ` +
        `${works}, deleting some makes room, and so does a higher compression_ratio`,
    );
    this.name = 'QuotaError';
    this.held = held;
    this.asked = asked;
    this.fits = fits;
  }
}

/** Throws QuotaError where `asked` bytes do not fit beside what is held. */
export function checkQuota(held: Quota, asked: number, most: Quota): void {
  if (held.count + 1 > most.count || held.bytes + asked > most.bytes) throw new QuotaError(held, asked, most);
}

export function checkedQuota(quota: Quota): Quota {
  const whole = (name: keyof Quota, most: number) => {
    const value = quota[name];
    if (!Number.isSafeInteger(value) || value < 0 || value > most)
      throw new InputError('invalid_value', null, `the quota's ${name} must be a whole number from 0 to ${most}, got ${value}`);
  };
  whole('count', MOST_COUNT);
  whole('bytes', Number.MAX_SAFE_INTEGER);
  return quota;
}

/** Exact where digits would hide the difference. */
function mebibytes(bytes: number): string {
  const mib = bytes / 2 ** 20;
  return bytes < 2 ** 20 ? `${bytes} bytes` : `${Number.isInteger(mib) ? mib : mib.toFixed(2)} MiB`;
}
