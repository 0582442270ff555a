/** One run at a time writes a file: <file>.lock names it while it does. What a run that was killed left there is taken over. */
import { readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';

/** A lock that says nothing is of a run that was ended while it made it, after so long. */
const LOCK_MS = 10_000;

/** Null where it is ours now, else who has it. Throws where no lock can be made. */
export function takeLock(path: string): string | null {
  const own = JSON.stringify({ pid: process.pid, host: hostname() });
  for (let tries = 0; ; tries++) {
    try {
      writeFileSync(`${path}.lock`, own, { flag: 'wx' });
      return null;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') {
        if ((error as NodeJS.ErrnoException).syscall === 'write') releaseLock(path); // made, and then the disk was full
        throw error;
      }
    }
    const holder = holderOf(`${path}.lock`);
    if (tries > 0 || holder.lives || !takeAway(path)) return holder.name;
  }
}

export function releaseLock(path: string): void {
  rmSync(`${path}.lock`, { force: true });
}

/** The lock of a run that has ended. Two may do so at once: who has got the other's new lock puts it back. */
function takeAway(path: string): boolean {
  const away = `${path}.lock.${process.pid}`;
  try {
    renameSync(`${path}.lock`, away);
  } catch {
    return true; // the other one was quicker; whose lock it is now is seen when it is made
  }
  const mine = !holderOf(away).lives;
  if (mine) rmSync(away, { force: true });
  else renameSync(away, `${path}.lock`);
  return mine;
}

/** Of a process elsewhere nobody can tell whether it lives. */
function holderOf(lock: string): { name: string; lives: boolean } {
  try {
    const { pid, host } = JSON.parse(readFileSync(lock, 'utf8')) as { pid: number; host: string };
    const name = `process ${pid}${host === hostname() ? '' : ` on ${host}`}`;
    return { name, lives: host !== hostname() || isRunning(pid) };
  } catch {
    const made = statSync(lock, { throwIfNoEntry: false })?.mtimeMs ?? Number.NaN;
    return { name: 'another run', lives: !(Date.now() - made > LOCK_MS) }; // it was just begun, or just ended
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0); // asks, and sends nothing
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}
