/** What only workerd has. The package's own global types would bring a whole second DOM along. */
declare module 'cloudflare:workers' {
  export abstract class DurableObject<Env> {
    readonly __DURABLE_OBJECT_BRAND: never;
    protected ctx: import('@cloudflare/workers-types').DurableObjectState;
    protected env: Env;
    constructor(ctx: import('@cloudflare/workers-types').DurableObjectState, env: Env);
  }
}
declare const FixedLengthStream: typeof import('@cloudflare/workers-types').FixedLengthStream;
interface Crypto {
  readonly DigestStream: typeof import('@cloudflare/workers-types').DigestStream;
}
