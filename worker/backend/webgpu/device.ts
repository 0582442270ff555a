/** A device with the limits that the engine can use, and what the adapter has beyond WebGPU's defaults. */

/** What is asked of the adapter beyond the defaults, as far as it has it: room for large matrices and pools. Kernels need the defaults only. */
const WANTED_LIMITS = ['maxBufferSize', 'maxStorageBufferBindingSize'] as const;
const WANTED_FEATURES = ['shader-f16', 'subgroups', 'timestamp-query'] as const;

export type Feature = (typeof WANTED_FEATURES)[number];

export interface OpenedDevice {
  readonly device: GPUDevice;
  readonly features: ReadonlySet<Feature>;
  /** What the adapter calls itself. */
  readonly adapterName: string;
  /** A software adapter: barriers and shared memory are slow there. */
  readonly software: boolean;
}

export interface DeviceOptions {
  /** Features to do without, for tests of the plain kernels. */
  readonly without?: readonly Feature[];
}

/** Null where the GPU object has no adapter. */
export async function openDevice(gpu: GPU, { without = [] }: DeviceOptions = {}): Promise<OpenedDevice | null> {
  const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter) return null;
  const features = WANTED_FEATURES.filter((name) => adapter.features.has(name) && !without.includes(name));
  const requiredLimits = Object.fromEntries(WANTED_LIMITS.map((name) => [name, adapter.limits[name]]));
  const device = await adapter.requestDevice({ requiredFeatures: features, requiredLimits });
  const { vendor, architecture, device: model, description } = adapter.info;
  const software = isSoftware(adapter, `${vendor} ${architecture} ${model} ${description}`);
  return {
    device,
    features: new Set(features),
    adapterName: description || model || `${vendor} ${architecture}`.trim() || 'unnamed adapter',
    software,
  };
}

/** isFallbackAdapter is in `info` by the newest text of the specification, on the adapter by older ones. */
function isSoftware(adapter: GPUAdapter, names: string): boolean {
  const flags = [adapter.info as { isFallbackAdapter?: boolean }, adapter as unknown as { isFallbackAdapter?: boolean }];
  return flags.some(({ isFallbackAdapter }) => isFallbackAdapter === true) || /llvmpipe|swiftshader|lavapipe/i.test(names);
}
