/** Shaders compiled once for each entry and set of override constants, and bind groups, made once for each set of buffers. */
import { shaders } from '../../../build/shaders.ts';
import type { Place } from './places.ts';

export type ShaderName = keyof typeof shaders;

const MOST_BIND_GROUPS = 8192;

export class Pipelines {
  readonly #device: GPUDevice;
  /** Where the Dims of every dispatch lie, at an offset of its own. */
  readonly #dims: GPUBuffer;
  readonly #pipelines = new Map<string, GPUComputePipeline>();
  readonly #layouts = new Map<ShaderName, GPUBindGroupLayout>();
  readonly #modules = new Map<ShaderName, GPUShaderModule>();
  readonly #groups = new Map<string, GPUBindGroup>();

  constructor(device: GPUDevice, dims: GPUBuffer) {
    this.#device = device;
    this.#dims = dims;
  }

  get(name: ShaderName, entry: string, constants: Readonly<Record<string, number>>): GPUComputePipeline {
    const key = `${name}/${entry} ${Object.entries(constants).join(' ')}`;
    const known = this.#pipelines.get(key);
    if (known) return known;
    let module = this.#modules.get(name);
    if (!module) this.#modules.set(name, (module = this.#device.createShaderModule({ label: name, code: shaders[name].source })));
    const pipeline = this.#device.createComputePipeline({
      label: key,
      layout: this.#device.createPipelineLayout({ bindGroupLayouts: [this.#layout(name)] }),
      compute: { module, entryPoint: entry, constants },
    });
    this.#pipelines.set(key, pipeline);
    return pipeline;
  }

  bind(name: ShaderName, bound: readonly Place[]): GPUBindGroup {
    const key = `${name} ${bound.map((place) => place.key).join(' ')}`;
    const known = this.#groups.get(key);
    if (known) return known;
    if (this.#groups.size >= MOST_BIND_GROUPS) this.#groups.clear();
    const entries: GPUBindGroupEntry[] = bound.map(({ gpu, offset, size }, binding) => ({ binding, resource: { buffer: gpu, offset, size } }));
    entries.push({ binding: bound.length, resource: { buffer: this.#dims, offset: 0, size: Math.ceil((shaders[name].dims.length * 4) / 16) * 16 } });
    const group = this.#device.createBindGroup({ layout: this.#layout(name), entries });
    this.#groups.set(key, group);
    return group;
  }

  /** Lets go of bind groups, which hold buffers. */
  forget(): void {
    this.#groups.clear();
  }

  close(): void {
    this.#groups.clear();
    this.#pipelines.clear();
  }

  #layout(name: ShaderName): GPUBindGroupLayout {
    const known = this.#layouts.get(name);
    if (known) return known;
    const entries: GPUBindGroupLayoutEntry[] = shaders[name].bindings.map(({ access }, binding) => ({
      binding,
      visibility: GPUShaderStage.COMPUTE,
      buffer: { type: access === 'read' ? 'read-only-storage' : 'storage' },
    }));
    entries.push({ binding: entries.length, visibility: GPUShaderStage.COMPUTE, buffer: { type: 'uniform', hasDynamicOffset: true } });
    const layout = this.#device.createBindGroupLayout({ label: name, entries });
    this.#layouts.set(name, layout);
    return layout;
  }
}
