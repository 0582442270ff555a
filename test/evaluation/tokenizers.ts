/** The two tokenizers that generated tasks are tested with. */
import { tokenizerFromFolder } from '../../worker/engine/tokenizer/huggingface.ts';
import { Tokenizer } from '../../worker/engine/tokenizer/tokenizer.ts';
import { openFolder } from '../../worker/engine/weights/node-files.ts';

const needle = new Tokenizer((await tokenizerFromFolder(openFolder('models/needle')))!);
export const needleTokens = (text: string): number => needle.encode(text).length;
export const words = (text: string): number => text.split(/\s+/).filter(Boolean).length;
