/**
 * What compiles or computes on one WebGPU stack and not on another (naga in Deno, tint in Dawn and Chromium, Mesa's and SwiftShader's drivers): each is
 * kept out of wgsl/ by its text. That every shader really compiles on both is in test/gpu/shaders.test.ts.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';

interface Trap {
  readonly name: string;
  /** Matches what must not stand in a shader. */
  readonly found: RegExp;
  /** Code that has it, and code that is like it and has it not. */
  readonly bad: readonly string[];
  readonly good: readonly string[];
  /** Files that may have it: variants that are only compiled where the device has the feature. */
  readonly except?: RegExp;
}

const traps: readonly Trap[] = [
  {
    name: 'subgroups outside a .subgroups.wgsl: naga knows none',
    found: /enable\s+subgroups|subgroup[A-Z]\w*\s*\(|@builtin\(subgroup/,
    bad: ['enable subgroups;', 'let s = subgroupAdd(x);', '@builtin(subgroup_size) size: u32'],
    good: ['// without subgroups'],
    except: /\.subgroups\.wgsl$/,
  },
  {
    name: 'f16 outside a .shader-f16.wgsl: not every adapter has it',
    found: /enable\s+f16|\bf16\b(?!\s*(bits|weights|rows))|vec[234]h/,
    bad: ['enable f16;', 'var x: f16;', 'vec4<f16>', 'vec4h(1)'],
    good: ['f32'],
    except: /\.shader-f16\.wgsl$/,
  },
  {
    name: 'language extensions that naga lacks, immediates among them',
    found: /^\s*requires\b|var<\s*immediate\s*>|var<\s*push_constant\s*>/m,
    bad: ['requires unrestricted_pointer_parameters;', 'var<immediate> n: u32;'],
    good: ['// requires nothing'],
  },
  {
    name: 'pointers to storage or workgroup memory as parameters',
    found: /ptr\s*<\s*(storage|workgroup|uniform)/,
    bad: ['fn f(x: ptr<workgroup, f32>) {}'],
    good: ['fn f(x: ptr<function, f32>) {}'],
  },
  {
    name: 'a pointer to an element as an argument: naga panics',
    found: /(?<!atomic\w+|workgroupUniformLoad)[(,]\s*&\s*\w+\s*(\[|\.)/,
    bad: ['f(&a[1])', 'f(x, &s.y)'],
    good: ['f(&a)', 'a & b[1]', 'atomicAdd(&counts[i], 1u)'],
  },
  {
    name: 'assignment to several components',
    found: /\.(?:[xyzw]{2,4}|[rgba]{2,4})\s*(?:[-+*/&|^]|<<|>>)?=(?!=)/,
    bad: ['v.xy = w;', 'v.rgb += w;'],
    good: ['v.x = 1.0;', 'if (v.xy == w) {}', 'let w = v.xy;'],
  },
  {
    name: 'bitcast between u32 and f16 pairs',
    found: /bitcast\s*<\s*vec2\s*<\s*f16/,
    bad: ['bitcast<vec2<f16>>(x)'],
    good: ['unpack2x16float(x)'],
    except: /\.shader-f16\.wgsl$/,
  },
  {
    name: 'f32 literals beyond the largest number, infinities from bits',
    found: /3\.402823(4[7-9]|[5-9])\d*e\+?38|bitcast\s*<\s*f32\s*>\s*\(\s*0x[7f]f[8-9a-f]/i,
    bad: ['3.40282347e+38f', 'bitcast<f32>(0x7f800000u)', 'bitcast<f32>(0xff800000u)'],
    good: ['3.4e38', '-3.4028e38', 'bitcast<f32>(bits)'],
  },
  {
    name: 'a local var without a value: in a loop it keeps that of the last round, on every stack here',
    found: /^[ \t]+var\s+\w+\s*:[^=;]+;/m,
    bad: ['  var sum: f32;', '    var sums: array<f32, 4>;'],
    good: ['  var sum = 0.0;', '  var sums = array<f32, 4>();', 'var<workgroup> sums: array<f32, 64>;', '  var x: f32 = y;'],
  },
  {
    name: '`x != x` for NaN: drivers optimise it away; look at the bits',
    found: /(?<![%*/+.-]\s*)\b([A-Za-z_]\w*)\s*[!=]=\s*\1\b(?!\s*[[.(+*/%-])/,
    bad: ['if (x != x) {}', 'let n = !(sum == sum);'],
    good: ['if (x != y) {}', 'if (a.x != b.x) {}', 'if (x != x0) {}'],
  },
  {
    name: 'tanh: NaN for large arguments on SwiftShader',
    found: /\btanh\s*\(/,
    bad: ['tanh(x)'],
    good: ['exp(x)'],
  },
  {
    name: 'sin and cos: 3e-4 off on SwiftShader; the host makes the tables',
    found: /\b(sin|cos|tan)\s*\(/,
    bad: ['sin(angle)'],
    good: ['let cosine = table[i];'],
  },
  {
    name: 'pack2x16float: overflow is NaN here, infinity there',
    found: /\bpack2x16float\s*\(/,
    bad: ['pack2x16float(v)'],
    good: ['unpack2x16float(v)'],
  },
  {
    name: 'pack4xI8Clamp: wrong on wgpu with SwiftShader; clamp, then pack4xI8',
    found: /\bpack4x[IU]8Clamp\s*\(/,
    bad: ['pack4xI8Clamp(v)'],
    good: ['pack4xI8(clamp(v, vec4i(-128), vec4i(127)))'],
  },
  {
    name: '| and & beside shifts without parentheses: tint refuses',
    found: /[^<]<<\s*[\w.]+\s*[|&^](?![|&])|[|&^]\s*[\w.]+\s*<<(?!\s*=)/,
    bad: ['1u | 2u << 3u', 'a << 2u | b'],
    good: ['1u | (2u << 3u)', '(a << 2u) | b', 'a << 2u'],
  },
  {
    name: 'arrays in uniform structs: naga wants a stride of 16',
    found: /struct Dims \{[^}]*:\s*(array|vec\d|mat\d)/,
    bad: ['struct Dims { n: array<u32, 4>, }'],
    good: ['struct Dims { n: u32, }'],
  },
  {
    name: 'more workgroup memory, lanes or bindings than WebGPU promises',
    found: /@workgroup_size\(\s*(2(5[7-9]|[6-9]\d)|[3-9]\d\d|\d{4,})|@binding\((9|\d\d)\)/,
    bad: ['@workgroup_size(512)', '@workgroup_size(257)', '@binding(9)'],
    good: ['@workgroup_size(256)', '@workgroup_size(64)', '@binding(8)'],
  },
];

const shaders = ['', 'parts/']
  .flatMap((folder) => readdirSync(`wgsl/${folder}`).map((file) => `${folder}${file}`))
  .filter((file) => file.endsWith('.wgsl'))
  .map((file) => ({ file, code: withoutComments(readFileSync(`wgsl/${file}`, 'utf8')) }));

function withoutComments(source: string): string {
  return source.replace(/\/\/.*$/gm, '').replace(/\/\*[\s\S]*?\*\//g, '');
}

describe('no shader has', () => {
  test.each(traps.map((trap) => [trap.name, trap] as const))('%s', (_, { found, except, bad, good }) => {
    for (const code of bad) expect(withoutComments(code), 'the rule sees this').toMatch(found);
    for (const code of good) expect(withoutComments(code), 'the rule lets this pass').not.toMatch(found);
    for (const { file, code } of shaders) if (!except?.test(file)) expect(code, file).not.toMatch(found);
  });
});

test('every kernel of the WASM backend has a shader of its name', () => {
  const kernels = readFileSync('asm/index.ts', 'utf8');
  const names = [...kernels.matchAll(/from '\.\/([\w-]+)'/g)].map(([, name]) => name);
  // The ledger and the budget math stay in WASM; rounding x for q4 and q8 is an affair of integer SIMD.
  const alone = /^(ledger.*|kept-count|allocate|pyramid|ada-counts|relaxed-self-test|attend-rows)$/;
  const missing = names.filter((name) => !alone.test(name) && !shaders.some(({ file }) => file === `${name}.wgsl`));
  expect(missing).toEqual([]);
});
