import { SpeechtokError, checkInteger } from "./errors.js";
/**
 * A microphone that is on: `for await (const chunk of microphone)` reads it until `close`.
 *
 * Chunks are mono, at the rate of the device. `tok.stream({ sampleRate: microphone.sampleRate })` takes them as they are.
 */
export class Microphone {
    context;
    node;
    release;
    chunks = [];
    ended = false;
    wake = () => { };
    stopped;
    /** @internal */
    constructor(context, node, release) {
        this.context = context;
        this.node = node;
        this.release = release;
        this.stopped = new Promise((resolve) => {
            node.port.onmessage = ({ data }) => {
                if (data)
                    this.chunks.push(data);
                else {
                    this.ended = true;
                    resolve();
                }
                this.wake();
            };
        });
    }
    /** In hertz. */
    get sampleRate() {
        return this.context.sampleRate;
    }
    /** Switch the microphone off. Samples up to now are still read. */
    async close() {
        if (this.context.state === "closed")
            return;
        this.node.port.postMessage(null);
        await this.stopped;
        this.release();
        if (this.context.state !== "closed")
            await this.context.close();
    }
    async *[Symbol.asyncIterator]() {
        try {
            for (;;) {
                const chunk = this.chunks.shift();
                if (chunk)
                    yield chunk;
                else if (this.ended)
                    return;
                else
                    await new Promise((resolve) => (this.wake = resolve));
            }
        }
        finally {
            await this.close();
        }
    }
}
/** Switch the microphone on. Browsers ask the user first, and allow it on pages of https or localhost only. */
export async function openMicrophone(options = {}) {
    const milliseconds = checkInteger("chunkMilliseconds", options.chunkMilliseconds ?? 20, 1, 10_000);
    if (!options.mediaStream && !globalThis.navigator?.mediaDevices)
        throw new SpeechtokError("bad-state", "there is no microphone here; expected a browser and a page of https or localhost");
    const mediaStream = options.mediaStream ??
        (await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, ...options.constraints } }));
    const stopTracks = () => {
        if (!options.mediaStream)
            for (const track of mediaStream.getTracks())
                track.stop();
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
    }
    catch (error) {
        stopTracks();
        await context.close();
        throw error;
    }
}
