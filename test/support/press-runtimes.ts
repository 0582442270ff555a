/** What presses run on in tests: the float64 reference always, the WASM kernels where they are built with all that presses call. */
import { existsSync, readFileSync } from 'node:fs';
import { type BudgetMath, createBudgetMath } from '../../presses/budget-math.ts';
import type { Backend } from '../../worker/backend/backend.ts';
import { Kernels } from '../../worker/backend/kernels.ts';
import { WasmBackend } from '../../worker/backend/wasm.ts';
import { openWebGpu } from '../../worker/backend/webgpu.ts';
import { ReferenceBackend } from './reference-backend.ts';
import { referenceBudgetMath } from './reference-budget-math.ts';

export interface PressRuntime {
  readonly backend: Backend;
  readonly math: BudgetMath;
}

const CALLED = [
  'scoreWindow',
  'scoreColumns',
  'windowMoments',
  'normScale',
  'rowCosine',
  'avgPool',
  'groupMean',
  'groupMax',
  'maxPool',
  'weigh',
  'blend',
  'reciprocal',
  'zScore',
  'keyNorm',
  'cosineToMean',
  'normShare',
  'lagScore',
  'segmentRank',
  'segmentMean',
  'outputNorm',
  'gelu',
  'gateScore',
  'tokenMean',
  'weightedGram',
  'quadraticForm',
  'choleskyInverse',
  'sketch',
  'rowSoftmax',
  'cosineTo',
  'turnKeys',
  'nearestKept',
  'mergeValues',
  'pruneChannels',
  'topK',
  'massCount',
  'keptCount',
  'allocate',
  'pyramid',
  'adaCounts',
];

function builtKernels(): WebAssembly.Module | null {
  const path = process.env.KERNELS ?? 'build/kernels.wasm';
  if (!existsSync(path)) return null;
  const module = new WebAssembly.Module(readFileSync(path));
  const exported = WebAssembly.Module.exports(module).map(({ name }) => name);
  return CALLED.every((name) => exported.includes(name)) ? module : null;
}

const simd = builtKernels();

async function wasmModule(): Promise<Kernels> {
  return Kernels.create({ kernels: { simd: simd! } });
}

function mathOf({ heap, memory, exports }: Kernels): BudgetMath {
  return createBudgetMath({
    exports,
    memory,
    alloc: (bytes) => heap.alloc(bytes, 'budget math'),
    free: (address) => heap.free(address),
  });
}

interface Runtime {
  readonly name: string;
  make(): Promise<PressRuntime>;
}

const onCpu: readonly Runtime[] = [
  { name: 'reference', make: async () => ({ backend: new ReferenceBackend(), math: referenceBudgetMath }) },
  {
    name: 'wasm',
    async make() {
      const kernels = await wasmModule();
      return { backend: new WasmBackend(kernels), math: mathOf(kernels) };
    },
  },
];

/** One device for all: opening one takes longer than most tests. */
let device: Promise<PressRuntime> | null = null;
const onGpu: readonly Runtime[] = [
  {
    name: 'webgpu',
    make: () =>
      (device ??= (async () => {
        const { testGpu } = await import('./gpu.ts');
        const kernels = await wasmModule();
        const backend = await openWebGpu(await testGpu(), { ledgerMemory: kernels.memory });
        return { backend: backend!, math: mathOf(kernels) };
      })()),
  },
];

/** vitest.gpu.config.ts sets GPU. */
export const runtimes: readonly Runtime[] = process.env.GPU ? onGpu : simd ? onCpu : onCpu.slice(0, 1);
/** The reference, and the kernels that are held against it. */
export const compared: readonly Runtime[] = [onCpu[0], runtimes[runtimes.length - 1]];
