/** The model's tensors as the forward pass names them. Matrices are Weights in the backend's layouts; norms and biases are f32 vectors. */
import type { View, Weight } from '../backend/backend.ts';

export interface LayerWeights {
  readonly attnNorm: View; // [D]
  readonly q: Weight; // [Hq*d, D]
  readonly k: Weight; // [H*d, D]
  readonly v: Weight; // [H*d, D]
  readonly o: Weight; // [D, Hq*d]
  readonly qBias: View | null;
  readonly kBias: View | null;
  readonly vBias: View | null;
  readonly qNorm: View | null; // [d], per head before RoPE (Qwen3)
  readonly kNorm: View | null;
  readonly ffnNorm: View; // [D]
  readonly gate: Weight; // [I, D]
  readonly up: Weight; // [I, D]
  readonly down: Weight; // [D, I]
}

export interface ModelWeights {
  readonly embed: Weight; // [vocab, D]
  readonly layers: readonly LayerWeights[];
  readonly finalNorm: View; // [D]
  readonly head: Weight; // [vocab, D]; the embedding itself where the model ties them
}

/** What the forward pass must know of a model; a ModelConfig has it all. */
export interface ForwardShape {
  readonly hiddenSize: number; // D
  readonly intermediateSize: number; // I
  readonly queryHeads: number; // Hq
  readonly kvHeads: number; // H
  readonly headDim: number; // d
  readonly vocabSize: number;
  readonly normEps: number;
  /** Per layer; 0 = every key is seen. */
  readonly slidingWindows: readonly number[];
}
