import { posix } from 'node:path';
import { shownName } from '../../../presses/did-you-mean.ts';
import { InputError } from '../../../presses/input-error.ts';
import { EXTENSIONS } from './rows.ts';

const SPLITS = ['train', 'validation', 'test', 'dev'];

/**
 * Which of a data set's files hold a configuration, as the Hugging Face hub lays them out: `<config>/test-00000-of-00001.parquet`, or one file of that name
 * (`<config>.jsonl`); without a configuration the files of the top folder or of `data/`. Of these, the wanted split where files name one; of several kinds, the best.
 */
export function chooseFiles(paths: readonly string[], config: string | undefined, split: string, where: string): string[] {
  const readable = paths.filter(
    (path) => EXTENSIONS.some((extension) => path.toLowerCase().endsWith(extension)) && !posix.basename(path).startsWith('.'),
  );
  const ofConfig = readable.filter((path) => {
    const [folder, base] = [posix.dirname(path), posix.basename(path)];
    if (config === undefined) return folder === '.' || folder === 'data';
    return posix.basename(folder) === config || base.slice(0, base.lastIndexOf('.')) === config;
  });
  const splitOf = (path: string): string | undefined => SPLITS.find((name) => new RegExp(`^${name}[-.]`).test(posix.basename(path)));
  const ofSplit = ofConfig.some((path) => splitOf(path) === split)
    ? ofConfig.filter((path) => splitOf(path) === split)
    : ofConfig.filter((path) => splitOf(path) === undefined);
  const kind = EXTENSIONS.find((extension) => ofSplit.some((path) => path.toLowerCase().endsWith(extension)));
  const chosen = ofSplit.filter((path) => kind !== undefined && path.toLowerCase().endsWith(kind)).sort();
  if (chosen.length > 0) return chosen;
  const shown = shownName(config ?? '');
  const wanted = config === undefined ? `split "${split}"` : `configuration "${shown}" (${shown}/${split}*.parquet or ${shown}.jsonl)`;
  const seen =
    readable.length === 0
      ? `no ${EXTENSIONS.join(', ')} file`
      : readable.slice(0, 12).join(', ') + (readable.length > 12 ? `, … (${readable.length})` : '');
  throw new InputError('dataset_file', null, `${where} has no files of ${wanted}; it has ${seen}`);
}
