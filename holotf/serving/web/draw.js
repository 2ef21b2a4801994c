// The latents that TensorFlow's stateless randomness draws of a seed, number for number (normal ones to float32's last digits).
//
// Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 5.3 (Philox4x32-10), and TensorFlow's
// random_distributions.h and stateless_random_ops.cc.

const ROUNDS = 10;
const [M0, M1] = [0xd2511f53n, 0xcd9e8d57n];
const [W0, W1] = [0x9e3779b9, 0xbb67ae85];

// Four counters and two keys, 32 bits each -> four random words.
function philox(counter, key) {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < ROUNDS; round++) {
    const [a, b] = [BigInt(c0) * M0, BigInt(c2) * M1];
    const low = (product) => Number(product & 0xffffffffn);
    const high = (product) => Number(product >> 32n);
    [c0, c1, c2, c3] = [(high(b) ^ c1 ^ k0) >>> 0, low(b), (high(a) ^ c3 ^ k1) >>> 0, low(a)];
    [k0, k1] = [(k0 + W0) >>> 0, (k1 + W1) >>> 0];
  }
  return [c0, c1, c2, c3];
}

// Words of the stream of a seed, a pair of signed 32-bit numbers.
function words(seed, count) {
  const halves = (number) => [number >>> 0, number < 0 ? 0xffffffff : 0]; // of the 64 bits
  const [k0, k1, c2, c3] = philox([...halves(seed[0]), ...halves(seed[1])], [0x3ec8f720, 0x02461e29]);
  return Array.from({ length: Math.ceil(count / 4) }, (_, block) => philox([block, 0, c2, c3], [k0, k1])).flat();
}

const unit = (word) => (word & 0x7fffff) / 2 ** 23; // in [0, 1)

const distributions = {
  uniform: (stream) => stream.map((word) => 2 * unit(word) - 1), // in [-1, 1)
  // Box and Muller: pairs of words -> pairs of normal numbers.
  normal: (stream) =>
    stream.map((word, i) => {
      const [first, second] = i % 2 ? [stream[i - 1], word] : [word, stream[i + 1]];
      const radius = Math.sqrt(-2 * Math.log(Math.max(unit(first), 1e-7)));
      return radius * (i % 2 ? Math.cos : Math.sin)(2 * Math.PI * unit(second));
    }),
};

// recipe: {distribution: "uniform" or "normal", split: whether the seed is split in two first}, of model.json.
export function latent(seed, zDim, { distribution, split }) {
  const pair = split ? words([seed, 0], 2).slice(0, 2).map((word) => word | 0) : [seed, 0];
  return Float32Array.from(distributions[distribution](words(pair, zDim)).slice(0, zDim));
}
