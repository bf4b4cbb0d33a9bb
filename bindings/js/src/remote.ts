import type { Codes, SpeechTokens } from "./codes.js";
import { SpeechtokError } from "./errors.js";
import { isNode, readSource, type Source } from "./files.js";
import { isCheckpoint, type Checkpoint, type load } from "./load.js";
import { fromError, revive, type Reply, type Request } from "./protocol.js";
import type { DecodeOptions, EncodeOptions, Tokenizer, TokenizerInfo } from "./tokenizer.js";

type Send = (request: Omit<Request, "id">) => Promise<unknown>;

/** A stream in a worker: the methods of `Stream`, with promises. Calls are answered in their order. */
export class WorkerStream {
  /** @internal */
  constructor(
    private readonly send: Send,
    private readonly stream: number,
  ) {}

  encode(chunk: Float32Array): Promise<Codes> {
    return this.call("encode", chunk);
  }

  flush(): Promise<Codes> {
    return this.call("flush");
  }

  decode(codes: Codes): Promise<Float32Array> {
    return this.call("decode", codes);
  }

  drain(): Promise<Float32Array> {
    return this.call("drain");
  }

  reset(): Promise<void> {
    return this.call("reset");
  }

  close(): Promise<void> {
    return this.call("close");
  }

  private call<T>(method: string, ...args: unknown[]): Promise<T> {
    return this.send({ stream: this.stream, method, args }) as Promise<T>;
  }
}

/** A tokenizer in a worker: the methods of `Tokenizer`, with promises. The page stays responsive meanwhile. */
export class WorkerTokenizer implements TokenizerInfo {
  readonly sampleRate!: number;
  readonly hopLength!: number;
  readonly frameRate!: number;
  readonly numCodebooks!: number;
  readonly codebookSize!: number;
  readonly fingerprint!: string;
  readonly decoderFingerprint!: string;
  readonly kind!: Tokenizer["kind"];
  private streams = 0;

  /** @internal */
  constructor(
    private readonly send: Send,
    /** Stop the worker. Calls that are not answered yet are rejected. */
    readonly close: () => void,
    info: TokenizerInfo,
  ) {
    Object.assign(this, info);
  }

  /** Bits a second of codes of some codebooks; of all if the number is left out. */
  bitRate(numCodebooks = this.numCodebooks): number {
    return numCodebooks * Math.log2(this.codebookSize) * this.frameRate;
  }

  encode(waveform: Float32Array, options: EncodeOptions = {}): Promise<SpeechTokens> {
    return this.call("encode", waveform, options);
  }

  decode(tokens: SpeechTokens | Codes, options: DecodeOptions = {}): Promise<Float32Array> {
    return this.call("decode", tokens, options);
  }

  resample(waveform: Float32Array, fromRate: number, toRate: number = this.sampleRate): Promise<Float32Array> {
    return this.call("resample", waveform, fromRate, toRate);
  }

  readTokens(bytes: Uint8Array): Promise<SpeechTokens[]> {
    return this.call("readTokens", bytes);
  }

  writeTokens(tokens: SpeechTokens | readonly SpeechTokens[]): Promise<Uint8Array> {
    return this.call("writeTokens", tokens);
  }

  async stream(options: EncodeOptions = {}): Promise<WorkerStream> {
    const stream = ++this.streams;
    await this.send({ stream, method: "open", args: [options] });
    return new WorkerStream(this.send, stream);
  }

  private call<T>(method: string, ...args: unknown[]): Promise<T> {
    return this.send({ method, args }) as Promise<T>;
  }
}

/** A source as a worker can read it: URLs are relative to the page. */
async function sendable(source: Source | Checkpoint | undefined): Promise<unknown> {
  if (typeof source === "string") return isNode() ? source : new URL(source, location.href).href;
  if (source instanceof URL) return source.href;
  if (source instanceof Response) return readSource(source);
  if (isCheckpoint(source)) return { config: await sendable(source.config), weights: await sendable(source.weights) };
  return source;
}

/** Load a tokenizer in a worker of its own. The arguments are those of `load`. */
export async function loadInWorker(...args: Parameters<typeof load>): Promise<WorkerTokenizer> {
  const waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  const failed = (error: Error) => {
    for (const { reject } of waiting.values()) reject(error);
    waiting.clear();
  };
  const receive = ({ id, value, error }: Reply) => {
    const call = waiting.get(id);
    waiting.delete(id);
    if (error) call?.reject(fromError(error));
    else call?.resolve(revive(value));
  };
  const answered = (id: number) => new Promise<unknown>((resolve, reject) => waiting.set(id, { resolve, reject }));
  const ready = answered(0);
  const { post, stop } = isNode() ? await openThread(receive, failed) : openWorker(receive, failed);
  let closed = false;
  let calls = 0;
  const send: Send = (request) => {
    if (closed) return Promise.reject(new SpeechtokError("bad-state", "this WorkerTokenizer was closed; load another one"));
    const id = ++calls;
    const result = answered(id);
    post({ id, ...request });
    return result;
  };
  const close = () => {
    closed = true;
    stop();
    failed(new SpeechtokError("bad-state", "this WorkerTokenizer was closed before it answered"));
  };
  try {
    await ready;
    const info = await send({ method: "load", args: [await sendable(args[0]), args[1]] });
    return new WorkerTokenizer(send, close, info as TokenizerInfo);
  } catch (error) {
    stop();
    throw error;
  }
}

interface Channel {
  post(request: Request): void;
  stop(): void;
}

function openWorker(receive: (reply: Reply) => void, failed: (error: Error) => void): Channel {
  const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  worker.onmessage = (event: MessageEvent<Reply>) => receive(event.data);
  worker.onerror = (event) => failed(new Error(event.message || "the worker cannot be loaded"));
  return { post: (request) => worker.postMessage(request), stop: () => worker.terminate() };
}

async function openThread(receive: (reply: Reply) => void, failed: (error: Error) => void): Promise<Channel> {
  const { Worker } = await import(/* webpackIgnore: true */ /* @vite-ignore */ "node:worker_threads");
  const worker = new Worker(new URL("./worker.js", import.meta.url));
  worker.on("message", receive);
  worker.on("error", failed);
  return { post: (request) => worker.postMessage(request), stop: () => void worker.terminate() };
}
