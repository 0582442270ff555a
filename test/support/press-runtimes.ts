/** What presses run on in tests: the float64 reference always, the WASM kernels where they are built with all that presses call. */
import { existsSync, readFileSync } from 'node:fs';
import { type BudgetMath, createBudgetMath } from '../../presses/budget-math.ts';
import type { Backend } from '../../worker/backend/backend.ts';
import { Kernels } from '../../worker/backend/kernels.ts';
import { WasmBackend } from '../../worker/backend/wasm.ts';
import { ReferenceBackend } from './reference-backend.ts';
import { referenceBudgetMath } from './reference-budget-math.ts';

export interface PressRuntime {
  readonly backend: Backend;
  readonly math: BudgetMath;
}

const CALLED = [
  'scoreWindow',
  'avgPool',
  'groupMean',
  'keyNorm',
  'cosineToMean',
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

export const runtimes: readonly { readonly name: string; make(): Promise<PressRuntime> }[] = [
  { name: 'reference', make: async () => ({ backend: new ReferenceBackend(), math: referenceBudgetMath }) },
  ...(simd === null
    ? []
    : [
        {
          name: 'wasm',
          async make() {
            const kernels = await Kernels.create({ kernels: { simd } });
            const { heap, memory } = kernels;
            const math = createBudgetMath({
              exports: kernels.exports as never,
              memory,
              alloc: (bytes) => heap.alloc(bytes, 'budget math'),
              free: (address) => heap.free(address),
            });
            return { backend: new WasmBackend(kernels), math };
          },
        },
      ]),
];
