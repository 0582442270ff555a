/**
 * What each press costs beside reading the prompt: `edgepress bench --presses`. Every run with a press stands beside one without, in turns, and what is
 * shown is the median of the pairs' ratios: the machine's moods fall on both alike. On WASM it is the process's CPU time, which others at work do not stretch.
 */
import { parsePress } from '../presses/config.ts';
import type { PressRequest } from '../presses/contract.ts';
import { InputError } from '../presses/input-error.ts';
import { partList, presetParts, presets } from '../presses/presets.ts';
import { formatBytes } from '../worker/engine/bytes.ts';
import type { EdgeEngine } from '../worker/engine/engine.ts';
import { median, once } from './bench-run.ts';

/** Above this share of the time of reading, a part says why. */
const WORTH_A_WORD = 0.05;

export interface PressCost {
  readonly press: string;
  /** Time of reading and pressing over the time of reading alone, minus 1 (CPU time on WASM); null where it was refused. */
  readonly share_of_prefill: number | null;
  /** Of which in scoring and selecting, as the engine's clock has it; null on a GPU, where both are queued together. */
  readonly press_ms: number | null;
  readonly bytes_press: number | null;
  readonly why: string | null;
}

/** "all", or preset names with commas. */
export function benchedPresses(asked: string): string[] {
  const names = asked === 'all' ? Object.keys(presets).filter((name) => name !== 'no_press') : asked.split(',').map((name) => name.trim());
  for (const name of names) parsePreset(name);
  return names;
}

/** A preset's name; what its parts cannot do without is told by the refusal, which the table shows. */
function parsePreset(name: string): PressRequest | InputError {
  try {
    return parsePress(name);
  } catch (error) {
    if (error instanceof InputError && Object.hasOwn(presets, name)) return error;
    throw error;
  }
}

export async function pressCosts(
  engine: EdgeEngine,
  names: readonly string[],
  { promptTokens, runs, done }: { promptTokens: number; runs: number; done: (cost: PressCost) => void },
): Promise<void> {
  const none = parsePress('no_press');
  const refused = (press: string, error: InputError): PressCost => ({
    press,
    share_of_prefill: null,
    press_ms: null,
    bytes_press: null,
    why: error.message,
  });
  await reading(engine, none, promptTokens); // warm-up
  for (const name of names) {
    const press = parsePreset(name);
    if (press instanceof InputError) {
      done(refused(name, press));
      continue;
    }
    try {
      const plan = await engine.plan({ prompt: { kind: 'length', tokens: promptTokens }, press, maxTokens: 1 });
      await reading(engine, press, promptTokens); // warm-up: kernels that only this press calls
      const pairs: { share: number; pressMs: number }[] = [];
      for (let i = 0; i < runs; i++) {
        const without = await reading(engine, none, promptTokens);
        const pressed = await reading(engine, press, promptTokens);
        pairs.push({ share: pressed.workMs / without.workMs - 1, pressMs: pressed.pressMs });
      }
      const share = median(pairs.map((pair) => pair.share));
      const words = partList(presetParts(name)!).flatMap(({ cost }) => cost ?? []);
      done({
        press: name,
        share_of_prefill: share,
        press_ms: engine.backend.queued ? null : median(pairs.map(({ pressMs }) => pressMs)),
        bytes_press: plan.bytes_press,
        why: share > WORTH_A_WORD ? words.join('; ') || null : null,
      });
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      done(refused(name, error));
    }
  }
}

export function printPressCost({ press, share_of_prefill: share, press_ms: ms, bytes_press: bytes, why }: PressCost): void {
  if (share === null) {
    console.log(`${press.padEnd(38)} not run: ${why}`);
    return;
  }
  const time = `${share >= 0 ? '+' : ''}${(100 * share).toFixed(1)}%`.padStart(8);
  console.log(
    `${press.padEnd(38)} ${time}  ${(ms === null ? '-' : `${ms.toFixed(0)} ms`).padStart(8)}  ${formatBytes(bytes!).padStart(10)}  ${why ?? ''}`.trimEnd(),
  );
}

export const COSTS_HEADER = `${'press'.padEnd(38)} ${'of prefill'.padStart(8)} ${'press'.padStart(7)}  ${'extra'.padStart(10)}`;

async function reading(engine: EdgeEngine, press: PressRequest, promptTokens: number): Promise<{ workMs: number; pressMs: number }> {
  const before = process.cpuUsage();
  const { timings } = await once(engine, press, { promptTokens, decodeTokens: 0 });
  const { user, system } = process.cpuUsage(before);
  return { workMs: engine.backend.queued ? timings.prefillMs + timings.pressMs : (user + system) / 1000, pressMs: timings.pressMs };
}
