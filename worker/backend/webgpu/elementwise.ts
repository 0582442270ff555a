/** rms-norm, rope, swiglu, gelu, halve, widen on the device. */
import type { NormPart, RopePart, View } from '../backend.ts';
import type { Gpu } from './gpu.ts';
import type { ShaderName } from './pipelines.ts';
import { fold } from './recorder.ts';

/** Kernels take two arrays of rows at once. */
function* pairs<T>(parts: readonly T[]): Generator<[T, T | undefined]> {
  for (let i = 0; i < parts.length; i += 2) yield [parts[i], parts[i + 1]];
}

function samePlace(a: View, b: View): boolean {
  return a.buffer === b.buffer && a.offset === b.offset;
}

function normKernel({ software, features }: Gpu): { name: ShaderName; entry: string } {
  if (software) return { name: 'rms-norm', entry: 'alone' };
  return features.has('subgroups') ? { name: 'rms-norm.subgroups', entry: 'bySubgroups' } : { name: 'rms-norm', entry: 'main' };
}

export function rmsNorm(gpu: Gpu, parts: readonly NormPart[], cols: number, eps: number): void {
  for (const inPlace of [false, true]) {
    const alike = parts.filter(({ x, out }) => samePlace(x, out) === inPlace);
    for (const [first, second] of pairs(alike)) {
      const rows1 = second?.rows ?? 0;
      const rows = first.rows + rows1;
      const { name, entry } = normKernel(gpu);
      gpu.recorder.dispatch(name, {
        entry,
        views: {
          x0: inPlace ? null : first.x,
          weight0: first.weight,
          out0: first.out,
          x1: inPlace || !second ? null : second.x,
          weight1: second?.weight ?? null,
          out1: second?.out ?? null,
        },
        dims: { rows0: first.rows, rows1, cols, inPlace: Number(inPlace), eps },
        grid: fold(gpu.software ? Math.ceil(rows / 64) : rows),
      });
    }
  }
}

export function rope(gpu: Gpu, parts: readonly RopePart[], table: View, n: number, headDim: number): void {
  for (const [first, second] of pairs(parts)) {
    const heads1 = second?.heads ?? 0;
    gpu.recorder.dispatch('rope', {
      views: { x0: first.x, x1: second?.x ?? null, table },
      dims: { n, heads0: first.heads, heads1, headDim },
      grid: fold(Math.ceil((n * (first.heads + heads1) * headDim) / 2 / 256)),
    });
  }
}

export function swiglu(gpu: Gpu, out: View, gate: View, up: View, count: number): void {
  const inPlace = samePlace(out, gate);
  gpu.recorder.dispatch('swiglu', {
    views: { gate: inPlace ? null : gate, up, out },
    dims: { count, inPlace: Number(inPlace) },
    grid: fold(Math.ceil(count / 256)),
  });
}

export function gelu(gpu: Gpu, out: View, x: View, count: number): void {
  const inPlace = samePlace(out, x);
  gpu.recorder.dispatch('gelu', {
    views: { x: inPlace ? null : x, out },
    dims: { count, inPlace: Number(inPlace) },
    grid: fold(Math.ceil(count / 256)),
  });
}

export function halve(gpu: Gpu, out: View, x: View, count: number): void {
  gpu.recorder.dispatch('halve', { views: { x, out }, dims: { words: count / 2 }, grid: fold(Math.ceil(count / 512)) });
}

export function widen(gpu: Gpu, out: View, x: View, count: number): void {
  gpu.recorder.dispatch('widen', { views: { x, out }, dims: { words: count / 2 }, grid: fold(Math.ceil(count / 512)) });
}
