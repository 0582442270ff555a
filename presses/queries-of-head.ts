import type { AttentionShape, Backend, DeviceBuffer, View } from '../worker/backend/backend.ts';

const F32 = 4;

/** Of q [window, Hq, d] the queries of one KV head, [window, G, d]. */
export function queriesOfHead(
  { backend, scratch }: { readonly backend: Backend; scratch(bytes: number, label: string): DeviceBuffer },
  head: number,
  q: View,
  window: number,
  { queryHeads, kvHeads, headDim }: AttentionShape,
): View {
  const width = (queryHeads / kvHeads) * headDim;
  const out = scratch(window * width * F32, 'queries of one head');
  const rows = scratch(window * F32, 'their rows');
  backend.write(
    rows,
    Uint32Array.from({ length: window }, (_, i) => i * kvHeads + head),
  );
  backend.gather(out, q, { rows, stride: window }, window, 1, width);
  return out;
}
