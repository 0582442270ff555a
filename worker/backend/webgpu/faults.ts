/**
 * What goes wrong on a device. Errors come late and by themselves: every submission is held between error scopes, and the device itself says when
 * it is lost. The first fault ends the device's use, for nothing that was computed after it can be trusted.
 */
import { DeviceFailed } from '../backend.ts';

const SCOPES: readonly GPUErrorFilter[] = ['validation', 'out-of-memory', 'internal'];

export class Faults {
  failure: DeviceFailed | null = null;
  readonly #device: GPUDevice;
  /** Whoever waits for the device. A promise that they all race against would keep something of each for as long as the device lives. */
  readonly #waiting = new Set<(failure: DeviceFailed) => void>();
  #checks: Promise<void>[] = [];
  #closed = false;

  constructor(device: GPUDevice) {
    this.#device = device;
    device.lost.then(({ message, reason }) => this.#fail(new DeviceFailed('lost', message || String(reason))));
    this.#open();
  }

  /** Looks at all that was recorded since the last time. */
  check(): void {
    const found = SCOPES.map(() => this.#device.popErrorScope());
    const check = Promise.all(found).then(
      (errors) => {
        const error = errors.find((one) => one !== null);
        if (error) this.#fail(new DeviceFailed(isOutOfMemory(error) ? 'out of memory' : 'refused', error.message));
      },
      (error: unknown) => this.#fail(new DeviceFailed('lost', String(error))),
    );
    this.#checks.push(check);
    this.#open();
  }

  /** Resolves once everything that was submitted has been looked at; rejects with DeviceFailed where something was wrong. */
  async settled(): Promise<void> {
    const checks = new Set(this.#checks);
    await Promise.all(checks);
    this.#checks = this.#checks.filter((check) => !checks.has(check)); // only now: another reader waits for them too
    this.throwIfFailed();
  }

  throwIfFailed(): void {
    if (this.failure) throw this.failure;
  }

  /** What `work` resolves with, unless the device fails first. A rejection of its own counts as a lost device. */
  async unlessFailed<T>(work: Promise<T>): Promise<T> {
    let tell = (_: DeviceFailed): void => {};
    try {
      return await new Promise<T>((resolve, reject) => {
        tell = reject;
        this.#waiting.add(tell);
        if (this.failure) reject(this.failure);
        work.then(resolve, reject);
      });
    } catch (error) {
      await Promise.race([this.#device.lost, new Promise((resolve) => setTimeout(resolve, 50))]); // it says best what happened
      throw this.failure ?? new DeviceFailed('lost', error instanceof Error ? error.message : String(error));
    } finally {
      this.#waiting.delete(tell);
    }
  }

  /** From now on losing the device is no fault. */
  close(): void {
    this.#closed = true;
  }

  #fail(failure: DeviceFailed): void {
    if (this.#closed) return;
    this.failure ??= failure;
    for (const tell of this.#waiting) tell(this.failure);
  }

  #open(): void {
    for (const scope of SCOPES) this.#device.pushErrorScope(scope);
  }
}

function isOutOfMemory(error: GPUError): boolean {
  return error.constructor.name === 'GPUOutOfMemoryError' || /out of memory/i.test(error.message);
}
