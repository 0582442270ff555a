// llama.cpp through node-llama-cpp: its own prebuilt CPU binary, one thread, no GPU, KV cache and options at their defaults.
import { readFileSync } from 'node:fs';
import { getLlama, LlamaLogLevel } from 'node-llama-cpp';
import { CONTEXT_SIZE } from './workload.mjs';

export async function openLlama(path) {
  const llama = await getLlama({ gpu: false, build: 'never', maxThreads: 1, logLevel: LlamaLogLevel.error });
  const model = await llama.loadModel({ modelPath: path, gpuLayers: 0 });
  const context = await model.createContext({ contextSize: CONTEXT_SIZE, batchSize: 512, threads: 1 });
  return { llama, model, sequence: context.getSequence() };
}

/** "node-llama-cpp 3.22.1 (llama.cpp v0.5.0)" */
export function llamaVersion() {
  const read = (path) => JSON.parse(readFileSync(new URL(path, import.meta.resolve('node-llama-cpp')), 'utf8'));
  const { release } = read('../llama/binariesGithubRelease.json');
  return `node-llama-cpp ${read('../package.json').version} (llama.cpp ${release})`;
}
