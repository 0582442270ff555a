/** The folder that holds package.json, models and wrangler.toml: of the checkout, or of the installed package. For Node and Deno. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export function packageRoot(): string {
  const start = dirname(fileURLToPath(import.meta.url));
  for (let folder = start; folder !== dirname(folder); folder = dirname(folder)) if (existsSync(join(folder, 'package.json'))) return folder;
  return start; // bundled into something else: whatever is looked for there is reported missing
}

export const embeddedModel = (): string => join(packageRoot(), 'models', 'needle');
