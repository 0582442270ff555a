/**
 * Attention kernels alone, one thread: npx tsx bench/attention.ts [kernels.wasm]
 * GFLOPS count 4 d multiply-adds' worth (2 for q.k, 2 for p.v) per visible (query head, key) pair. Best of several runs.
 */
import { loadKernels } from '../test/support/kernels.ts';
import { Random } from '../test/support/random.ts';
import { entryTypes } from '../worker/backend/backend.ts';

const kernels = loadKernels(process.argv[2]);
const { exports } = kernels;
const random = new Random(1);

/** Best milliseconds of one call. */
function best(call: () => void): number {
  let least = Infinity;
  const end = performance.now() + 700;
  for (let run = 0; run < 5 || performance.now() < end; run++) {
    const from = performance.now();
    call();
    least = Math.min(least, performance.now() - from);
  }
  return least;
}

function fill(address: number, length: number): void {
  const view = kernels.f32(address, length);
  for (let i = 0; i < length; i++) view[i] = random.next() - 0.5;
}

const rows: Record<string, string | number>[] = [];

for (const [d, Hq, H, n, start] of [
  [64, 3, 1, 128, 1000 - 128],
  [64, 3, 1, 128, 4000 - 128],
  [64, 9, 3, 128, 1000 - 128],
  [64, 3, 3, 128, 1000 - 128],
  [64, 3, 1, 256, 0],
  [128, 2, 1, 128, 1000 - 128],
  [80, 2, 2, 128, 1000 - 128],
  [32, 4, 2, 128, 1000 - 128],
]) {
  kernels.reset();
  const keys = start + n;
  const q = kernels.alloc(n * Hq * d * 4);
  const out = kernels.alloc(n * Hq * d * 4);
  const k = kernels.alloc(keys * H * d * 4);
  const v = kernels.alloc(keys * H * d * 4);
  const scratch = kernels.alloc(exports.attendScratchBytes(d));
  fill(q, n * Hq * d);
  fill(k, keys * H * d);
  fill(v, keys * H * d);
  const ms = best(() => exports.attendCausal(out, q, k, v, n, start, Hq, H, d, 1 / Math.sqrt(d), 0, scratch));
  const pairs = Hq * (n * start + (n * (n + 1)) / 2);
  rows.push({ kernel: 'attendCausal', d, Hq, H, n, keys, ms: +ms.toFixed(3), GFLOPS: +((pairs * 4 * d) / ms / 1e6).toFixed(1) });
}

for (const [d, Hq, H, n, keys, type] of [
  [64, 9, 3, 1, 1000],
  [64, 9, 3, 1, 4000],
  [32, 4, 2, 1, 1000],
  [64, 8, 8, 1, 1000],
  [128, 32, 8, 1, 4000],
  [64, 9, 3, 4, 1000],
  [64, 9, 3, 128, 1000],
].flatMap((shape) => entryTypes.map((_, type) => [...shape, type]))) {
  kernels.reset();
  const E = [16, 32, Math.floor((64 * d) / (d + 4))][type];
  const scales = (2 * E * d + 3) & ~3;
  const pageBytes = [2 * E * d * 4, 2 * E * d * 2, scales + 2 * E * 4][type];
  const stride = Math.ceil(keys / E);
  const pool = kernels.alloc(H * stride * pageBytes);
  const table = kernels.put(Uint32Array.from({ length: H * stride }, (_, i) => i));
  const lengths = kernels.put(new Uint32Array(H).fill(keys));
  const rowsAt = kernels.alloc(keys * H * d * 4);
  fill(rowsAt, keys * H * d);
  const store = () => {
    for (let h = 0; h < H; h++) exports.storeEntries(pool, pageBytes, type, E, table + h * stride * 4, 0, rowsAt, rowsAt, 0, keys, h, H, d);
  };
  const storeMs = best(store);
  const q = kernels.alloc(n * Hq * d * 4);
  const out = kernels.alloc(n * Hq * d * 4);
  const scratch = kernels.alloc(exports.attendScratchBytes(d));
  fill(q, n * Hq * d);
  const ms = best(() =>
    exports.attendPaged(out, q, pool, pageBytes, type, E, lengths, table, stride, 0, E, n, keys - n, Hq, H, d, 1 / Math.sqrt(d), 0, scratch),
  );
  const pairs = Hq * (n * (keys - n) + (n * (n + 1)) / 2);
  const bytes = H * keys * d * 2 * [4, 2, 1][type];
  const kernel = `attendPaged ${entryTypes[type]}`;
  rows.push({
    kernel,
    d,
    Hq,
    H,
    n,
    keys,
    ms: +ms.toFixed(3),
    GFLOPS: +((pairs * 4 * d) / ms / 1e6).toFixed(1),
    'GB/s of pages': +(bytes / ms / 1e6).toFixed(1),
    'storeEntries GB/s read': +((keys * H * d * 8) / storeMs / 1e6).toFixed(1),
  });
}

console.table(rows);
