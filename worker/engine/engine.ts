/** The engine: checks a request, waits for room, reads and presses the prompt, decodes. Knows nothing of HTTP. */

import type { PressReads } from '../../presses/check-press.ts';
import { decodingPress } from '../../presses/check-schedule.ts';
import type { PressRequest } from '../../presses/contract.ts';
import { InputError } from '../../presses/input-error.ts';
import { type Backend, DeviceFailed, type EntryType, OutOfDeviceMemory, readFloats, type View } from '../backend/backend.ts';
import type { Artifacts } from './artifacts.ts';
import { createDecoder, type Decoder } from './decode.ts';
import { Eviction, recentBytes } from './eviction.ts';
import type { Forward, TakeLogits } from './forward.ts';
import { Gate } from './gate.ts';
import { GivenUp } from './given-up.ts';
import { type HeldContext, heldPrompt } from './held.ts';
import { HeldContexts, type HeldMemory } from './held-contexts.ts';
import { type Inspection, inspection } from './inspection.ts';
import { checkJob, type Job, type JobParts } from './job.ts';
import type { KvSequence } from './kv-cache.ts';
import type { MemoryPlan } from './memory-plan.ts';
import {
  checkMount,
  checkMountRoom,
  fillLayer,
  finishMounting,
  type MountedLayer,
  mountedFacts,
  openMounting,
  readMountedLayer,
} from './pressed/mount.ts';
import { openPressed } from './pressed/open.ts';
import { type PressedSource, pressedSource } from './pressed/write.ts';
import { checkVocabulary, tokenise } from './prompt-tokens.ts';
import { PromptReader } from './read-prompt.ts';
import type { Reading } from './reading.ts';
import { isStatic } from './request-size.ts';
import { type Reusable, reusableBy } from './reusable.ts';
import { checkRoom, fits, mostWorkBytes, pressWorkBytes, promptReads } from './room.ts';
import { TextStream } from './text-stream.ts';
import { type Running, Spent, Turns } from './turns.ts';
import type {
  Engine,
  GenerateEvent,
  GenerateRequest,
  Health,
  Held,
  HoldRequest,
  KvCacheUsage,
  ModelInfo,
  MountedRequest,
  PressPlan,
  PromptInput,
  PromptLength,
  TokenLogprob,
} from './types.ts';
import { type RangeReader, readerOfBytes } from './weights/source.ts';

export interface EngineParts extends JobParts {
  readonly artifacts: Artifacts;
  readonly plan: MemoryPlan;
  readonly backend: Backend;
  readonly forward: Forward;
  readonly eosIds: readonly number[];
  /** Gives back weights and whatever else the loader took. */
  dispose(): void;
}

/** Under a press, or behind a held context. */
export type FollowRequest = (Pick<GenerateRequest, 'prompt' | 'press' | 'reading'> | Pick<MountedRequest, 'prompt' | 'held'>) & {
  /** What goes on behind the prompt. */
  readonly tokens: readonly number[];
  /** For presses that draw; null = a random one. */
  readonly seed?: number | null;
};

export class EdgeEngine implements Engine {
  readonly info: ModelInfo;
  readonly #parts: EngineParts;
  readonly #admission: Gate;
  readonly #turns: Turns;
  readonly #reader: PromptReader;
  readonly #running = new Set<Running>();
  readonly #held: HeldContexts;
  #closed = false;

  constructor(parts: EngineParts) {
    this.#parts = parts;
    this.info = parts.info;
    this.#admission = new Gate(parts.options.maxWaiting);
    const places = parts.cache.ledger.geometry.sequences; // half of them are left to requests
    this.#held = new HeldContexts(Math.floor(places / 2), () => this.#admission.poke());
    this.#turns = new Turns(() => parts.backend.pace());
    this.#reader = new PromptReader(parts, this.#turns);
  }

  /** Why this engine answers nobody any more, though it was not closed: its device failed. Null while it works. */
  get failure(): Error | null {
    return this.#parts.backend.failure;
  }

  /** For measurements. Whoever computes with it must not do so while a request runs. */
  get backend(): Backend {
    return this.#parts.backend;
  }

  health(): Health {
    const { backend, cache, forward, plan } = this.#parts;
    const { usedBytes, peakBytes, limitBytes } = backend.memory;
    return {
      status: 'ok',
      model: this.info,
      backend: { name: backend.name, variant: backend.variant },
      memory: {
        used_bytes: usedBytes,
        peak_bytes: peakBytes,
        limit_bytes: Number.isFinite(limitBytes) ? limitBytes + plan.besideBytes : null,
        beside_bytes: plan.besideBytes,
        weights_bytes: this.info.weightBytes,
        fixed_bytes: plan.fixedBytes,
        kv_pool_bytes: cache.poolBytes,
        kv_used_bytes: cache.usedBytes,
        kv_reserved_bytes: cache.reservedBytes,
        ledger_bytes: cache.ledgerBytes,
        reading_bytes: Number.isFinite(limitBytes) ? plan.readingBytes : null,
        longest_prompt: plan.longestPrompt,
        hidden_type: forward.hiddenType,
      },
      requests: { running: this.#running.size, waiting: this.#admission.waiting },
      contexts: this.#held.account,
    };
  }

  tokenise(prompt: PromptInput): readonly number[] {
    return this.encode(prompt).tokens;
  }

  /** A prompt as token ids, with what scope "context" covers of them: checked once, it is not tokenised again for every press. */
  encode(prompt: PromptInput): Extract<PromptInput, { kind: 'tokens' }> {
    this.#turns.checkOpen();
    return { kind: 'tokens', ...tokenise(this.#parts, prompt) };
  }

  async plan({ prompt, press, maxTokens }: Parameters<Engine['plan']>[0]): Promise<PressPlan> {
    const { cache } = this.#parts;
    const job = await this.#check(prompt, press, maxTokens);
    const { tokens, covered, scope, checked, added, entryType, size } = job;
    const even = { min: covered, max: covered };
    return {
      press: press.name,
      scope,
      tokens: covered,
      prompt_tokens: tokens.length,
      compression_ratio: checked ? 1 - (checked.averageBudget + (added?.rows ?? 0)) / covered : 0,
      average_budget: checked ? checked.averageBudget : covered,
      ...(added && { added_per_layer: added.rows }),
      per_layer: checked ? checked.bounds.map(({ min, max }) => ({ min, max })) : new Array(this.info.layers).fill(even),
      exact: checked ? isStatic(checked) : true,
      entry_type: entryType,
      bytes_full: size.pagesFull * cache.pageBytes,
      bytes_kept: size.pagesKept * cache.pageBytes,
      bytes_peak: size.bytesPeak,
      bytes_press: pressWorkBytes(job, this.#parts),
      pool_bytes: cache.poolBytes,
      fits: fits(job, this.#parts, this.#reader.freeBytes),
    };
  }

  async *generate(request: GenerateRequest | MountedRequest, signal?: AbortSignal): AsyncGenerator<GenerateEvent, void, void> {
    const { sampling } = request;
    const { reading, along }: Partial<GenerateRequest> = 'held' in request ? {} : request;
    const { backend, forward, tokenizer } = this.#parts;
    const { vocabSize } = this.info;
    if (along) checkVocabulary(along.tokens, this.info, 'tokens');
    const job = await this.#checkRequest(request, sampling.maxTokens);
    if (along && along.tokens.length > job.maxTokens)
      throw new Error(`an answer of ${job.maxTokens} tokens has no room for ${along.tokens.length} others`);
    if (along && job.decoding) throw new Error('what a press evicts along other tokens does not come back for the answer');
    const run = await this.#admit(job, sampling.seed, signal);
    let decoder: Decoder | null = null;
    try {
      const { sequence, eviction } = run;
      const recent = eviction?.recent ?? null;
      const start = job.tokens.length + job.rows;
      const parts = { backend, forward, sequence, recent, start, vocabSize };
      const answer = createDecoder(parts, sampling);
      decoder = answer;
      const take = async (view: View): Promise<void> => along?.take(await readFloats(backend, view, vocabSize));
      const begin = async (logits: View): Promise<void> => {
        await take(logits);
        await answer.begin(logits);
      };
      const usage = await this.#reader.read(job, run, begin, signal, reading);
      this.#admission.poke(); // it may hold less from now on
      yield { type: 'prompt', promptTokens: job.tokens.length, kvCache: usage };

      for (const [i, token] of (along?.tokens ?? []).entries())
        await this.#turns.piece(run, 'decodeMs', () => take(forward.extend([token], start + i, sequence, true, recent)!), signal);
      if (along) sequence.dropNewest(along.tokens.length);

      const text = new TextStream(tokenizer, sampling.stop);
      const eos = new Set(sampling.ignoreEos ? [] : this.#parts.eosIds);
      let count = 0;
      let ended = false;
      while (count < job.maxTokens && !ended) {
        const read = job.tokens.length + Math.max(0, count - 1); // the newest token is not read yet
        if (count > 0) await this.#makeRoom(run, read, signal);
        // Tokens are read ahead up to the next compression, so that what is discarded was always appended after the last one.
        const left = Math.min(job.maxTokens - count, eviction && count > 0 ? eviction.room(read) : Infinity);
        const tokens = await this.#turns.piece(run, 'decodeMs', () => answer.next(left), signal);
        for (const [i, { tokenId, logprobs }] of tokens.entries()) {
          count++;
          ended = eos.has(tokenId);
          const piece = ended ? null : text.push(tokenId, logprobs && this.#named(tokenId, logprobs));
          if (piece) yield piece;
          ended ||= text.stopped;
          if (!ended) continue;
          answer.discard(tokens.length - 1 - i);
          break;
        }
      }
      const rest = text.flush();
      if (rest) yield rest;
      const kvCache = eviction ? { ...usage, decoding: eviction.usage } : usage;
      yield {
        type: 'finish',
        reason: ended || text.stopped ? 'stop' : 'length',
        usage: { promptTokens: job.tokens.length, cachedTokens: job.held?.tokens.length ?? 0, completionTokens: count, kvCache },
        timings: run.spent.timings,
      };
    } catch (error) {
      throw this.#told(error);
    } finally {
      decoder?.close();
      this.#dismiss(run);
    }
  }

  /**
   * Reads and presses a prompt once, for `generate` and `follow` to go on behind it. Checks and queues as a request does. The answers are those of requests with the
   * whole prompt whose press's scope ends where the context does.
   */
  async hold({ prompt, press, seed = null }: HoldRequest, signal?: AbortSignal): Promise<Held> {
    this.#turns.checkOpen();
    const { text, ...given } = heldPrompt(this.#parts, prompt);
    const job = await this.#check({ kind: 'tokens', ...given }, press, 0);
    this.#held.check();
    let run: Running | null = null;
    try {
      run = await this.#admit(job, seed, signal);
      const { sequence, eviction, spent } = run;
      const kvCache = await this.#reader.read(job, run, null, signal);
      const scores = eviction?.scores;
      const { length } = job.tokens;
      // Hidden states are not kept: those who go on behind it find scores beside all that it holds.
      if (scores && scores.waiting(length) > 0) await this.#reader.instead(run, () => scores.score(length), signal);
      this.#turns.checkOpen();
      const words = prompt.kind === 'tokens' ? null : prompt;
      const facts = {
        tokens: job.tokens,
        prompt: words,
        text,
        press,
        covered: job.covered,
        scope: job.scope,
        rows: job.rows,
        kvCache,
        timings: spent.timings,
      };
      const held = this.#held.add(facts, { sequence, queries: eviction?.recent.queries ?? null });
      eviction?.recent.hidden?.close();
      this.#running.delete(run);
      run = null;
      return held;
    } catch (error) {
      throw this.#told(error);
    } finally {
      if (run) this.#dismiss(run);
      this.#admission.poke();
    }
  }

  /**
   * A held context as a *.pressed.safetensors file (pressed/format.md), its rows of `entryType`: bit for bit those of the cache where that is its own. The chunks throw
   * InputError context_closed where the context is closed meanwhile.
   */
  writePressed(held: Held, { entryType = 'int8' }: { entryType?: EntryType } = {}, signal?: AbortSignal): PressedSource {
    this.#turns.checkOpen();
    const memory = this.#held.of(held);
    const run = turnsOf(memory.sequence);
    const parts = { info: this.info, shape: this.#parts.cache.shape };
    return pressedSource(held as HeldContext, memory, parts, entryType, async (work) => {
      try {
        return await this.#turns.piece(run, 'prefillMs', work, signal);
      } catch (error) {
        if (error instanceof GivenUp && !this.#closed) this.#held.of(held);
        throw this.#told(error);
      }
    });
  }

  /**
   * Holds what such a file has, as if it had been read and pressed here. Throws InputError where the file is damaged, is another model's, or of another press than
   * `press`, where that is given; nothing is held then.
   */
  async mount(file: Uint8Array | RangeReader, { press = null }: { press?: PressRequest | null } = {}, signal?: AbortSignal): Promise<Held> {
    this.#turns.checkOpen();
    const opened = await openPressed(file instanceof Uint8Array ? readerOfBytes('the context', file as Uint8Array<ArrayBuffer>) : file);
    const mounting = await checkMount(opened, this.#parts, press);
    this.#turns.checkOpen();
    this.#held.check();
    let run: Running | null = null;
    let memory: HeldMemory | null = null;
    try {
      run = await this.#enter(() => {
        checkMountRoom(mounting, this.#parts, this.#reader.freeBytes + this.#rememberedBytes);
        memory = openMounting(mounting, this.#parts, this.#reader.freeBytes - this.#mostWorkBytes);
        return memory && turnsOf(memory.sequence);
      }, signal);
      const { sequence, queries } = memory!;
      const layers: MountedLayer[] = [];
      for (let layer = 0; layer < this.info.layers; layer++) {
        const { lists, ...read } = await readMountedLayer(mounting, layer);
        await this.#turns.piece(run, 'prefillMs', () => fillLayer(sequence, layer, lists), signal);
        layers.push(read);
      }
      await this.#turns.piece(run, 'prefillMs', () => finishMounting(mounting, memory!, layers), signal);
      const held = this.#held.add({ ...mountedFacts(mounting, layers), timings: run.spent.timings }, { sequence, queries });
      this.#running.delete(run);
      run = null;
      return held;
    } catch (error) {
      throw this.#told(error);
    } finally {
      if (run) {
        memory!.queries?.close();
        this.#dismiss(run);
      }
      this.#admission.poke();
    }
  }

  reusable({ prompt, press }: Parameters<Engine['reusable']>[0]): Reusable | null {
    this.#turns.checkOpen();
    return reusableBy(tokenise(this.#parts, prompt), press, this.#parts.options.entryType);
  }

  /**
   * Reads what all of these presses cover of a prompt, once, for `generate` and `follow` to answer from under each of them. The full keys and values of all
   * layers are then on the host, and no memory of the device is held. Where what was read `before` will do, that is returned. Throws InputError where presses
   * cover different parts, or one is refused.
   */
  async readOnce(prompt: PromptInput, presses: readonly PressRequest[], signal?: AbortSignal, before: Reading | null = null): Promise<Reading> {
    const jobs: Job[] = [];
    for (const press of presses) jobs.push(await this.#check(prompt, press, 0));
    const pressed = jobs.filter(({ checked, decoding }) => checked || decoding);
    const [first] = pressed.length > 0 ? pressed : jobs;
    const other = pressed.find(({ covered }) => covered !== first.covered);
    if (other) {
      const message = `"${first.press.name}" covers ${first.covered} tokens and "${other.press.name}" ${other.covered}: presses that share a reading have one scope`;
      throw new InputError('press_scope', 'press.scope', message);
    }
    const all = jobs.map(promptReads);
    const reads: PressReads = {
      queries: Math.min(first.covered, Math.max(...all.map(({ queries }) => queries))),
      hidden: all.some(({ hidden }) => hidden),
      change: all.some(({ change }) => change),
    };
    const tokens = first.tokens.slice(0, first.covered);
    if (before?.serves(tokens, reads)) return before;
    // Nothing is stored: no pages.
    const job: Job = { ...first, checked: null, decoding: null, passes: [], added: null, size: { ...first.size, pagesMost: 0, pagesEnd: 0 } };
    const run = await this.#admit(job, null, signal);
    try {
      return await this.#reader.record(tokens, reads, run, signal);
    } catch (error) {
      throw this.#told(error);
    } finally {
      this.#dismiss(run);
    }
  }

  /** The logits [vocab] after a prompt and after each of the tokens that go on, as if they had been sampled: tokens.length + 1 of them. */
  async *follow(request: FollowRequest, signal?: AbortSignal): AsyncGenerator<Float32Array, void, void> {
    const { tokens, seed = null } = request;
    const { backend, forward } = this.#parts;
    const { vocabSize } = this.info;
    checkVocabulary(tokens, this.info, 'tokens');
    const job = await this.#checkRequest(request, tokens.length);
    const run = await this.#admit(job, seed, signal);
    try {
      const { sequence, eviction } = run;
      const { rows } = job;
      let logits: Float32Array = new Float32Array();
      const take = async (view: View): Promise<void> => {
        logits = await readFloats(backend, view, vocabSize);
      };
      await this.#reader.read(job, run, take, signal, 'held' in request ? null : request.reading);
      this.#admission.poke(); // it may hold less from now on
      yield logits;
      for (const [i, token] of tokens.entries()) {
        const read = job.tokens.length + i;
        await this.#makeRoom(run, read, signal);
        await this.#turns.piece(run, 'decodeMs', () => take(forward.extend([token], read + rows, sequence, true, eviction?.recent ?? null)!), signal);
        yield logits;
      }
    } catch (error) {
      throw this.#told(error);
    } finally {
      this.#dismiss(run);
    }
  }

  /** The logits [vocab] after a prompt, read under a press. */
  async logits(prompt: PromptInput, press: PressRequest): Promise<Float32Array> {
    let logits: Float32Array | null = null;
    const take = async (view: View): Promise<void> => {
      logits = await readFloats(this.#parts.backend, view, this.info.vocabSize);
    };
    return this.#reads(await this.#check(prompt, press, 0), take, () => logits!);
  }

  /** Reads a prompt, presses all of it, and tells which positions every layer and head kept. */
  async inspect(prompt: PromptInput, press: PressRequest): Promise<Inspection> {
    const job = await this.#check(prompt, { ...press, scope: press.scope ?? 'prompt' }, 0);
    return this.#reads(job, null, (read) => inspection(job, read, this.#parts.cache.shape));
  }

  /** Gives everything back, once; whoever generates, waits or asks for something then hears InputError model_closed, or device_failed where that is why. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#turns.close(
      this.failure ? deviceFailed(this.failure) : new InputError('model_closed', null, 'the model was closed; load it again to go on'),
    );
    for (const run of this.#running) this.#dismiss(run);
    this.#held.close();
    this.#parts.forward.close();
    this.#parts.cache.close();
    this.#parts.artifacts.close();
    this.#parts.dispose();
  }

  /** What the request's author is told. Closing takes device and pages away from a piece that is under way: that is no fault of theirs. */
  #told(error: unknown): unknown {
    if (this.#closed && (error instanceof DeviceFailed || error instanceof GivenUp)) this.#turns.checkOpen();
    return asInputError(error);
  }

  /** What is wrong with a request is found here, before any compute. */
  async #check(prompt: PromptInput | PromptLength, press: PressRequest, maxTokens: number | null): Promise<Job> {
    this.#turns.checkOpen();
    const artifact = await this.#parts.artifacts.of(press);
    this.#turns.checkOpen(); // reading a file may have taken its time
    return checkJob(this.#parts, prompt, press, artifact, maxTokens);
  }

  async #checkRequest(
    request: Pick<GenerateRequest, 'prompt' | 'press'> | Pick<MountedRequest, 'prompt' | 'held'>,
    maxTokens: number | null,
  ): Promise<Job> {
    if (!('held' in request)) return this.#check(request.prompt, request.press, maxTokens);
    this.#turns.checkOpen();
    this.#held.of(request.held);
    const held = request.held as HeldContext; // it is one of ours
    const acting = decodingPress(held.press.presses);
    const artifact = await this.#parts.artifacts.of({ ...held.press, presses: acting ? [acting] : [] }); // the others have acted
    this.#turns.checkOpen();
    return checkJob(this.#parts, request.prompt, held.press, artifact, maxTokens, held);
  }

  /** Reads a job's prompt, hands what came of it to `use`, and gives everything back. */
  async #reads<T>(job: Job, take: TakeLogits | null, use: (read: { usage: KvCacheUsage; sequence: KvSequence }) => T): Promise<T> {
    const run = await this.#admit(job, null);
    try {
      const usage = await this.#reader.read(job, run, take);
      return use({ usage, sequence: run.sequence });
    } catch (error) {
      throw this.#told(error);
    } finally {
      this.#dismiss(run);
    }
  }

  /** Has the press act that acts while decoding, if it is due once so many tokens were read. */
  async #makeRoom(run: Running, read: number, signal?: AbortSignal): Promise<void> {
    const { eviction } = run;
    if (eviction === null || eviction.room(read) > 0) return;
    await this.#reader.instead(run, () => eviction.act(read), signal);
    this.#admission.poke(); // pages went back
  }

  /** Waits until the pool has room for the whole request. Throws InputError where it never will. */
  async #admit(job: Job, seed: number | null, signal?: AbortSignal): Promise<Running> {
    const { cache } = this.#parts;
    checkRoom(job, this.#parts, this.#reader.freeBytes + this.#rememberedBytes);
    const workBytes = mostWorkBytes(job, this.#parts);
    const own = recentBytes(job.decoding, this.#parts);
    const { changes } = this.#held;
    return this.#enter(() => {
      const held = job.held && this.#held.of(job.held);
      if (this.#held.changes !== changes) checkRoom(job, this.#parts, this.#reader.freeBytes + this.#rememberedBytes);
      // What is remembered for presses while decoding is held for long: whoever was let in must still find room to work.
      const most = Math.max(workBytes, this.#mostWorkBytes);
      if (own + this.#rememberedBytes > 0 && own + most > this.#reader.freeBytes) return null;
      const { pagesMost } = job.size;
      const sequence = held ? held.sequence.fork(pagesMost) : cache.open(job.entryType, pagesMost);
      if (sequence === null) return null;
      try {
        const eviction = job.decoding && new Eviction(this.#parts, job, job.decoding, sequence, seed, held?.queries);
        return { sequence, eviction, workBytes, beat: Date.now(), spent: new Spent(), seed };
      } catch (error) {
        sequence.close();
        throw this.#told(error);
      }
    }, signal);
  }

  /** Waits in the queue until `admit` finds room; what it returns is running from then on. */
  async #enter(admit: () => Running | null, signal?: AbortSignal): Promise<Running> {
    let run: Running | null = null;
    await this.#admission.enter(() => {
      this.#turns.checkOpen();
      this.#dismissIdle();
      run = admit();
      if (run) this.#running.add(run);
      return run !== null;
    }, signal);
    return run!;
  }

  /** What one of those that run works with at most. */
  get #mostWorkBytes(): number {
    return Math.max(0, ...Array.from(this.#running, ({ workBytes }) => workBytes));
  }

  get #rememberedBytes(): number {
    return [...this.#running].reduce((sum, { eviction }) => sum + (eviction?.recentBytes ?? 0), 0);
  }

  #dismiss(run: Running): void {
    run.sequence.close();
    run.eviction?.close();
    this.#running.delete(run);
    this.#admission.poke();
  }

  /** Requests that show no sign of life: their client reads no more, or their context is gone. */
  #dismissIdle(): void {
    const oldest = Date.now() - this.#parts.options.idleMs;
    for (const run of this.#running) if (run.beat < oldest) this.#dismiss(run);
  }

  #named(tokenId: number, raw: { logprob: number; top: readonly { tokenId: number; logprob: number }[] }): TokenLogprob {
    const name = (id: number) => {
      const bytes = this.#parts.tokenizer?.tokenBytes(id) ?? new Uint8Array();
      return { token: new TextDecoder().decode(bytes), tokenId: id, bytes: [...bytes] };
    };
    return { ...name(tokenId), logprob: raw.logprob, top: raw.top.map(({ tokenId: id, logprob }) => ({ ...name(id), logprob })) };
  }
}

/** Somebody who takes turns, and neither works beside its pages nor draws. */
function turnsOf(sequence: KvSequence): Running {
  return { sequence, eviction: null, workBytes: 0, beat: Date.now(), spent: new Spent(), seed: null };
}

/** Pages are reserved, so it is activations that ran out in spite of the check: the request's size, not our fault. Anything else stays as it is. */
function asInputError(error: unknown): unknown {
  if (error instanceof DeviceFailed) return deviceFailed(error);
  if (!(error instanceof OutOfDeviceMemory)) return error;
  return new InputError(
    'kv_budget_exceeded',
    null,
    `${error.message}, for activations: a shorter prompt, a smaller KV pool or a higher memory limit would work`,
  );
}

function deviceFailed({ message }: Error): InputError {
  return new InputError('device_failed', null, `${message}; this request was given up, the next one gets a fresh device: send it again`);
}
