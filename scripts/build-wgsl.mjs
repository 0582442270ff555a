// Writes wgsl/*.wgsl as a module of strings, build/shaders.ts: no import form of .wgsl works on every runtime. A line `//#include "x.wgsl"` in a
// shader is replaced by that file, once. Beside each source stand its bindings and the fields of its Dims, by which host code names them.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';

const INCLUDE = /^\/\/#include "([^"]+)"$/gm;
const BINDING = /@group\(0\)\s*@binding\((\d+)\)\s*var<(storage, read_write|storage, read|uniform)>\s*(\w+)\s*:/g;
const FIELD = /^\s*(\w+)\s*:\s*(u32|i32|f32)\s*,/gm;

function joined(file, seen = new Set()) {
  return readFileSync(`wgsl/${file}`, 'utf8').replace(INCLUDE, (_, name) => {
    if (seen.has(name)) return '';
    seen.add(name);
    return joined(name, seen);
  });
}

function describe(file, source) {
  const found = [...source.matchAll(BINDING)].map(([, at, access, name]) => ({ at: Number(at), access, name }));
  found.sort((a, b) => a.at - b.at);
  if (found.some(({ at }, i) => at !== i)) throw new Error(`wgsl/${file}: bindings are not numbered 0, 1, 2, ...`);
  const last = found.pop();
  if (last?.name !== 'dims' || last.access !== 'uniform') throw new Error(`wgsl/${file}: the last binding must be var<uniform> dims: Dims`);
  const body = /struct Dims \{([^}]*)\}/.exec(source)?.[1];
  if (!body) throw new Error(`wgsl/${file}: no struct Dims`);
  const fields = body
    .replace(/\/\/.*$/gm, '')
    .split('\n')
    .filter((line) => line.trim() !== '');
  const dims = [...body.matchAll(FIELD)].map(([, name, type]) => ({ name, type }));
  if (dims.length !== fields.length) throw new Error(`wgsl/${file}: Dims has one field a line, u32, i32 or f32, each with a comma`);
  const bindings = found.map(({ name, access }) => ({ name, access: access === 'storage, read' ? 'read' : 'write' }));
  for (const { name } of bindings)
    if (dims[0] && !dims.some((field) => field.name === `${name}At`))
      throw new Error(`wgsl/${file}: Dims has no ${name}At, the index of the view's first element`);
  return { source, bindings, dims };
}

const shaders = {};
for (const file of readdirSync('wgsl').filter((name) => name.endsWith('.wgsl'))) {
  const source = joined(file);
  if (!source.includes('@compute')) throw new Error(`wgsl/${file}: no entry point; what others only include lies in wgsl/parts`);
  shaders[file.slice(0, -'.wgsl'.length)] = describe(file, source);
}
mkdirSync('build', { recursive: true });
writeFileSync(
  'build/shaders.ts',
  `// Made by scripts/build-wgsl.mjs from wgsl/.\nexport const shaders = ${JSON.stringify(shaders, null, 1)} as const;\n`,
);
