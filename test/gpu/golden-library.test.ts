/** The press library against the real kvpress on the GPU: the small models, every entry at its highest ratio. */
import { librarySuite } from '../support/golden-library-suite.ts';

librarySuite({ models: ['qwen3', 'llama'], load: { backend: 'webgpu', contextLength: 512 }, pick: (runs) => runs.slice(-1) });
