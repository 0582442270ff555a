/**
 * Records dispatches, copies and small uploads in order, and submits them together. What a dispatch needs beside its buffers, its Dims and page
 * tables, is collected in one arena that goes up with one write before each submission: the queue keeps the order, so the arena is used again.
 */
import { shaders } from '../../../build/shaders.ts';
import type { View } from '../backend.ts';
import { GpuBlock } from './buffers.ts';
import { Pipelines, type ShaderName } from './pipelines.ts';
import { pieces, place, SPARE_BYTES, spare } from './places.ts';
import type { Profiler } from './profiler.ts';

export interface Dispatch {
  readonly entry?: string; // the shader's function; default main
  /** By binding. Numbers go up with the dispatch (page tables and the like); null = nothing there, which the kernel knows from its Dims. */
  readonly views: Readonly<Record<string, View | Uint32Array | Float32Array | null>>;
  /** By field; the index of each view's first element, `<binding>At`, is filled in. */
  readonly dims: Readonly<Record<string, number>>;
  /** Override constants. Each set of them is a pipeline of its own. */
  readonly constants?: Readonly<Record<string, number>>;
  /** Workgroups; where the first exceeds what a dimension can have, it goes on in the second (see `fold`). */
  readonly grid: readonly [number, number?, number?];
}

const ARENA_BYTES = 1 << 20;
const MOST_DISPATCHES = 4096; // in one submission
const MOST_GROUPS = 65_535; // in one dimension

/** What was done so far; tests and `edgepress bench` read it. */
export interface Counts {
  dispatches: number;
  submissions: number;
  uploadedBytes: number;
  readBytes: number;
}

/** What was done between two readings. */
export function countsSince(before: Counts, now: Counts): Counts {
  return {
    dispatches: now.dispatches - before.dispatches,
    submissions: now.submissions - before.submissions,
    uploadedBytes: now.uploadedBytes - before.uploadedBytes,
    readBytes: now.readBytes - before.readBytes,
  };
}

export class Recorder {
  readonly device: GPUDevice;
  readonly counts: Counts = { dispatches: 0, submissions: 0, uploadedBytes: 0, readBytes: 0 };
  profiler: Profiler | null = null;
  readonly #pipelines: Pipelines;
  readonly #arena: GpuBlock;
  readonly #arenaBytes = new Uint8Array(ARENA_BYTES);
  readonly #arenaView = new DataView(this.#arenaBytes.buffer);
  readonly #nothing: GpuBlock;
  readonly #spare: GpuBlock;
  readonly #align: number;
  #arenaUsed = 0;
  #encoder: GPUCommandEncoder | null = null;
  #pass: GPUComputePassEncoder | null = null;
  #pending = 0; // dispatches in the encoder
  readonly #afterSubmit: () => void;

  /** `afterSubmit` is called after each submission. */
  constructor(device: GPUDevice, afterSubmit: () => void) {
    this.device = device;
    this.#afterSubmit = afterSubmit;
    this.#align = Math.max(256, device.limits.minUniformBufferOffsetAlignment);
    const { STORAGE, UNIFORM, COPY_SRC, COPY_DST } = GPUBufferUsage;
    const own = (bytes: number, label: string): GpuBlock => {
      const gpu = device.createBuffer({ label, size: bytes, usage: STORAGE | UNIFORM | COPY_SRC | COPY_DST });
      return new GpuBlock(bytes, label, [{ gpu, start: 0, bytes }]);
    };
    this.#arena = own(ARENA_BYTES, 'arena');
    this.#pipelines = new Pipelines(device, this.#arena.segments[0].gpu);
    this.#nothing = own(SPARE_BYTES, 'nothing to read');
    this.#spare = own(16 * SPARE_BYTES, 'nothing to write');
  }

  dispatch(name: ShaderName, { entry = 'main', views, dims, constants = {}, grid }: Dispatch): void {
    const [x, y = 1, z = 1] = grid;
    if (x === 0 || y === 0 || z === 0) return;
    const shader = shaders[name];
    const pipeline = this.#pipelines.get(name, entry, constants);
    const given = shader.bindings.map(({ name: binding }) => {
      const view = views[binding];
      if (view === undefined) throw new Error(`${name}: no view for binding ${binding}`);
      return view;
    });
    // All of it in one submission, so room for all of it first.
    this.#reserve(given.reduce((sum, view) => sum + (isData(view) ? this.#aligned(view.byteLength) : 0), this.#aligned(shader.dims.length * 4)));
    const bound = given.map((view, i) => {
      if (isData(view)) return place(this.#upload(view));
      if (view !== null) return place(view);
      return shader.bindings[i].access === 'read' ? place(this.#nothing) : spare(this.#spare, i);
    });
    const at = Object.fromEntries(shader.bindings.map(({ name: binding }, i) => [`${binding}At`, bound[i].element]));
    const dimsAt = this.#take(shader.dims.length * 4);
    for (const [i, { name: field, type }] of shader.dims.entries()) {
      const value = dims[field] ?? at[field];
      if (value === undefined) throw new Error(`${name}: no value for ${field}`);
      if (type === 'f32') this.#arenaView.setFloat32(dimsAt + i * 4, value, true);
      else this.#arenaView.setInt32(dimsAt + i * 4, value, true);
    }
    const pass = this.#openPass(`${name}/${entry}`);
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, this.#pipelines.bind(name, bound), [dimsAt]);
    pass.dispatchWorkgroups(x, y, z);
    this.counts.dispatches++;
    if (this.profiler) this.#endPass();
    if (++this.#pending >= MOST_DISPATCHES) this.submit();
  }

  write(target: View, data: ArrayBufferView): void {
    const bytes = data.byteLength;
    if (bytes === 0) return;
    if (bytes % 4 !== 0) throw new Error(`write to ${target.buffer.label}: ${bytes} bytes, a multiple of 4 is expected`);
    if (bytes <= ARENA_BYTES / 4) {
      this.#reserve(this.#aligned(bytes));
      this.copy(target, this.#upload(data), bytes);
      return;
    }
    this.submit(); // what was recorded before must not see the new bytes
    for (const { gpu, offset, from, size } of pieces(target, bytes)) {
      this.device.queue.writeBuffer(gpu, offset, data.buffer as ArrayBuffer, data.byteOffset + from, size);
    }
    this.counts.uploadedBytes += bytes;
  }

  copy(target: View, source: View, bytes: number): void {
    if (bytes === 0) return;
    for (const to of pieces(target, bytes)) {
      for (const from of pieces({ buffer: source.buffer, offset: source.offset + to.from }, to.size)) {
        this.#copy(to.gpu, to.offset + from.from, from.gpu, from.offset, from.size);
      }
    }
  }

  /** Records a copy into `staging`, which the host can map once it is submitted. */
  copyOut(staging: GPUBuffer, source: View, bytes: number): void {
    for (const { gpu, offset, from, size } of pieces(source, bytes)) this.#copy(staging, from, gpu, offset, size);
    this.counts.readBytes += bytes;
  }

  submit(): void {
    this.#endPass();
    if (!this.#encoder) return;
    if (this.#arenaUsed > 0) this.device.queue.writeBuffer(this.#arena.segments[0].gpu, 0, this.#arenaBytes, 0, Math.ceil(this.#arenaUsed / 4) * 4);
    this.counts.uploadedBytes += this.#arenaUsed;
    this.profiler?.resolve(this.#encoder);
    this.device.queue.submit([this.#encoder.finish()]);
    this.counts.submissions++;
    this.#arenaUsed = 0;
    this.#encoder = null;
    this.#pending = 0;
    this.#afterSubmit();
  }

  /** Buffers are about to be destroyed: bind groups may hold them. */
  forget(): void {
    this.submit();
    this.#pipelines.forget();
  }

  close(): void {
    this.#pass = null;
    this.#encoder = null;
    for (const block of [this.#arena, this.#nothing, this.#spare]) block.segments[0].gpu.destroy();
    this.#pipelines.close();
  }

  #copy(to: GPUBuffer, toOffset: number, from: GPUBuffer, fromOffset: number, bytes: number): void {
    this.#endPass();
    if (to === from) {
      // WebGPU refuses copies within one buffer: by way of another.
      const size = Math.ceil(bytes / 4) * 4;
      const between = this.device.createBuffer({ label: 'copy', size, usage: GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST });
      this.#open().copyBufferToBuffer(from, fromOffset, between, 0, bytes);
      this.#open().copyBufferToBuffer(between, 0, to, toOffset, bytes);
      return; // collected when the submission is done with it
    }
    this.#open().copyBufferToBuffer(from, fromOffset, to, toOffset, bytes);
  }

  #open(): GPUCommandEncoder {
    this.#encoder ??= this.device.createCommandEncoder();
    return this.#encoder;
  }

  #openPass(label: string): GPUComputePassEncoder {
    if (!this.#pass) {
      const timestampWrites = this.profiler?.next(label);
      this.#pass = this.#open().beginComputePass(timestampWrites ? { timestampWrites } : undefined);
    }
    return this.#pass;
  }

  #endPass(): void {
    this.#pass?.end();
    this.#pass = null;
  }

  #aligned(bytes: number): number {
    return Math.ceil(bytes / this.#align) * this.#align;
  }

  /** Sees to it that so many bytes of the arena are free. */
  #reserve(bytes: number): void {
    if (bytes > ARENA_BYTES) throw new Error(`${bytes} bytes are too many for one upload`);
    if (this.#arenaUsed + bytes > ARENA_BYTES) this.submit();
  }

  #take(bytes: number): number {
    this.#open();
    const offset = this.#arenaUsed;
    this.#arenaUsed += this.#aligned(bytes);
    return offset;
  }

  #upload(data: ArrayBufferView): View {
    const offset = this.#take(data.byteLength);
    this.#arenaBytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), offset);
    return { buffer: this.#arena, offset };
  }
}

/** A count of workgroups as x and y: a kernel finds its own as y * num_workgroups.x + x, and must look whether there are so many. */
export function fold(groups: number): [number, number] {
  const x = Math.min(groups, MOST_GROUPS);
  return [x, x === 0 ? 0 : Math.ceil(groups / x)];
}

function isData(view: View | Uint32Array | Float32Array | null): view is Uint32Array | Float32Array {
  return ArrayBuffer.isView(view);
}
