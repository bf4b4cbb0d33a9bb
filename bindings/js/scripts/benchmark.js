// Speed of the default tokenizer in CPU time, which other programs of the machine disturb least: npm run benchmark
import { load } from "../dist/index.js";
import { stressInput } from "../test/stress.js";

const seconds = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};

/** The least of several runs, in seconds. */
function time(run, count) {
  let least = Infinity;
  for (let i = 0; i < count; i++) {
    const start = seconds();
    run();
    least = Math.min(least, seconds() - start);
  }
  return least;
}

const x = stressInput().slice(359_200);
for (const kind of process.argv[2] ? [process.argv[2]] : ["simd", "scalar"]) {
  const start = seconds();
  const tok = await load(undefined, { kind });
  const loading = seconds() - start;
  const runs = kind === "simd" ? 8 : 2;
  const duration = x.length / tok.sampleRate;
  const tokens = tok.encode(x);
  const encode = duration / time(() => tok.encode(x), runs);
  const decode = duration / time(() => tok.decode(tokens), runs);
  console.log(`${kind}: loads in ${loading.toFixed(2)} s; times real time: encode ${encode.toFixed(0)}, decode ${decode.toFixed(0)}`);
  const stream = tok.stream();
  const steps = [];
  for (let i = 0; i < 2_000; i++) {
    const at = (320 * i) % (x.length - 320);
    steps.push(time(() => stream.decode(stream.encode(x.subarray(at, at + 320))), 1));
  }
  const sorted = steps.slice(100).sort((a, b) => a - b); // after the engine has compiled the module
  const quantile = (q) => (1e3 * sorted[Math.floor(q * (sorted.length - 1))]).toFixed(2);
  console.log(`${kind}: a chunk of 20 ms both ways: median ${quantile(0.5)} ms, 99th percentile ${quantile(0.99)} ms`);
}
