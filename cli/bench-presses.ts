/**
 * What each press costs beside reading the prompt: `edgepress bench --presses`.
 *   of prefill = press_ms / prefill_ms, both by the engine's clock in the same run: the machine's moods fall on both alike. Median over runs.
 *   whole run  = the time of a run with the press over one without, minus 1, in turns; median of the pairs. On WASM it is the process's CPU time,
 *                which others at work do not stretch; it moves by points all the same. It alone sees what reading does more for a press.
 * On a GPU, where both are queued together, the first is by the device's timestamps: kernels that only a press calls, over all others.
 */
import { isNoOp } from '../presses/config.ts';
import type { Press, PressRequest } from '../presses/contract.ts';
import { shownName } from '../presses/did-you-mean.ts';
import { InputError } from '../presses/input-error.ts';
import { presets } from '../presses/presets.ts';
import { WebGpuBackend } from '../worker/backend/webgpu.ts';
import { formatBytes } from '../worker/engine/bytes.ts';
import type { EdgeEngine } from '../worker/engine/engine.ts';
import type { Timings } from '../worker/engine/types.ts';
import { timesOfPress } from './bench-gpu.ts';
import { type Measured, median, once } from './bench-run.ts';
import { type PressOptions, pressOf } from './options.ts';

type Clocked = Pick<Timings, 'pressMs' | 'prefillMs'>;

/** Above this share of the time of reading, a part says why. */
const WORTH_A_WORD = 0.05;
/** Of a press that is given as JSON, on its line. */
const MOST_NAME = 120;

export interface PressCost {
  readonly press: string;
  readonly share_of_prefill: number | null;
  readonly press_ms: number | null;
  readonly prefill_ms: number | null;
  /** Null unless asked for. */
  readonly share_of_whole_run: number | null;
  /** Most that the press works with meanwhile, outside the cache. */
  readonly bytes_press: number | null;
  /** A word on the cost, where one of the shares is above 5%, or the clock cannot see it. */
  readonly why: string | null;
  /** Why there is no share of prefill. */
  readonly not_measured: string | null;
}

export interface AskedPress {
  readonly name: string;
  /** A preset that cannot do without a parameter: the refusal, for its line. */
  readonly press: PressRequest | InputError;
}

/** Each text is "all", preset names with commas, or one press as --press takes it: JSON or @file.json. */
export function askedPresses(texts: readonly string[], options: PressOptions): AskedPress[] {
  if (options.press !== 'no_press')
    throw new InputError('press_conflict', 'press', `--press ${options.press} beside --presses; name it there: --presses '${options.press}'`);
  return texts.flatMap((text) => {
    if (/^\s*[[{"@]/.test(text)) return [{ name: text.trim(), press: pressOf({ ...options, press: text }) }];
    const names = text === 'all' ? Object.keys(presets).filter((name) => name !== 'no_press') : text.split(',').map((name) => name.trim());
    return names.map((name) => ({ name, press: ofPreset(name, options) }));
  });
}

function ofPreset(name: string, options: PressOptions): PressRequest | InputError {
  try {
    return pressOf({ ...options, press: name });
  } catch (error) {
    if (error instanceof InputError && Object.hasOwn(presets, name)) return error;
    throw error;
  }
}

export interface CostOptions {
  readonly promptTokens: number;
  readonly runs: number;
  readonly pairs: boolean;
  /** Called before each press, with how long all that are left will take. */
  next(name: string, index: number, secondsLeft: number): void;
  done(cost: PressCost): void;
}

export async function pressCosts(engine: EdgeEngine, asked: readonly AskedPress[], none: PressRequest, options: CostOptions): Promise<void> {
  const { promptTokens, next, done } = options;
  await reading(engine, none, promptTokens); // warm-up
  const clock = new ReadingClock();
  const read: Read = (press) => clock.time(() => reading(engine, press, promptTokens));
  await read(none);
  for (const [index, { name, press }] of asked.entries()) {
    const readings = asked.slice(index).reduce((sum, one) => sum + readingsOf(one, options, engine.backend instanceof WebGpuBackend), 0);
    next(name, index, clock.secondsFor(readings));
    done(await costOf(engine, { name, press }, none, options, read));
  }
}

type Read = (press: PressRequest) => Promise<Measured & { workMs: number }>;

/** What one reading takes, in the mean of those so far: what is left is told by it. */
export class ReadingClock {
  #readings = 0;
  #ms = 0;

  async time<T>(read: () => Promise<T>): Promise<T> {
    const started = performance.now();
    const result = await read();
    this.#ms += performance.now() - started;
    this.#readings++;
    return result;
  }

  secondsFor(readings: number): number {
    return (readings * this.#ms) / this.#readings / 1000;
  }
}

/** How often the prompt is read for a press: once to warm up, and in every run; there without it too, and for the device's timestamps. None where it is refused. */
export function readingsOf({ press }: AskedPress, { runs, pairs }: Pick<CostOptions, 'runs' | 'pairs'>, onDevice: boolean): number {
  if (press instanceof InputError) return 0;
  return isNoOp(press) ? 1 : 1 + runs * (1 + Number(pairs) + Number(onDevice));
}

async function costOf(engine: EdgeEngine, { name, press }: AskedPress, none: PressRequest, options: CostOptions, read: Read): Promise<PressCost> {
  const { promptTokens, runs, pairs } = options;
  const nothing = { press: name, share_of_prefill: null, press_ms: null, prefill_ms: null, share_of_whole_run: null, bytes_press: null, why: null };
  if (press instanceof InputError) return { ...nothing, not_measured: `not run: ${press.message}` };
  try {
    const { bytes_press } = await engine.plan({ prompt: { kind: 'length', tokens: promptTokens }, press, maxTokens: 1 });
    const { timings } = await read(press); // warm-up: kernels that only this press calls
    // Scorers of hidden states score the prompt also where they act while decoding alone.
    const idle = timings.pressMs === 0 ? whyIdle(press) : null;
    if (idle !== null) return { ...nothing, bytes_press, not_measured: idle };
    const times: Clocked[] = [];
    const ratios: number[] = [];
    for (let i = 0; i < runs; i++) {
      const without = pairs ? await read(none) : null;
      const pressed = await read(press);
      if (without) ratios.push(pressed.workMs / without.workMs - 1);
      const timed = await clocked(engine, press, read, pressed);
      if (timed) times.push(timed);
    }
    const share = times.length > 0 ? median(times.map(({ pressMs, prefillMs }) => pressMs / prefillMs)) : null;
    const whole = pairs ? median(ratios) : null;
    const costs = Math.max(share ?? 0, whole ?? 0) > WORTH_A_WORD ? press.presses.flatMap(words) : press.presses.flatMap(unseen);
    return {
      press: name,
      share_of_prefill: share,
      press_ms: share === null ? null : median(times.map(({ pressMs }) => pressMs)),
      prefill_ms: share === null ? null : median(times.map(({ prefillMs }) => prefillMs)),
      share_of_whole_run: whole,
      bytes_press,
      why: [...new Set(costs)].join('; ') || null,
      not_measured: share === null ? 'the adapter has no timestamp queries, and a clock cannot tell reading from pressing there' : null,
    };
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    return { ...nothing, not_measured: `not run: ${error.message}` };
  }
}

function whyIdle(press: PressRequest): string | null {
  if (!isNoOp(press)) return null;
  const later = press.presses.some(({ schedule }) => schedule.part.decoding !== null);
  return later ? 'acts only while decoding: the prompt stays as it is' : 'removes nothing: no press';
}

function words({ scorer, layerBudget, headBudget, selection, transforms }: Press): string[] {
  return [scorer, layerBudget, headBudget, selection, ...transforms].flatMap(({ part }) => part.cost ?? []);
}

/** What is done in the middle of reading, where no clock tells it apart. */
function unseen({ layerBudget: { part } }: Press): string[] {
  return part.signal === 'measured' && part.change && part.cost ? [`the clock does not see that ${part.cost}`] : [];
}

async function reading(engine: EdgeEngine, press: PressRequest, promptTokens: number): Promise<Measured & { workMs: number }> {
  const before = process.cpuUsage();
  const measured = await once(engine, press, { promptTokens, decodeTokens: 0 });
  const { user, system } = process.cpuUsage(before);
  const { prefillMs, pressMs } = measured.timings;
  return { ...measured, workMs: engine.backend.queued ? prefillMs + pressMs : (user + system) / 1000 };
}

/** Null where nothing can tell them apart. */
function clocked({ backend }: EdgeEngine, press: PressRequest, read: Read, { timings }: Measured): Promise<Clocked | null> | Clocked {
  return backend instanceof WebGpuBackend ? timesOfPress(backend, () => read(press)) : timings;
}

export function costsHeader(width: number, pairs: boolean): string {
  return `${'press'.padEnd(width)} ${'of prefill'.padStart(10)}${pairs ? ` ${'whole run'.padStart(10)}` : ''} ${'press'.padStart(9)} ${'extra'.padStart(10)}`;
}

export function costLine(cost: PressCost, width: number, pairs: boolean): string {
  const { share_of_prefill: share, share_of_whole_run: whole, press_ms: ms, bytes_press: bytes } = cost;
  const percent = (value: number | null, sign = ''): string =>
    (value === null ? '-' : `${value > 0 ? sign : ''}${(100 * value).toFixed(1)}%`).padStart(10);
  const columns = [
    shownName(cost.press, MOST_NAME).padEnd(width),
    percent(share),
    ...(pairs ? [percent(whole, '+')] : []),
    (ms === null ? '-' : `${ms.toFixed(0)} ms`).padStart(9),
    (bytes === null ? '-' : formatBytes(bytes)).padStart(10),
  ];
  return `${columns.join(' ')}  ${[cost.not_measured, cost.why].filter((word) => word !== null).join('; ')}`.trimEnd();
}
