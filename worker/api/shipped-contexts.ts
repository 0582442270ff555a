/**
 * Contexts that came with the server, for every key: contexts/<name>.pressed.safetensors in the worker's assets or the model's folder, as `edgepress press` writes them.
 * A document can be pressed where there is a GPU, and be asked about where there is none.
 */
import type { PressRequest } from '../../presses/contract.ts';
import { shownName } from '../../presses/did-you-mean.ts';
import { InputError } from '../../presses/input-error.ts';
import { checkSamePress } from '../engine/pressed/mount.ts';
import type { Engine, Held } from '../engine/types.ts';
import type { ModelFiles } from '../engine/weights/source.ts';
import { type MountedContext, type MountedOfEngine, withRoom } from './stored-contexts.ts';

export const SHIPPED_FOLDER = 'contexts';
export const SHIPPED_ENDING = '.pressed.safetensors';

/** No path leads out of the folder, and no stored context has such a name. */
export const isShippedName = (name: string): boolean => /^(?!ctx_)[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/.test(name);

export class ShippedContexts {
  readonly #files: ModelFiles;
  readonly #mounted: MountedOfEngine;
  readonly #stay: (work: Promise<unknown>) => void;

  constructor(files: ModelFiles, mounted: MountedOfEngine, stay: (work: Promise<unknown>) => void) {
    this.#files = files;
    this.#mounted = mounted;
    this.#stay = stay;
  }

  /** Throws InputError where there is none, or it is of another model or another press than `asked`. */
  async mount(engine: Engine, name: string, asked: PressRequest | null, signal: AbortSignal): Promise<MountedContext> {
    const mount = () => {
      const mounting = this.#read(engine, name);
      this.#stay(mounting.catch(() => {})); // others may wait for it
      return mounting;
    };
    const sizeUnknown = 0; // the file is opened only where it is not in memory; what it takes is counted once it is
    const { value: held, release } = await this.#mounted.of(engine).acquire(`shipped/${name}`, sizeUnknown, mount, signal);
    try {
      if (asked) checkSamePress(`context ${name}`, held.press, asked);
    } catch (error) {
      release();
      throw error;
    }
    return { id: name, held, release };
  }

  async #read(engine: Engine, name: string): Promise<Held> {
    const file = await this.#files.open(`${name}${SHIPPED_ENDING}`);
    if (file === null) {
      const message = `there is no context "${shownName(name)}": GET /v1/contexts lists those of this key, and none of that name came with the server`;
      throw new InputError('context_not_found', 'context', message);
    }
    try {
      return await withRoom(this.#mounted, () => engine.mount(file));
    } finally {
      await file.close?.();
    }
  }
}
