/** Every shader compiles on this stack, each entry point, within WebGPU's default limits. */
import { afterAll, expect, test } from 'vitest';
import { shaders } from '../../build/shaders.ts';
import { openDevice } from '../../worker/backend/webgpu/device.ts';
import { stack, testGpu } from '../support/gpu.ts';

const opened = await openDevice(await testGpu());
if (!opened) throw new Error('the adapter is gone');
const { device, features } = opened;
afterAll(() => device.destroy());

/** naga has no subgroups, whatever the adapter has. */
const needs = (source: string): readonly string[] => [
  ...(/enable\s+subgroups/.test(source) ? ['subgroups'] : []),
  ...(/enable\s+f16/.test(source) ? ['shader-f16'] : []),
];

const all = Object.entries(shaders).map(([name, { source }]) => ({ name, source, needs: needs(source) }));
const here = all.filter((shader) => shader.needs.every((feature) => features.has(feature as never)));

test.each(here.map((shader) => [shader.name, shader] as const))(`${stack} compiles %s`, async (name, { source }) => {
  device.pushErrorScope('validation');
  const module = device.createShaderModule({ label: name, code: source });
  const { messages } = await module.getCompilationInfo();
  expect(messages.filter(({ type }) => type === 'error').map(({ message, lineNum }) => `${lineNum}: ${message}`)).toEqual([]);
  const entries = [...source.matchAll(/@compute[^{]*?fn\s+(\w+)/g)].map(([, entry]) => entry);
  expect(entries.length).toBeGreaterThan(0);
  for (const entryPoint of entries) await device.createComputePipelineAsync({ layout: 'auto', compute: { module, entryPoint } });
  expect((await device.popErrorScope())?.message).toBeUndefined();
});

test('variants are the only shaders that are left out here, each beside a plain one', () => {
  for (const { name, needs: wanted } of all.filter((shader) => !here.includes(shader))) {
    expect(wanted.length).toBeGreaterThan(0);
    expect(all.map((shader) => shader.name)).toContain(name.split('.')[0]);
  }
});
