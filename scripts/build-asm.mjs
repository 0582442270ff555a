// Compiles asm/ to WASM: one plain-SIMD build, one relaxed-SIMD build of the same source.
//   node scripts/build-asm.mjs                                  -> build/kernels.wasm, build/kernels-relaxed.wasm
//   node scripts/build-asm.mjs --entry asm/top-k.ts --out build/top-k.wasm     (one file, plain SIMD; for work on one kernel)
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { parseArgs } from 'node:util';
import asc from 'assemblyscript/asc';

const { values } = parseArgs({
  options: { entry: { type: 'string' }, out: { type: 'string' }, relaxed: { type: 'boolean', default: false } },
});

/** Memory comes from the host; static data starts at 1024 and ends at the exported __heap_base. No imports but memory. */
const flags = [
  '-O3',
  '--noAssert',
  '--runtime',
  'stub',
  '--importMemory',
  '--noExportMemory',
  '--initialMemory',
  '2',
  '--maximumMemory',
  '65536',
  '--zeroFilledMemory',
  '--memoryBase',
  '1024',
  '--enable',
  'simd',
];

async function build(entry, out, relaxed) {
  mkdirSync(dirname(out), { recursive: true });
  const { error, stderr } = await asc.main([entry, '-o', out, ...flags, ...(relaxed ? ['--enable', 'relaxed-simd'] : [])]);
  if (error) {
    console.error(stderr.toString());
    process.exit(1);
  }
  const warnings = stderr.toString();
  if (warnings) console.error(warnings);
}

if (values.entry) await build(values.entry, values.out ?? 'build/one.wasm', values.relaxed);
else {
  await build('asm/index.ts', 'build/kernels.wasm', false);
  await build('asm/index.ts', 'build/kernels-relaxed.wasm', true);
}
