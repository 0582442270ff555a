/** What an engine computes with: a backend, the AssemblyScript module that keeps the ledger and the budgets, and the place for the weights. */
import type { BudgetMathHost } from '../../presses/budget-math.ts';
import { InputError } from '../../presses/input-error.ts';
import { at, type Backend, type DeviceBuffer, DeviceFailed } from '../backend/backend.ts';
import { Kernels } from '../backend/kernels.ts';
import { WasmBackend } from '../backend/wasm.ts';
import type { Host } from '../host.ts';
import type { LedgerHost } from './ledger.ts';
import type { Arena } from './weights/packed.ts';
import { type ArenaLayout, cutBefore } from './weights/plan.ts';

export interface Compute {
  readonly backend: Backend;
  readonly module: LedgerHost & BudgetMathHost;
  /** What the module's own data takes of the memory that the backend allocates from, and what of the limit is for memory outside. */
  readonly baseBytes: number;
  /** Most bytes that weights, cache and activations may have together. */
  readonly limitBytes: number;
  /** A KV pool of this size is usual. */
  readonly usualPoolBytes: number;
  /** Takes the bytes of the layout and writes into them. */
  arena(layout: ArenaLayout): { readonly block: DeviceBuffer; readonly arena: Arena };
}

/** WebAssembly's 4 GiB less one page; and what the module's static data needs. */
export const MOST_WASM_MEMORY = 65_535 * 65_536;
const LEAST_MEMORY = 2 * 65_536;
const MiB = 2 ** 20;

function ledgerHost({ exports, memory, heap }: Kernels): Compute['module'] {
  return {
    exports,
    memory,
    alloc: (bytes: number, label?: string) => heap.alloc(bytes, label ?? 'budget arguments'),
    free: (address: number) => heap.free(address),
  };
}

/** Weights, cache and activations in the module's own memory. Of the limit, `besideBytes` stay for the host's buffers. */
export async function wasmCompute(host: Host, besideBytes = 0): Promise<Compute> {
  const limitBytes = host.memoryLimitBytes ?? MOST_WASM_MEMORY;
  const kernels = await Kernels.create({ ...host, memoryLimitBytes: Math.max(limitBytes - besideBytes, LEAST_MEMORY) });
  const backend = new WasmBackend(kernels);
  return {
    backend,
    module: ledgerHost(kernels),
    baseBytes: besideBytes + kernels.heap.limitBytes - kernels.heap.freeBytes,
    limitBytes,
    usualPoolBytes: 64 * MiB,
    arena({ bytes }) {
      const block = backend.alloc(bytes, 'weights');
      const write = (offset: number, data: Uint8Array): void => backend.write(at(block, offset), data);
      return { block, arena: { write, view: (offset, length) => backend.view(at(block, offset), length) } };
    },
  };
}

/** Weights, cache and activations on the device that the host brings; null where it brings none. */
export async function webgpuCompute(host: Host): Promise<Compute | null> {
  if (!host.webgpu) return null;
  const kernels = await Kernels.create({ ...host, memoryLimitBytes: undefined });
  const backend = await host.webgpu({ limitBytes: host.memoryLimitBytes, ledgerMemory: kernels.memory }).catch((error: unknown) => {
    if (error instanceof InputError) throw error;
    throw new DeviceFailed('refused', error instanceof Error ? error.message : String(error)); // an adapter that gives no device
  });
  if (!backend) return null;
  return {
    backend,
    module: ledgerHost(kernels),
    baseBytes: 0,
    limitBytes: backend.memory.limitBytes,
    usualPoolBytes: Math.min(512 * MiB, backend.largestBytes),
    arena(layout) {
      const block = backend.alloc(layout.bytes, 'weights', (start, most) => cutBefore(layout, start, most));
      return {
        block,
        arena: {
          write: aligned(
            async (offset, data) => backend.write(at(block, offset), data),
            () => backend.pace(),
          ),
        },
      };
    },
  };
}

const WRITTEN_AHEAD = 64 * MiB;

/** Writes of any length as writes of whole words, as a device wants them: what is left over waits for the next one. Lets the device catch up now and then. */
function aligned(write: (offset: number, data: Uint8Array) => Promise<void>, pace: () => Promise<void>): Arena['write'] {
  let rest = new Uint8Array(); // the bytes before the next write's offset
  let unpaced = 0;
  return async (offset, bytes) => {
    let data = bytes;
    if (rest.length > 0) {
      data = new Uint8Array(rest.length + bytes.length);
      data.set(rest);
      data.set(bytes, rest.length);
    }
    const start = offset - rest.length;
    const whole = data.length - (data.length % 4);
    rest = data.slice(whole);
    await write(start, data.subarray(0, whole));
    unpaced += whole;
    if (unpaced < WRITTEN_AHEAD) return;
    unpaced = 0;
    await pace();
  };
}
