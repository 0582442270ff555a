/** edgepress pack: a model as static assets of the worker. */
import { type Command, Option } from 'commander';
import { formatBytes } from '../worker/engine/bytes.ts';
import { progressBar } from './open-model.ts';
import { bytesArgument } from './options.ts';
import { packModel } from './pack.ts';

export function packCommand(program: Command): void {
  program
    .command('pack')
    .description('cut a model into shards below 25 MiB with a manifest and checksums, for the worker to stream')
    .argument('<model>', 'a Hugging Face folder or a .gguf file')
    .argument('<out>', 'the folder to write')
    .addOption(new Option('--quantize <type>', 'quantise f32, f16 and bf16 matrices').choices(['q8', 'q4']))
    .option('--shard <bytes>', 'shard size, at most 25MiB', bytesArgument)
    .option('--name <id>', 'the model id that /v1/models shows')
    .option('--json', 'print JSON', false)
    .action(async (model: string, out: string, options: { quantize?: 'q8' | 'q4'; shard?: number; name?: string; json: boolean }) => {
      const bar = progressBar(`packing ${model}`);
      const manifest = await packModel(
        model,
        out,
        { quantize: options.quantize, shardBytes: options.shard, name: options.name },
        ({ doneBytes, totalBytes }) => bar.update(doneBytes, totalBytes),
      ).finally(bar.stop);
      if (options.json)
        console.log(
          JSON.stringify({ name: manifest.name, bytes: manifest.arenaBytes, shards: manifest.shards, fingerprint: manifest.fingerprint }, null, 2),
        );
      else console.log(`${manifest.name}: ${formatBytes(manifest.arenaBytes)} in ${manifest.shards.length} shards at ${out}`);
    });
}
