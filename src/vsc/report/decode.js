"use strict";
// Decode as PyTorch does: what a page carries (live.py) in, numbers in model units out. No page is needed for it.

const HALVES = Float32Array.from({ length: 65536 }, (_, bits) => {
  const exponent = (bits >> 10) & 31, fraction = bits & 1023, sign = bits & 32768 ? -1 : 1;
  if (exponent === 31) return NaN;
  return sign * (exponent ? 2 ** (exponent - 25) * (1024 + fraction) : 2 ** -24 * fraction);
});

function unpacked(carried) {
  const text = atob(carried.numbers), bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
  const bits = new Uint16Array(bytes.buffer);
  return ([start, length, scale]) => {
    const out = new Float32Array(length);
    for (let i = 0; i < length; i++) out[i] = scale * HALVES[bits[start + i]];
    return out;
  };
}

const ACTIVATIONS = {
  relu: (x) => (x > 0 ? x : 0),
  leaky: (x, by) => (x > 0 ? x : by * x),
  elu: (x, by) => (x > 0 ? x : by * Math.expm1(x)),
  gelu: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))), // within 5e-4
  silu: (x) => x / (1 + Math.exp(-x)),
  softplus: (x, by) => (by * x > 20 ? x : Math.log1p(Math.exp(by * x)) / by),
  tanh: Math.tanh,
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
};

const LAYERS = {
  linear({ weight, bias }) {
    return (x) => {
      const out = bias ? bias.slice() : new Float32Array(weight.length / x.length), n = x.length;
      for (let o = 0, w = 0; o < out.length; o++, w += n) {
        let sum = 0;
        for (let i = 0; i < n; i++) sum += weight[w + i] * x[i];
        out[o] += sum;
      }
      return out;
    };
  },
  // Every number of the small side meets a kernel's worth of the large side; going up is that way back.
  convolution({ weight, bias, up, from, to, kernel, stride, padding, dilation }) {
    const [small, large] = up ? [from, to] : [to, from];
    const [S, h, w] = small, [L, H, W] = large, [kh, kw] = kernel;
    return (x) => {
      const out = new Float32Array(to[0] * to[1] * to[2]), area = to[1] * to[2];
      if (bias) for (let i = 0; i < out.length; i++) out[i] = bias[Math.floor(i / area)];
      for (let s = 0; s < S; s++) for (let l = 0; l < L; l++)
        for (let a = 0; a < kh; a++) for (let b = 0; b < kw; b++) {
          const by = weight[((s * L + l) * kh + a) * kw + b];
          for (let y = 0; y < h; y++) {
            const Y = y * stride[0] - padding[0] + a * dilation[0];
            if (Y < 0 || Y >= H) continue;
            for (let c = 0; c < w; c++) {
              const C = c * stride[1] - padding[1] + b * dilation[1];
              if (C < 0 || C >= W) continue;
              const i = (s * h + y) * w + c, I = (l * H + Y) * W + C;
              if (up) out[I] += by * x[i]; else out[i] += by * x[I];
            }
          }
        }
      return out;
    };
  },
};
for (const [kind, one] of Object.entries(ACTIVATIONS)) LAYERS[kind] = ({ by }) => (x) => x.map((v) => one(v, by));

const each = (one) => (x) => x.map((v) => one(v));
const RESPONSES = {
  identity: (x) => x,
  sigmoid: each(ACTIVATIONS.sigmoid),
  exp: each((x) => Math.exp(Math.min(x, 40))),
  softmax(x) {
    const top = Math.max(...x), out = x.map((v) => Math.exp(v - top)), sum = out.reduce((a, b) => a + b, 0);
    return out.map((v) => v / sum);
  },
  "continuous-bernoulli": each((x) => {
    if (Math.abs(x) < 0.1) return 0.5 + x / 12 - x ** 3 / 720;
    const a = Math.abs(x), small = 1 / a - 1 / Math.expm1(a);
    return x > 0 ? 1 - small : small;
  }),
};

// z (J) -> E[x|z] (M), in model units
function decoder(carried, numbers) {
  const layers = carried.layers.map((layer) => {
    const arrays = Object.fromEntries(["weight", "bias"].filter((n) => layer[n]).map((n) => [n, numbers(layer[n])]));
    return LAYERS[layer.kind]({ ...layer, ...arrays });
  });
  return (z) => {
    let x = Float32Array.from(z);
    for (const layer of layers) x = layer(x);
    const parts = carried.responses.map(([name, first, count]) => RESPONSES[name](x.subarray(first, first + count)));
    if (parts.length === 1) return parts[0];
    return Float32Array.from(parts.flatMap((part) => Array.from(part)));
  };
}

// back to the units of the data
const stored = ({ factor, shift }, x) => Array.from(x, (v, i) => v / factor[i % factor.length] + shift[i % shift.length]);

function normal() {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}
function laplace() {
  return Math.log((1 - Math.random()) / (1 - Math.random())); // a difference of two exponentials
}
// -> () => z ~ p(z)
function drawer({ latents, prior }, numbers) {
  const parts = [prior.gamma, prior.mean, prior.scale].map(numbers);
  return () => {
    const u = Math.floor(prior.components * Math.random());
    return Float32Array.from({ length: latents }, (_, j) => {
      const [gamma, mean, scale] = parts.map((part) => part[(u * latents + j) % part.length]);
      return Math.random() < gamma ? mean + scale * (prior.laplace ? laplace() : normal()) : 0;
    });
  };
}

// The two paths of vsc.sampling: `steps` of a continuous one are its length, of a discrete one the latents that differ.
const changes = (a, b) => [...a.keys()].filter((j) => a[j] !== b[j]).sort((i, j) => Math.abs(b[j] - a[j]) - Math.abs(b[i] - a[i]) || i - j);
const PATHS = {
  continuous: { steps: () => 1, at: (a, b, t) => a.map((v, j) => (1 - t) * v + t * b[j]) },
  discrete: {
    steps: (a, b) => changes(a, b).length,
    at(a, b, t) {
      const z = a.slice();
      for (const j of changes(a, b).slice(0, t)) z[j] = b[j];
      return z;
    },
  },
};
