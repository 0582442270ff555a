/** The samples of a published benchmark, one at a time: from files that are here, or from the Hugging Face hub. */
import { readdir, stat } from 'node:fs/promises';
import { join, sep } from 'node:path';
import { didYouMean, shownName } from '../../presses/did-you-mean.ts';
import { InputError } from '../../presses/input-error.ts';
import type { Sample } from '../contract.ts';
import type { Dataset } from './dataset.ts';
import { downloadFiles, type HubOptions } from './hub.ts';
import { chooseFiles } from './read/choose-files.ts';
import { rowsOf } from './read/rows.ts';
import { datasetNamed } from './registry.ts';

export interface LoadOptions {
  readonly dataset: string;
  /** A task, or a length: a folder of the data set. */
  readonly config?: string;
  /** A file, or a folder laid out as on the hub; without it the files are downloaded once. */
  readonly path?: string;
  readonly hub?: HubOptions;
}

/** Entries of a folder that are looked at. */
const MOST_ENTRIES = 10_000;

export async function* loadSamples({ dataset: name, config, path, hub }: LoadOptions): AsyncGenerator<Sample> {
  const dataset = datasetNamed(name);
  const chosen = path === undefined ? checkedConfig(dataset, config) : config;
  const files = path === undefined ? await downloadFiles(dataset, chosen, hub) : await localFiles(path, chosen, dataset);
  let index = 0;
  for (const file of files) {
    for await (const row of rowsOf(file, dataset.columns)) {
      yield* dataset.samples(row, { config: chosen, index });
      index++;
    }
  }
  if (index === 0) throw new InputError('dataset_file', null, `${files.join(', ')}: no rows`);
}

function checkedConfig({ name, configs }: Dataset, config: string | undefined): string | undefined {
  if (configs === null) {
    if (config !== undefined)
      throw new InputError('dataset_config', 'config', `${name} has no configurations, got "${shownName(config)}"; leave it out`);
    return undefined;
  }
  if (config === undefined && configs.length === 1) return configs[0];
  if (config === undefined) throw new InputError('dataset_config', 'config', `${name} needs a configuration, one of ${configs.join(', ')}`);
  if (configs.includes(config)) return config;
  throw new InputError('dataset_config', 'config', `${name} has no configuration "${shownName(config)}"${didYouMean(config, configs)}`);
}

async function localFiles(path: string, config: string | undefined, { split, configs }: Dataset): Promise<string[]> {
  const found = await stat(path).catch(() => {
    throw new InputError('dataset_file', 'path', `${path}: no such file or folder`);
  });
  if (!found.isDirectory()) return [path];
  const entries = await readdir(path, { recursive: true });
  if (entries.length > MOST_ENTRIES)
    throw new InputError('dataset_file', 'path', `${path} has ${entries.length} entries; a data set's folder has at most ${MOST_ENTRIES}`);
  const paths = entries.map((entry) => entry.split(sep).join('/'));
  const wanted = config ?? (configs?.length === 1 && paths.some((file) => file.startsWith(`${configs[0]}/`)) ? configs[0] : undefined);
  return chooseFiles(paths, wanted, split, path).map((file) => join(path, file));
}
