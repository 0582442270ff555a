/** Vega-Lite specifications to SVG, without a browser. vega and vega-lite are large and only reports need them: they are peers that a user installs. */
import type { TopLevelSpec } from 'vega-lite';
import { InputError } from '../../presses/input-error.ts';

export async function drawSvg(spec: TopLevelSpec): Promise<string> {
  const { vega, vegaLite } = await libraries();
  const silent = { level: () => silent, error: (...words: unknown[]) => fail(words), warn: () => silent, info: () => silent, debug: () => silent };
  const view = new vega.View(vega.parse(vegaLite.compile(spec).spec), { renderer: 'none', logger: silent as never });
  try {
    return await view.toSVG();
  } finally {
    view.finalize();
  }
}

function fail(words: readonly unknown[]): never {
  throw new Error(`the plot cannot be drawn: ${words.join(' ')}`);
}

async function libraries() {
  try {
    return { vega: await import('vega'), vegaLite: await import('vega-lite') };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_MODULE_NOT_FOUND') throw error;
    throw new InputError('plots_missing', null, 'the report draws with vega and vega-lite, which are not installed: npm install vega vega-lite');
  }
}
