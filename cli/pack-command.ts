/** edgepress pack: a model as static assets of the worker. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { formatBytes } from '../worker/engine/bytes.ts';
import { defaultShardBytes, maxShardBytes } from '../worker/engine/weights/manifest.ts';
import { progressBar } from './open-model.ts';
import { bytesArgument } from './options.ts';
import { packModel } from './pack.ts';

interface PackCommandOptions {
  readonly quantize?: 'q8' | 'q4';
  readonly embedding?: 'q8' | 'q4';
  readonly shard?: number;
  readonly name?: string;
  readonly json?: boolean;
}

export function packCommand(program: Command): void {
  program
    .command('pack')
    .description('cut a model into shards below 25 MiB with a manifest and checksums, for the worker to stream')
    .argument('<model>', 'a Hugging Face folder or a .gguf file')
    .argument('<out>', 'the folder to write')
    .addOption(new Option('--quantize <type>', 'quantise f32, f16 and bf16 matrices to 8- or 4-bit blocks').choices(['q8', 'q4']))
    .addOption(
      new Option('--embedding <type>', 'quantise the embedding, and the head where there is one, whatever the file holds them as').choices([
        'q8',
        'q4',
      ]),
    )
    .addOption(
      new Option('--shard <bytes>', 'shard size, at most 25MiB, the largest asset that Workers take')
        .argParser(shardArgument)
        .default(defaultShardBytes, formatBytes(defaultShardBytes)),
    )
    .option('--name <id>', 'the model id that GET /v1/models shows; default the name of the folder or file')
    .option('--json', 'print JSON')
    .action(async (model: string, out: string, { quantize, embedding, ...options }: PackCommandOptions) => {
      const bar = progressBar(`packing ${model}`);
      const manifest = await packModel(
        model,
        out,
        { quantize, embedding, shardBytes: options.shard, name: options.name, onNote: (note) => console.error(`edgepress: ${note}`) },
        ({ doneBytes, totalBytes }) => bar.update(doneBytes, totalBytes),
      ).finally(bar.stop);
      if (options.json)
        console.log(
          JSON.stringify({ name: manifest.name, bytes: manifest.arenaBytes, shards: manifest.shards, fingerprint: manifest.fingerprint }, null, 2),
        );
      else console.log(`${manifest.name}: ${formatBytes(manifest.arenaBytes)} in ${manifest.shards.length} shards at ${out}`);
    });
}

function shardArgument(text: string): number {
  const bytes = bytesArgument(text);
  if (bytes < 64 || bytes > maxShardBytes) throw new InvalidArgumentError('Between 64 bytes and 25MiB, the largest asset that Workers take.');
  return bytes;
}
