/** Where a server may listen. Tried before anything is loaded: wrangler, for one, waits for ever on a port that is taken. */
import { createServer } from 'node:net';
import { InvalidArgumentError } from 'commander';
import { InputError } from '../presses/input-error.ts';

const MOST_PORT = 65_535;

export function portArgument(text: string): number {
  const port = Number(text);
  if (!/^\d+$/.test(text.trim()) || port > MOST_PORT)
    throw new InvalidArgumentError(`A port is a whole number between 0 and ${MOST_PORT}; 0 takes any that is free.`);
  return port;
}

export function hostArgument(text: string): string {
  const host = text.trim().replace(/^\[(.*)\]$/, '$1'); // [::1] as in a URL
  if (host === '') throw new InvalidArgumentError('Give an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all of them.');
  return host;
}

/** Listens there for a moment. Returns the port, which for 0 is one that the system chose. Throws InputError where nobody can listen. */
export function freePort(host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', (error) => reject(listenError(error, host, port)));
    server.listen({ host, port }, () => {
      const taken = (server.address() as { port: number }).port;
      server.close(() => resolve(taken));
    });
  });
}

/** What the system says about an address, in words that name it and what would work. Any other error stays as it is. */
export function listenError(error: unknown, host: string, port: number): unknown {
  const elsewhere = `--port ${port < MOST_PORT ? port + 1 : port - 1}`;
  switch ((error as NodeJS.ErrnoException).code) {
    case 'EADDRINUSE':
      return new InputError(
        'port_taken',
        'port',
        `port ${port} of ${host} is taken by another program; ${elsewhere} (or PORT=…) takes another one, --port 0 any that is free`,
      );
    case 'EACCES':
    case 'EPERM':
      return new InputError(
        'port_forbidden',
        'port',
        `this user may not listen on port ${port} of ${host}; take one from 1024 on: --port 8787 (or PORT=…)`,
      );
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
    case 'EINVAL':
    case 'EAFNOSUPPORT':
      return new InputError(
        'host_unknown',
        'host',
        `"${host}" is not an address of this machine; --host 127.0.0.1 (or HOST=…) serves this machine only, --host 0.0.0.0 every network it is on`,
      );
    default:
      return error;
  }
}

/** The URL by which this machine reaches a server that listens on `host`. */
export function originOf(host: string, port: number): string {
  const reachable = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host;
  return `http://${reachable.includes(':') ? `[${reachable}]` : reachable}:${port}`;
}
