// Finds what the GPU tests run on: a Vulkan driver for wgpu (Deno) and one for Dawn (Node), and a Chromium. On Debian, as root, it installs what is missing.
//   node scripts/vulkan.mjs      prints what it found, or says in one sentence what to install
import { execFile, spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const lavapipe = join(root, '.cache', 'lavapipe');
const swiftShader = '/usr/lib/chromium/vk_swiftshader_icd.json';

/** The program of the package deno. Not its bin.cjs, which would wait for the program and pass no signal on: the program would outlive it. */
export function deno() {
  const folder = join(root, 'node_modules', 'deno');
  if (!existsSync(folder)) throw new Error('Deno comes with what `npm ci` installs; run it first');
  return createRequire(import.meta.url)(join(folder, 'install_api.cjs')).runInstall();
}

/** Without Vulkan wgpu would take OpenGL, and Mesa complains where there is no folder for its sockets. */
const quiet = {
  DENO_NO_UPDATE_CHECK: '1',
  ...(process.platform === 'linux' && { DENO_WEBGPU_BACKEND: 'vulkan', XDG_RUNTIME_DIR: process.env.XDG_RUNTIME_DIR ?? tmpdir() }),
};

/**
 * For each stack its environment, and the adapter that it finds there. A VK_ICD_FILENAMES that is set wins; then a real GPU; then Mesa's lavapipe, of
 * version 25 if it can be had; then Chromium's SwiftShader. Throws one sentence if there is nothing.
 */
export const stacks = {
  wgpu: () => firstWorking('wgpu (Deno)', probeWgpu),
  dawn: () => firstWorking('Dawn (Node)', probeDawn),
};

/** The path of a Chromium, or one sentence thrown. */
export function chromium() {
  if (!findChromium()) aptInstall('chromium');
  const found = findChromium();
  if (found) return found;
  const how = onDebian ? '`apt-get install chromium` as root (Debian)' : 'install Chromium or Chrome';
  throw new Error(`no Chromium: ${how}, or set CHROMIUM to the path of one${reasons()}`);
}

const onDebian = existsSync('/etc/debian_version');
/** VK_DRIVER_FILES is the loader's newer name for it. */
const named = ['VK_DRIVER_FILES', 'VK_ICD_FILENAMES'].find((name) => process.env[name]);

async function firstWorking(stack, probe) {
  const tried = [];
  for (const driver of drivers()) {
    const env = { ...quiet, ...(driver && { VK_ICD_FILENAMES: driver }) };
    const { adapter, error } = await probe(env);
    if (adapter) return { env, adapter, driver: driver ?? process.env[named] ?? "the system's own driver" };
    tried.push(`${driver ?? process.env[named] ?? 'the system'}: ${error}`);
  }
  throw new Error(`no Vulkan driver for ${stack}: ${advice()}${tried.length > 0 ? `; tried ${tried.join(', ')}` : ''}${reasons()}`);
}

function advice() {
  if (process.platform !== 'linux') return 'this system brings its own; update the graphics driver';
  if (named) return `${named} is set and wins; unset it, or let it name a driver that works`;
  if (onDebian) return '`apt-get install mesa-vulkan-drivers libvulkan1 chromium` as root (Debian; chromium brings one too)';
  return 'install a Mesa newer than 22, with lavapipe, and the Vulkan loader (Fedora: mesa-vulkan-drivers vulkan-loader; Arch: vulkan-swrast vulkan-icd-loader)';
}

/** Driver files worth a try, best first, undefined for the environment as it is; the way to the next one may install something. */
function* drivers() {
  if (process.platform !== 'linux') return yield; // Metal, D3D12
  if (named) {
    aptInstall('libvulkan1');
    return yield;
  }
  const real = installedDrivers().filter((file) => !isLavapipe(file));
  if (real.length > 0 && hasGpu()) yield real.join(delimiter);
  // Mesa 25 of the backports runs on the libraries that Debian 12's own package brings.
  aptInstall('mesa-vulkan-drivers', 'libvulkan1');
  if (existsSync(join(lavapipe, 'lvp_icd.json')) || fetchLavapipe()) yield join(lavapipe, 'lvp_icd.json');
  yield* installedDrivers().filter(isLavapipe);
  if (existsSync(swiftShader)) yield swiftShader;
}

const isLavapipe = (file) => basename(file).startsWith('lvp');

function installedDrivers() {
  const folders = ['/etc/vulkan/icd.d', '/usr/local/share/vulkan/icd.d', '/usr/share/vulkan/icd.d'].filter((folder) => existsSync(folder));
  return folders.flatMap((folder) => readdirSync(folder).map((name) => join(folder, name))).filter((file) => file.endsWith('.json'));
}

/** Mesa's package brings the drivers of every maker, so their files alone say nothing. */
function hasGpu() {
  if (['/dev/nvidiactl', '/dev/dxg', '/dev/kfd'].some((file) => existsSync(file))) return true;
  return existsSync('/dev/dri') && readdirSync('/dev/dri').some((name) => name.startsWith('renderD'));
}

const describe = `(async (gpu) => {
  const adapter = await gpu.requestAdapter();
  if (!adapter) throw new Error('no adapter');
  await adapter.requestDevice();
  const { vendor, device, description } = adapter.info;
  console.log(description || device || vendor);
})(gpu).then(() => process.exit(0), ({ message }) => { console.error(message); process.exit(1); })`;

function probeWgpu(env) {
  return probe([deno(), 'eval', `const { gpu } = navigator; ${describe}`], env);
}

function probeDawn(env) {
  return probe([process.execPath, '--input-type=module', '-e', `import { create } from 'webgpu'; const gpu = create([]); ${describe}`], env);
}

async function probe([program, ...args], env) {
  try {
    const { stdout } = await promisify(execFile)(program, args, { cwd: root, env: { ...process.env, ...env, NO_COLOR: '1' }, timeout: 60_000 });
    return { adapter: stdout.trim() };
  } catch (error) {
    const said = String(error.stderr ?? '').trim();
    return { error: said.split('\n').at(-1) || error.message };
  }
}

/** Mesa 25 of Debian 12's backports, out of its package and not installed: Dawn does not accept Mesa 22. True if it is there now. */
function fetchLavapipe() {
  if (!/^VERSION_CODENAME=bookworm$/m.test(readOr('/etc/os-release')) || !onPath('apt-get')) return false;
  mkdirSync(join(root, '.cache'), { recursive: true });
  const work = mkdtempSync(join(root, '.cache', 'lavapipe-'));
  try {
    for (const folder of ['state/lists/partial', 'cache/archives/partial', 'out']) mkdirSync(join(work, folder), { recursive: true });
    // apt itself reads its sources, of whatever form, and needs no lists for this.
    const mirror = /^'(\S+?)dists\/(bookworm|stable|oldstable)\/InRelease'/m.exec(runOr('apt-get', ['update', '--print-uris']))?.[1];
    if (!mirror) throw new Error("apt's sources name no mirror of Debian 12");
    const keys = '/usr/share/keyrings/debian-archive-keyring.gpg';
    writeFileSync(join(work, 'backports.list'), `deb ${existsSync(keys) ? `[signed-by=${keys}] ` : ''}${mirror} bookworm-backports main\n`);
    const options = {
      'Dir::Etc::sourcelist': 'backports.list',
      'Dir::Etc::sourceparts': '/dev/null',
      'Dir::State::lists': 'state/lists',
      'Dir::Cache': 'cache',
    };
    const apt = Object.entries(options).flatMap(([name, value]) => ['-o', `${name}=${value.startsWith('/') ? value : join(work, value)}`]);
    run('apt-get', [...apt, '-qq', 'update'], work);
    run('apt-get', [...apt, '-qq', 'download', 'mesa-vulkan-drivers/bookworm-backports'], work);
    run('dpkg-deb', ['-x', readdirSync(work).find((name) => name.endsWith('.deb')), 'x'], work);
    const triplet = readdirSync(join(work, 'x/usr/lib')).find((name) => existsSync(join(work, 'x/usr/lib', name, 'libvulkan_lvp.so')));
    copyFileSync(join(work, 'x/usr/lib', triplet, 'libvulkan_lvp.so'), join(work, 'out/libvulkan_lvp.so'));
    const icd = { file_format_version: '1.0.0', ICD: { api_version: '1.4.305', library_path: './libvulkan_lvp.so' } };
    writeFileSync(join(work, 'out/lvp_icd.json'), `${JSON.stringify(icd)}\n`);
    // In one step, so that a run beside this one never sees half of it; if that one was faster, its copy is as good.
    if (!existsSync(lavapipe)) renameSync(join(work, 'out'), lavapipe);
    return true;
  } catch (error) {
    installError ??= error.message;
    return false;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Why an installation failed: said in the end if it matters, as there may be another driver. */
let installError;
const reasons = () => (installError ? ` (${installError})` : '');
let updated = false;
// biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query's own syntax
const statusField = '${Status}';

function aptInstall(...packages) {
  if (!onDebian) return;
  const missing = packages.filter((name) => !/ installed$/.test(runOr('dpkg-query', ['-W', '-f', statusField, name])));
  if (missing.length === 0) return;
  if (!onPath('apt-get') || process.getuid() !== 0) return;
  console.log(`installing ${missing.join(' ')}`);
  try {
    const wait = ['-o', 'DPkg::Lock::Timeout=120'];
    // A source of somebody else's may be out of reach; whether the packages are there, the installation says.
    if (!updated) runOr('apt-get', [...wait, '-qq', 'update']);
    updated = true;
    run('apt-get', [...wait, '-qq', '-y', '--no-install-recommends', 'install', ...missing]);
  } catch (error) {
    installError ??= error.message;
  }
}

function findChromium() {
  const { CHROMIUM } = process.env;
  if (CHROMIUM && !existsSync(CHROMIUM)) throw new Error(`no Chromium: CHROMIUM is ${CHROMIUM}, which does not exist; unset it or correct it`);
  if (CHROMIUM) return CHROMIUM;
  const names = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];
  const elsewhere = {
    darwin: ['/Applications/Chromium.app/Contents/MacOS/Chromium', '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome'],
    win32: [join(process.env.ProgramFiles ?? '', 'Google/Chrome/Application/chrome.exe')],
  };
  return names.map(onPath).find(Boolean) ?? elsewhere[process.platform]?.find((file) => existsSync(file));
}

function onPath(name) {
  return (process.env.PATH ?? '')
    .split(delimiter)
    .map((folder) => join(folder, name))
    .find((file) => existsSync(file));
}

function readOr(path, otherwise = '') {
  return existsSync(path) ? readFileSync(path, 'utf8') : otherwise;
}

const unattended = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C' };

function runOr(program, args, otherwise = '') {
  const { status, stdout } = spawnSync(program, args, { encoding: 'utf8', env: unattended });
  return status === 0 ? stdout : otherwise;
}

function run(program, args, cwd) {
  const { status, stderr, error } = spawnSync(program, args, { cwd, encoding: 'utf8', env: unattended });
  if (status === 0) return;
  const why = error?.message ?? stderr.split('\n').find((line) => line.startsWith('E:')) ?? `exit code ${status}`;
  throw new Error(`${program} failed: ${why}`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    console.log(`chromium: ${chromium()}`);
    for (const [name, find] of Object.entries(stacks)) {
      const { adapter, driver } = await find();
      console.log(`${name}: ${adapter} (${driver})`);
    }
  } catch (error) {
    console.error(error.message);
    process.exit(1);
  }
}
