import { SpeechtokError, codeOf } from "./errors.js";
import { readSource } from "./files.js";

/** An address in the memory of the module; 0 for none. */
export type Address = number;

/** Functions of native/wasm.c. Those that return a status write to `result`. */
interface Exports {
  memory: WebAssembly.Memory;
  _initialize(): void;
  allocate(size: number): Address;
  release(address: Address): void;
  error_message(): Address;
  load_packed(packed: Address, size: number, result: Address): number;
  load_files(config: Address, configSize: number, weights: Address, weightsSize: number, result: Address): number;
  pack_files(config: Address, configSize: number, weights: Address, weightsSize: number, result: Address): number;
  free_tokenizer(tokenizer: Address): void;
  describe(tokenizer: Address, result: Address): void;
  encode(tokenizer: Address, waveform: Address, samples: number, numCodebooks: number, result: Address): number;
  decode(
    tokenizer: Address,
    codes: Address,
    numCodebooks: number,
    frames: number,
    samples: number,
    result: Address,
  ): number;
  open_stream(tokenizer: Address, numCodebooks: number, sampleRate: number, result: Address): number;
  close_stream(stream: Address): void;
  reset_stream(stream: Address): void;
  stream_encode(stream: Address, chunk: Address, samples: number, numCodebooks: number, result: Address): number;
  stream_flush(stream: Address, numCodebooks: number, result: Address): number;
  stream_decode(
    stream: Address,
    codes: Address,
    numCodebooks: number,
    frames: number,
    hopLength: number,
    result: Address,
  ): number;
  stream_drain(stream: Address, hopLength: number, result: Address): number;
  open_resampler(fromRate: number, toRate: number, result: Address): number;
  close_resampler(resampler: Address): void;
  reset_resampler(resampler: Address): void;
  resample(resampler: Address, chunk: Address, samples: number, result: Address): number;
  parse_tokens(data: Address, size: number, result: Address): number;
  utterance_of(tokens: Address, row: number, result: Address): number;
  free_tokens(tokens: Address): void;
  write_tokens(
    codes: Address,
    lengths: Address,
    numSamples: Address,
    batch: number,
    numCodebooks: number,
    frames: number,
    sampleRate: number,
    hopLength: number,
    codebookSize: number,
    fingerprint: Address,
    result: Address,
  ): number;
}

/** Kinds of the module: with vector instructions, or for engines without them. */
export type Kind = "simd" | "scalar";

const RESULTS = 8;

/** A module of one function that returns a vector. */
const VECTOR_PROBE = new Uint8Array([
  0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 5, 1, 0x60, 0, 1, 0x7b, 3, 2, 1, 0, 10, 10, 1, 8, 0, 0x41, 0, 0xfd, 15, 0xfd, 98, 11,
]);

/** The fastest kind that this engine runs. */
export function bestKind(): Kind {
  return WebAssembly.validate(VECTOR_PROBE) ? "simd" : "scalar";
}

/** An instance of the module, and the traffic with its memory. */
export class Native {
  private readonly result: Address;

  private constructor(
    readonly functions: Exports,
    readonly kind: Kind,
  ) {
    functions._initialize();
    this.result = this.allocate(4 * RESULTS);
  }

  static async open(kind: Kind): Promise<Native> {
    const url =
      kind === "simd"
        ? new URL("./speechtok.simd.wasm", import.meta.url)
        : new URL("./speechtok.scalar.wasm", import.meta.url);
    const module = await WebAssembly.compile((await readSource(url)) as BufferSource);
    const instance = await WebAssembly.instantiate(module, {});
    return new Native(instance.exports as unknown as Exports, kind);
  }

  /** Call a function that returns a status, after copies of arrays to its memory; they are released afterwards. */
  call(arrays: readonly ArrayBufferView[], run: (result: Address, ...addresses: Address[]) => number): Uint32Array {
    const addresses: Address[] = [];
    try {
      for (const array of arrays) addresses.push(this.copyIn(array));
      this.check(run(this.result, ...addresses));
      return new Uint32Array(this.functions.memory.buffer.slice(this.result, this.result + 4 * RESULTS));
    } finally {
      for (const address of addresses) this.functions.release(address);
    }
  }

  /** The numbers that a function writes which cannot fail. */
  read(run: (result: Address) => void): Uint32Array {
    return this.call([], (result) => (run(result), 0));
  }

  takeCodes(address: Address, count: number): Uint16Array {
    return new Uint16Array(this.take(address, 2 * count));
  }

  takeSamples(address: Address, count: number): Float32Array {
    return new Float32Array(this.take(address, 4 * count));
  }

  /** Copy an array of the module, and release it. */
  take(address: Address, size: number): ArrayBuffer {
    const copied = this.functions.memory.buffer.slice(address, address + size);
    this.functions.release(address);
    return copied as ArrayBuffer;
  }

  text(address: Address): string {
    const bytes = new Uint8Array(this.functions.memory.buffer);
    return new TextDecoder().decode(bytes.slice(address, bytes.indexOf(0, address)));
  }

  private allocate(size: number): Address {
    const address = this.functions.allocate(size) >>> 0;
    if (!address) throw new SpeechtokError("no-memory", `there is not enough memory for ${size} bytes`);
    return address;
  }

  private copyIn(array: ArrayBufferView): Address {
    const address = this.allocate(array.byteLength);
    const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    new Uint8Array(this.functions.memory.buffer).set(bytes, address);
    return address;
  }

  private check(status: number): void {
    if (status) throw new SpeechtokError(codeOf(status), this.text(this.functions.error_message()));
  }
}
