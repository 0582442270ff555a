import type { ModelConfig } from './config.ts';

/**
 * RoPE frequencies f_i, i = 0 .. headDim/2 - 1: position p turns channels i and i + headDim/2 by p * f_i.
 *   f_i = 1 / theta^(2i/d);  linear: f_i / s;  factors: f_i / factor_i
 *   llama3: wavelength w = 2 pi / f;  w < L/high: f;  w > L/low: f / s;  between: (1-m) f / s + m f, m = (L/w - low) / (high - low)
 * Every step is rounded to float32, as transformers does it, so that tables agree at long positions.
 */
export function invFreq(config: Pick<ModelConfig, 'headDim' | 'rope'>): Float32Array<ArrayBuffer> {
  const f32 = Math.fround;
  const { theta, scaling } = config.rope;
  return Float32Array.from({ length: config.headDim / 2 }, (_, i) => {
    const f = f32(1 / f32(theta ** f32((2 * i) / config.headDim)));
    switch (scaling.type) {
      case 'none':
        return f;
      case 'linear':
        return f32(f / scaling.factor);
      case 'factors':
        return f32(f / f32(scaling.factors[i]));
      case 'llama3': {
        const { factor, lowFreqFactor: low, highFreqFactor: high, originalContextLength: original } = scaling;
        const wavelength = f32((2 * Math.PI) / f);
        if (wavelength < original / high) return f;
        if (wavelength > original / low) return f32(f / factor);
        const m = f32(f32(f32(original / wavelength) - low) / (high - low));
        return f32(f32(f32(f32(1 - m) * f) / factor) + f32(m * f));
      }
    }
  });
}
