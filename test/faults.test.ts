/** What waiting for a device leaves behind; what it hears is in test/gpu/faults.test.ts. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import { Faults } from '../worker/backend/webgpu/faults.ts';

test('a wait that is over keeps nothing', async () => {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as () => void;
  const device = { lost: new Promise(() => {}), pushErrorScope() {}, popErrorScope: async () => null };
  const faults = new Faults(device as unknown as GPUDevice);
  const wait = async (times: number): Promise<number> => {
    for (let i = 0; i < times; i++) await faults.unlessFailed(Promise.resolve());
    gc();
    return process.memoryUsage().heapUsed;
  };
  const before = await wait(1000);
  expect((await wait(50_000)) - before).toBeLessThan(4e6); // racing against one promise for all: 15e6
});
