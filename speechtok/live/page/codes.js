// Codes: their bits in messages, and the tokenizer of the browser, which makes codes from audio and audio from codes.

function layout(info, numCodebooks) {
  const bits = Math.max(1, Math.ceil(Math.log2(info.codebook_size)));
  return { bits, size: Math.ceil((numCodebooks * bits) / 8) };
}

/** Codes of each frame: one list for each. */
export function unpackCodes(bytes, info, numCodebooks) {
  const { bits, size } = layout(info, numCodebooks);
  const frames = [];
  for (let start = 0; start + size <= bytes.length; start += size) {
    const codes = [];
    for (let q = 0; q < numCodebooks; q++) {
      let code = 0;
      for (let b = 0; b < bits; b++) {
        const place = q * bits + b;
        code |= ((bytes[start + (place >> 3)] >> (place & 7)) & 1) << b;
      }
      codes.push(code);
    }
    frames.push(codes);
  }
  return frames;
}

/** The inverse. */
export function packCodes(frames, info) {
  const { bits, size } = layout(info, info.num_codebooks);
  const bytes = new Uint8Array(frames.length * size);
  frames.forEach((codes, frame) => {
    codes.forEach((code, q) => {
      for (let b = 0; b < bits; b++) {
        const place = q * bits + b;
        bytes[frame * size + (place >> 3)] |= ((code >> b) & 1) << (place & 7);
      }
    });
  });
  return bytes;
}

const columns = (codes) => Array.from({ length: codes.numFrames }, (_, t) => Array.from({ length: codes.numCodebooks }, (_, q) => codes.get(q, t)));

let loading = null; // the tokenizer is loaded once

/** The tokenizer of the server, in a worker of this page. */
export function loadTokenizer(info, token) {
  loading ??= load(info, token).catch((error) => {
    loading = null;
    throw error;
  });
  return loading;
}

async function load(info, token) {
  const { Codes, loadInWorker } = await import("./js/index.js");
  const response = await fetch(info.weights, token ? { headers: { Authorization: `Bearer ${token}` } } : {});
  if (!response.ok) throw new Error(response.status === 401 ? "the server asks for its token" : `the tokenizer cannot be loaded: ${response.status}`);
  return { Codes, tokenizer: await loadInWorker(response) };
}

/** Audio of the user to codes. Blocks that wait are encoded as one, so that a device which was busy catches up. */
export class Encoder {
  /** `give` takes the codes of new frames, in order. */
  static async open({ tokenizer }, sampleRate, give) {
    const encoder = new Encoder();
    Object.assign(encoder, { give, stream: await tokenizer.stream({ sampleRate }) });
    return encoder;
  }

  blocks = []; // that wait
  running = null;

  push(block) {
    this.blocks.push(block);
    this.running ??= this.run().finally(() => (this.running = null));
    return this.running;
  }

  async run() {
    while (this.blocks.length) this.give(columns(await this.stream.encode(join(this.blocks.splice(0)))));
  }

  /** End the utterance: the last frame is completed with silence. */
  async finish() {
    await this.running;
    this.give(columns(await this.stream.flush()));
    await this.stream.close();
  }
}

function join(blocks) {
  const joined = new Float32Array(blocks.reduce((sum, block) => sum + block.length, 0));
  let place = 0;
  for (const block of blocks) {
    joined.set(block, place);
    place += block.length;
  }
  return joined;
}

/** Codes of the agent to audio. What was cleared is not played, however late it comes. */
export class Decoder {
  static async open({ Codes, tokenizer }, play) {
    const decoder = new Decoder();
    Object.assign(decoder, { Codes, play, stream: await tokenizer.stream() });
    return decoder;
  }

  numCodebooks = null; // of the agent's codes; all, if it is not told
  epoch = 0;

  decode(frames) {
    const count = this.numCodebooks ?? frames[0].length;
    const rows = Array.from({ length: count }, (_, q) => frames.map((codes) => codes[q]));
    return this.give(this.stream.decode(this.Codes.from(rows)));
  }

  /** An utterance has ended: its last frame is due. */
  end() {
    const given = this.give(this.stream.drain());
    this.stream.reset();
    return given;
  }

  clear() {
    this.epoch++;
    return this.stream.reset();
  }

  close() {
    this.epoch++;
    return this.stream.close();
  }

  async give(audio) {
    const { epoch } = this;
    const samples = await audio;
    if (epoch === this.epoch && samples.length) this.play(samples);
  }
}
