import { SpeechtokError, checkInteger } from "./errors.js";

export interface MicrophoneOptions {
  /** Length of chunks; 20 if it is left out. */
  chunkMilliseconds?: number;
  /** Constraints of the device, such as `deviceId` or `echoCancellation`. */
  constraints?: MediaTrackConstraints;
  /** A source to read from instead of the microphone. It is not stopped by `close`. */
  mediaStream?: MediaStream;
}

/**
 * A microphone that is on: `for await (const chunk of microphone)` reads it until `close`.
 *
 * Chunks are mono, at the rate of the device. `tok.stream({ sampleRate: microphone.sampleRate })` takes them as they are.
 */
export class Microphone implements AsyncIterable<Float32Array> {
  private readonly chunks: Float32Array[] = [];
  private ended = false;
  private wake: () => void = () => {};
  private readonly stopped: Promise<void>;

  /** @internal */
  constructor(
    private readonly context: AudioContext,
    private readonly node: AudioWorkletNode,
    private readonly release: () => void,
  ) {
    this.stopped = new Promise((resolve) => {
      node.port.onmessage = ({ data }: MessageEvent<Float32Array | null>) => {
        if (data) this.chunks.push(data);
        else {
          this.ended = true;
          resolve();
        }
        this.wake();
      };
    });
  }

  /** In hertz. */
  get sampleRate(): number {
    return this.context.sampleRate;
  }

  /** Switch the microphone off. Samples up to now are still read. */
  async close(): Promise<void> {
    if (this.context.state === "closed") return;
    this.node.port.postMessage(null);
    await this.stopped;
    this.release();
    if ((this.context.state as string) !== "closed") await this.context.close();
  }

  async *[Symbol.asyncIterator](): AsyncIterator<Float32Array> {
    try {
      for (;;) {
        const chunk = this.chunks.shift();
        if (chunk) yield chunk;
        else if (this.ended) return;
        else await new Promise<void>((resolve) => (this.wake = resolve));
      }
    } finally {
      await this.close();
    }
  }
}

/** Switch the microphone on. Browsers ask the user first, and allow it on pages of https or localhost only. */
export async function openMicrophone(options: MicrophoneOptions = {}): Promise<Microphone> {
  const milliseconds = checkInteger("chunkMilliseconds", options.chunkMilliseconds ?? 20, 1, 10_000);
  if (!options.mediaStream && !globalThis.navigator?.mediaDevices)
    throw new SpeechtokError("bad-state", "there is no microphone here; expected a browser and a page of https or localhost");
  const mediaStream =
    options.mediaStream ??
    (await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, ...options.constraints } }));
  const stopTracks = () => {
    if (!options.mediaStream) for (const track of mediaStream.getTracks()) track.stop();
  };
  const context = new AudioContext(); // at the rate of the device: the browser does not resample
  try {
    await context.audioWorklet.addModule(new URL("./microphone-processor.js", import.meta.url));
    const source = context.createMediaStreamSource(mediaStream);
    const node = new AudioWorkletNode(context, "speechtok-microphone", {
      numberOfInputs: 1,
      channelCount: 1,
      channelCountMode: "explicit",
      processorOptions: { length: Math.round((context.sampleRate * milliseconds) / 1000) },
    });
    const microphone = new Microphone(context, node, () => {
      source.disconnect();
      node.disconnect();
      stopTracks();
    });
    source.connect(node);
    node.connect(context.destination); // silence; browsers may not run what is connected to nothing
    await context.resume();
    return microphone;
  } catch (error) {
    stopTracks();
    await context.close();
    throw error;
  }
}
