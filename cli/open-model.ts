/** Loads the model that a command names, with a progress bar where somebody watches. */
import { SingleBar } from 'cli-progress';
import type { EntryType } from '../worker/backend/backend.ts';
import type { EdgeEngine } from '../worker/engine/engine.ts';
import type { EngineSupply } from '../worker/engine/supply.ts';
import type { OpenedModel } from '../worker/engine/weights/open-model.ts';
import { openSupply } from '../worker/node.ts';
import type { ModelOptions } from './options.ts';

export async function openModel(options: ModelOptions, model?: OpenedModel): Promise<EdgeEngine> {
  return (await openSupplied(options, undefined, model)).current;
}

/** For a server: with another engine when the GPU fails. `entryType` is how entries are stored when a request does not say. */
export async function openSupplied(options: ModelOptions, entryType?: EntryType, model?: OpenedModel): Promise<EngineSupply> {
  const bar = progressBar(`loading ${options.model}`);
  try {
    return await openSupply(options.model, {
      backend: options.backend,
      kvPoolBytes: options.kvPool,
      memoryLimitBytes: options.memoryLimit,
      longestPrompt: options.longestPrompt,
      hiddenType: options.hiddenType,
      sequences: options.sequences,
      artifacts: options.artifacts,
      entryType,
      model,
      onProgress: bar.update,
      onNote: (note) => {
        bar.stop();
        console.error(`edgepress: ${note}`);
      },
    });
  } finally {
    bar.stop();
  }
}

/**
 * A bar on a terminal, silence elsewhere. `update` takes done and total in any unit; the time left is by the mean so far, as steps are of many sizes, and is told
 * once there is one.
 */
export function progressBar(title: string): { update(done: number, total: number): void; stop(): void } {
  if (!process.stderr.isTTY) return { update() {}, stop() {} };
  const bar = new SingleBar({
    format: `${title} [{bar}] {percentage}%{left}`,
    stream: process.stderr,
    clearOnComplete: true,
    hideCursor: true,
  });
  let started: { readonly at: number; readonly done: number } | null = null;
  return {
    update(done, total) {
      if (started === null) {
        started = { at: performance.now(), done };
        bar.start(total, done, { left: '' });
      } else bar.update(done, { left: timeLeft((performance.now() - started.at) / (done - started.done), total - done) });
    },
    stop() {
      if (started !== null) bar.stop();
    },
  };
}

function timeLeft(msEach: number, steps: number): string {
  const seconds = Math.ceil((msEach * steps) / 1000);
  if (!Number.isFinite(seconds)) return '';
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60)];
  return ` | ${hours > 0 ? `${hours}h ${minutes}m` : minutes > 0 ? `${minutes}m ${seconds % 60}s` : `${seconds}s`} left`;
}
