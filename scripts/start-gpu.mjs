/** npm run start:gpu: worker/deno.ts under `deno serve`, with the flags of `edgepress serve`. */
import { spawn } from 'node:child_process';
import { tmpdir } from 'node:os';
import { parseArgs } from 'node:util';
import { freePort, hostArgument, portArgument } from '../cli/address.ts';
import { deno } from './vulkan.mjs';

/** Flags that become variables of worker/deno.ts. */
const VARIABLES = {
  model: 'MODEL',
  backend: 'BACKEND',
  'kv-pool': 'KV_POOL',
  'memory-limit': 'MEMORY_LIMIT',
  'entry-type': 'ENTRY_TYPE',
  artifacts: 'ARTIFACTS',
  contexts: 'CONTEXTS',
};

async function start() {
  const text = { type: 'string' };
  const options = { port: text, host: text, ...Object.fromEntries(Object.keys(VARIABLES).map((name) => [name, text])) };
  const { values } = parseArgs({ options, strict: true });
  const { PORT = '8787', HOST = '127.0.0.1' } = process.env;
  const host = hostArgument(values.host ?? HOST);
  const port = await freePort(host, portArgument(values.port ?? PORT));
  const env = { XDG_RUNTIME_DIR: tmpdir(), ...process.env };
  for (const [flag, name] of Object.entries(VARIABLES)) if (values[flag] !== undefined) Object.assign(env, { [name]: values[flag] });
  const args = ['serve', '-A', '--no-lock', '--unstable-no-legacy-abort', '--host', host, '--port', String(port), 'worker/deno.ts'];
  const server = spawn(deno(), args, { stdio: 'inherit', env });
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => server.kill(signal));
  server.on('exit', (code, signal) => process.exit(code ?? (signal ? 0 : 1)));
}

await start().catch((error) => {
  console.error(`edgepress: ${error.message}`);
  process.exit(1);
});
