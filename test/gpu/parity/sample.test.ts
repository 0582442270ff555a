import { afterAll, beforeAll, expect, test } from 'vitest';
import { at, type SampleSettings, type View } from '../../../worker/backend/backend.ts';
import { sampleScratchBytes } from '../../../worker/backend/webgpu/sampling.ts';
import { argmax, candidates, createSampler, penalise, seededRandom } from '../../../worker/engine/sampler.ts';
import { type Backends, Bench, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

/** f32 sums of up to 152k weights and an exp that is a few ulp off move a bound between two tokens by 1e-6; ten times that is allowed. */
const BOUND = 1e-5;
const BROKEN = 0xffffffff;
const PLAIN: SampleSettings = { temperature: 1, topK: 0, topP: 1, minP: 0, frequencyPenalty: 0, presencePenalty: 0 };
const GREEDY: SampleSettings = { ...PLAIN, temperature: 0 };

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

/** With the kernels for software adapters and with those for the others: sums are in the same order. */
async function onBoth<T>(work: () => Promise<T>): Promise<T> {
  const { software } = backends.gpu;
  const as = async (value: boolean): Promise<T> => {
    Object.defineProperty(backends.gpu, 'software', { value, configurable: true });
    return work();
  };
  try {
    const results = [await as(true), await as(false)];
    expect(results[1]).toEqual(results[0]);
    return results[0];
  } finally {
    Object.defineProperty(backends.gpu, 'software', { value: software, configurable: true });
  }
}

interface Case {
  readonly logits: Float32Array;
  readonly settings: SampleSettings;
  readonly draws: readonly number[];
}

async function withBench<T>(work: (bench: Bench) => Promise<T>): Promise<T> {
  const used = backends.gpu.memory.usedBytes;
  const bench = new Bench(backends.gpu);
  try {
    return await work(bench);
  } finally {
    bench.close();
    expect(backends.gpu.memory.usedBytes).toBe(used);
  }
}

/** The tokens of all draws of all cases, one after the other: one readback. Logits and tokens lie at odd offsets. */
function tokensOf(cases: readonly Case[]): Promise<Uint32Array> {
  return withBench(async (bench) => {
    const count = cases.reduce((sum, { draws }) => sum + draws.length, 0);
    const tokens = at(bench.room(count * 4 + 4), 4);
    const room = at(bench.room(Math.max(...cases.map(({ logits }) => logits.length)) * 4 + 12), 12);
    let i = 0;
    for (const { logits, settings, draws } of cases) {
      bench.backend.write(room, logits);
      for (const draw of draws) backends.gpu.sample(at(tokens, i++ * 4), room, logits.length, null, settings, draw);
    }
    return bench.u32(tokens, count);
  });
}

/** Whether the nucleus, or what min_p keeps, could be one token more or less for all that f32 can tell. */
function cutIsClose(logits: Float32Array, settings: SampleSettings): boolean {
  const { topP, minP } = settings;
  const probs = candidates(logits, { ...settings, topP: 1, minP: 0 })
    .probs.toSorted()
    .reverse();
  if (minP > 0 && probs.some((p) => Math.abs(p / probs[0] - minP) < BOUND * minP)) return true;
  let mass = 0;
  return topP < 1 && probs.some((p) => Math.abs((mass += p) - topP) < BOUND);
}

/** What `sample` of the host draws; it would work out the candidates anew each time. */
function drawn(ids: Int32Array, probs: Float64Array, draw: number): number {
  let left = draw;
  return ids[probs.findIndex((p) => (left -= p) < 0)] ?? ids[probs.findLastIndex((p) => p > 0)];
}

/** How many of the tokens are not the host's. Throws where f32 does not account for that. */
function compare(cases: readonly Case[], tokens: Uint32Array): { unequal: number; closeCuts: number } {
  let i = 0;
  let unequal = 0;
  let closeCuts = 0;
  for (const { logits, settings, draws } of cases) {
    const { ids, probs } = candidates(logits, settings);
    for (const draw of draws) {
      const token = tokens[i++];
      const want = drawn(ids, probs, draw);
      if (token === want) continue;
      unequal++;
      const place = ids.indexOf(token);
      const before = probs.subarray(0, Math.max(place, 0)).reduce((sum, p) => sum + p, 0);
      if (place >= 0 && draw > before - BOUND && draw < before + probs[place] + BOUND) continue;
      if (!cutIsClose(logits, settings))
        throw new Error(`token ${token} of ${logits.length} at ${draw}, ${want} expected, ${JSON.stringify(settings)}`);
      closeCuts++;
    }
  }
  return { unequal, closeCuts };
}

/** Logits as models have them, flat, peaked, in steps (many ties), with a few far ahead. */
function someLogits(random: Random, vocab: number): Float32Array {
  const kind = random.int(0, 4);
  const scale = [1, 3, 0.01, 2, 8][kind];
  const offset = random.pick([0, -20, 100]);
  const logits = random.normals(vocab, scale).map((x) => x + offset);
  if (kind === 3) return logits.map((x) => Math.round(x));
  if (kind === 1) for (let i = 0; i < 8; i++) logits[random.int(0, vocab - 1)] += 6;
  return logits;
}

function someSettings(random: Random, vocab: number): SampleSettings {
  const maybe = (value: number, off: number): number => (random.next() < 0.5 ? value : off);
  return {
    ...PLAIN,
    temperature: random.pick([0.2, 0.7, 1, 1, 1.3, 2]),
    topK: maybe(random.pick([1, 2, 5, 40, 100, random.int(1, vocab), vocab, vocab + 7]), 0),
    topP: maybe(random.pick([0, 0.1, 0.5, 0.9, 0.95, 0.99, random.next()]), 1),
    minP: maybe(random.pick([0.01, 0.05, 0.2, 1, random.next()]), 0),
  };
}

function someCases(random: Random, vocab: number, count: number, draws: number): Case[] {
  return Array.from({ length: count }, () => ({
    logits: someLogits(random, vocab),
    settings: someSettings(random, vocab),
    draws: Array.from({ length: draws }, () => random.next()),
  }));
}

test('sample: greedy is the argmax, the lower id among equals, whatever the other settings', async () => {
  const random = new Random(1);
  const cases: Case[] = [];
  for (const vocab of [1, 2, 31, 32, 33, 511, 512, 1000, 1024, 1025, 2048, 5000, 32_003, 151_936]) {
    for (let n = vocab > 10_000 ? 3 : 12; n > 0; n--)
      cases.push({ logits: someLogits(random, vocab), settings: { ...someSettings(random, vocab), temperature: 0 }, draws: [random.next()] });
    cases.push({ logits: new Float32Array(vocab).fill(-3), settings: GREEDY, draws: [0] });
    const last = new Float32Array(vocab).fill(-3e38);
    last[vocab - 1] = -2.9e38;
    cases.push({ logits: last, settings: GREEDY, draws: [0.9] });
  }
  const zeros = new Float32Array(2000).fill(-1);
  zeros.set([-0, 0], 1500); // equal, so 1500
  const tiny = new Float32Array(2000).fill(-1e-40);
  tiny[77] = 1e-45; // subnormal numbers are numbers
  cases.push({ logits: zeros, settings: GREEDY, draws: [0.5] }, { logits: tiny, settings: GREEDY, draws: [0.5] });
  expect([...(await onBoth(() => tokensOf(cases)))]).toEqual(cases.map(({ logits }) => argmax(logits)));
});

test('sample: draws what the host draws, but where a bound between two tokens is nearer than 1e-5', async () => {
  const random = new Random(2);
  for (const [vocab, count, draws] of [
    [1, 4, 2],
    [7, 100, 3],
    [33, 100, 3],
    [512, 300, 3],
    [1000, 100, 3],
    [1025, 100, 3],
    [5000, 40, 3],
    [49_152, 12, 4],
    [151_936, 3, 4],
  ]) {
    const cases = someCases(random, vocab, count, draws);
    const { unequal, closeCuts } = compare(cases, await onBoth(() => tokensOf(cases)));
    expect(unequal, `${vocab}: tokens that differ`).toBeLessThanOrEqual(Math.ceil(count * draws * 0.01));
    expect(closeCuts, `${vocab}: cuts that differ`).toBeLessThanOrEqual(Math.ceil(count * draws * 0.005));
  }
});

test('sample: each cut alone and all of them, on a vocabulary worked by hand', async () => {
  // weights 8 4 2 2 1 1 over 18, out of order: ids 4 1 0 3 2 5
  const logits = Float32Array.from([2, 4, 1, 2, 8, 1], Math.log);
  const draws = [0, 0.21, 0.42, 0.65, 0.87, 1 - 2 ** -53];
  const expected: [Partial<SampleSettings>, number[]][] = [
    [{}, [0, 1, 3, 4, 4, 5]], // bounds at 2 6 7 9 17 18
    [{ topK: 2 }, [1, 1, 4, 4, 4, 4]], // 4 12
    [{ topK: 3 }, [0, 1, 1, 4, 4, 4]], // 2 6 14: the lower of two ids with 2
    [{ topP: 0.6 }, [1, 1, 4, 4, 4, 4]], // 12 of 18 reach it
    [{ topP: 0.7 }, [0, 1, 1, 4, 4, 4]], // 14 of 18
    [{ minP: 0.2 }, [0, 1, 3, 4, 4, 4]], // 2 6 8 16
    [{ topK: 2, topP: 0.6 }, [4, 4, 4, 4, 4, 4]], // 8 of 12
    [{ topK: 5, topP: 0.9, minP: 0.3 }, [1, 1, 4, 4, 4, 4]],
    [{ temperature: 0.5, topK: 2 }, [1, 4, 4, 4, 4, 4]], // 16 80
    [{ topK: 6, topP: 0 }, [4, 4, 4, 4, 4, 4]],
  ];
  const tokens = await tokensOf(expected.map(([settings]) => ({ logits, settings: { ...PLAIN, ...settings }, draws })));
  for (const [i, [settings, want]] of expected.entries())
    expect([...tokens.subarray(i * draws.length, (i + 1) * draws.length)], JSON.stringify(settings)).toEqual(want);
});

test('sample: 2,000 draws follow the probabilities (chi-square), and the same ones again give the same tokens', async () => {
  const random = new Random(3);
  const next = seededRandom(4);
  const logits = random.normals(40);
  const settings = { ...PLAIN, temperature: 0.8, topK: 24, topP: 0.95 };
  const cases = [{ logits, settings, draws: Array.from({ length: 2000 }, next) }];
  const tokens = await tokensOf(cases);
  const { ids, probs } = candidates(logits, settings);
  const seen = new Float64Array(40);
  for (const token of tokens) seen[token]++;
  expect([...seen].every((n, id) => n === 0 || ids.includes(id))).toBe(true);
  const chiSquare = probs.reduce((sum, p, i) => sum + (seen[ids[i]] - 2000 * p) ** 2 / (2000 * p), 0);
  const freedom = ids.length - 1;
  expect(chiSquare).toBeLessThan(freedom + 4 * Math.sqrt(2 * freedom)); // four standard deviations
  const again = [{ logits, settings, draws: cases[0].draws.slice(0, 300) }];
  expect(await tokensOf(again)).toEqual(tokens.slice(0, 300));
});

test('sample: penalties from counts on the device, over a run of samples, as createSampler has them with the same seed', async () => {
  const random = new Random(5);
  for (const settings of [
    { ...GREEDY, frequencyPenalty: 0.7, presencePenalty: 0.1 },
    { ...GREEDY, presencePenalty: -1.5 },
    { ...PLAIN, frequencyPenalty: 0.3, presencePenalty: 0.6 },
    { ...PLAIN, temperature: 0.9, topK: 20, frequencyPenalty: -0.2 },
    { ...PLAIN, topP: 0.8, minP: 0.02, presencePenalty: 1.1 },
    { ...PLAIN, topK: 5 }, // counted all the same
  ]) {
    const vocab = 1100;
    const logits = Array.from({ length: 4 }, () => random.normals(vocab, 2));
    const host = createSampler({ ...settings, seed: 9, topLogprobs: null });
    const draw = seededRandom(9);
    await withBench(async (bench) => {
      const places: View[] = logits.map((numbers) => bench.put(numbers));
      const tokens = bench.room(100 * 4);
      const counts = at(bench.put(new Uint32Array(vocab + 3)), 12);
      for (let i = 0; i < 100; i++) {
        const uniform = settings.temperature === 0 ? 0 : draw();
        backends.gpu.sample(at(tokens, i * 4), places[i % 4], vocab, counts, settings, uniform);
      }
      const want = Array.from({ length: 100 }, (_, i) => host.next(logits[i % 4]).tokenId);
      expect([...(await bench.u32(tokens, 100))], JSON.stringify(settings)).toEqual(want);
      const counted = new Uint32Array(vocab);
      for (const id of want) counted[id]++;
      expect(await bench.u32(counts, vocab)).toEqual(counted);
    });
  }
});

test('sample: penalties of counts that were there before, at a real vocabulary', async () => {
  const random = new Random(6);
  const vocab = 32_000;
  const logits = random.normals(vocab, 3);
  const seen = new Map(Array.from({ length: 500 }, (_, i) => [argmax(logits) === i ? 0 : random.int(0, vocab - 1), random.int(1, 9)]));
  seen.set(argmax(logits), 3);
  const settings = { ...PLAIN, topK: 50, frequencyPenalty: 0.25, presencePenalty: 0.5 }; // exact in f32
  const draws = Array.from({ length: 20 }, () => random.next());
  const tokens = await withBench(async (bench) => {
    const counts = new Uint32Array(vocab);
    for (const [id, count] of seen) counts[id] = count;
    const place = bench.put(logits);
    const out = bench.room(draws.length * 4);
    for (const [i, draw] of draws.entries()) backends.gpu.sample(at(out, i * 4), place, vocab, bench.put(counts), settings, draw);
    return bench.u32(out, draws.length);
  });
  compare([{ logits: penalise(logits, seen, 0.25, 0.5), settings, draws }], tokens);
});

test('sample: a logit that is NaN or infinite gives no token and counts none', async () => {
  const vocab = 3000;
  const cases: { logits: Float32Array; settings: SampleSettings; broken: boolean }[] = [];
  for (const settings of [GREEDY, PLAIN, { ...PLAIN, topK: 3 }, { ...PLAIN, topP: 0.5, presencePenalty: 1 }])
    for (const value of [NaN, Infinity, -Infinity, -3.4e38, 3.4e38])
      for (const place of [0, 1023, 1024, 2999]) {
        const logits = new Float32Array(vocab);
        logits[place] = value;
        cases.push({ logits, settings, broken: !Number.isFinite(value) });
      }
  await withBench(async (bench) => {
    const tokens = bench.room(cases.length * 4);
    const counts = bench.put(new Uint32Array(vocab));
    const room = bench.room(vocab * 4);
    cases.forEach(({ logits, settings }, i) => {
      bench.backend.write(room, logits);
      backends.gpu.sample(at(tokens, i * 4), room, vocab, counts, settings, 0.3);
    });
    const got = await bench.u32(tokens, cases.length);
    for (const [i, { broken }] of cases.entries()) expect(broken ? got[i] === BROKEN : got[i] < vocab, `${i}: ${got[i]}`).toBe(true);
    const sum = (await bench.u32(counts, vocab)).reduce((a, b) => a + b, 0);
    expect(sum).toBe(cases.filter(({ broken }) => !broken).length);
  });
});

test('sample: two dispatches a token, and no more scratch than sampleScratchBytes', async () => {
  const { gpu } = backends;
  for (const settings of [GREEDY, PLAIN, { ...PLAIN, topK: 40 }, { ...PLAIN, topK: 40, topP: 0.9, minP: 0.05 }]) {
    await withBench(async (bench) => {
      const logits = bench.put(new Random(7).normals(49_152));
      const token = bench.room(4);
      const [dispatches, used] = [gpu.recorder.counts.dispatches, gpu.memory.usedBytes];
      gpu.buffers.peakBytes = used;
      gpu.sample(token, logits, 49_152, null, settings, 0.5);
      expect(gpu.recorder.counts.dispatches - dispatches).toBe(2);
      expect(gpu.memory.peakBytes - used).toBeLessThanOrEqual(sampleScratchBytes(49_152) * 1.125); // sizes are rounded up by an eighth at most
      await bench.u32(token, 1);
    });
  }
});
