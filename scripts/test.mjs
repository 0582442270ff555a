// The tests on every runtime, one after the other: Node, then the GPU's in Deno on wgpu, then a smaller set of those in Node on Dawn.
//   node scripts/test.mjs [--only node,wgpu,dawn] [arguments of vitest: files, -t names, …]
// Results are build/test-results.json, build/test-results-wgpu.json, build/test-results-dawn.json. A part that cannot run has failed.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { chromium, deno, stacks } from './vulkan.mjs';

const vitest = 'node_modules/vitest/vitest.mjs';
const args = process.argv.slice(2);
let only = ['node', 'wgpu', 'dawn'];
// The last one counts: `npm run test:gpu -- --only dawn` narrows it.
for (let at = args.indexOf('--only'); at >= 0; at = args.indexOf('--only')) only = args.splice(at, 2)[1]?.split(',') ?? [];

const parts = {
  node: { title: 'Node', program: () => [process.execPath, vitest], config: 'vitest.config.ts', results: 'build/test-results.json' },
  wgpu: {
    title: 'wgpu in Deno',
    program: () => [deno(), 'run', '-A', '--no-lock', vitest],
    config: 'vitest.gpu.config.ts',
    results: 'build/test-results-wgpu.json',
  },
  dawn: { title: 'Dawn in Node', program: () => [process.execPath, vitest], config: 'vitest.gpu.config.ts', results: 'build/test-results-dawn.json' },
};
const unknown = only.filter((name) => !(name in parts));
if (unknown.length > 0 || only.length === 0) {
  console.error(`--only knows ${Object.keys(parts).join(', ')}; got ${unknown.join(', ') || 'nothing'}`);
  process.exit(1);
}

for (const name of only) rmSync(parts[name].results, { force: true });

const failures = [];
/** What `find` gives; or undefined, and what it wants stands here and at the end of the output. */
async function needed(find) {
  try {
    return await find();
  } catch (error) {
    console.error(error.message);
    failures.push(error.message);
  }
}
// Before the first part, which takes longest. Chromium first: it brings a driver too. Only Node's tests open it.
const browser = only.includes('node') ? await needed(chromium) : undefined;
const found = { node: { env: {} } };
for (const name of only.filter((name) => name in stacks)) found[name] = await needed(stacks[name]);

let tests = 0;
for (const name of only) {
  const { title, program, config, results } = parts[name];
  if (!found[name]) continue;
  console.log(`\n== ${title}${found[name].adapter ? `: ${found[name].adapter}` : ''}`);
  const env = { ...process.env, ...found[name].env, ...(browser && { CHROMIUM: browser }) };
  // A file that is asked for by name runs on Dawn too, whether it is of the smaller set or not.
  if (name === 'dawn' && args.some((arg, i) => !arg.startsWith('-') && !/^(-t|--testNamePattern)$/.test(args[i - 1] ?? ''))) env.GPU_TESTS = 'all';
  // A filter may match in one part and not in another; without one, a part with no tests is a mistake.
  const filtered = args.length > 0 ? ['--passWithNoTests'] : [];
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${results}`];
  const [command, ...first] = program();
  const { status } = spawnSync(command, [...first, 'run', '--config', config, ...reporters, ...filtered, ...args], {
    stdio: 'inherit',
    env,
  });
  if (status !== 0) failures.push(`${title}: tests failed`);
  if (existsSync(results)) tests += JSON.parse(readFileSync(results, 'utf8')).numTotalTests;
  else if (status === 0 && args.length === 0) failures.push(`${title}: no results were written`);
}
if (tests === 0 && failures.length === 0) failures.push(`no test matches ${args.join(' ')}`);

for (const failure of failures) console.error(`\n${failure}`);
process.exit(failures.length > 0 ? 1 : 0);
