import { SpeechtokError } from "./errors.js";
import { isNode, readSource } from "./files.js";
import { isCheckpoint } from "./load.js";
import { fromError, revive } from "./protocol.js";
/** A stream in a worker: the methods of `Stream`, with promises. Calls are answered in their order. */
export class WorkerStream {
    send;
    stream;
    /** @internal */
    constructor(send, stream) {
        this.send = send;
        this.stream = stream;
    }
    encode(chunk) {
        return this.call("encode", chunk);
    }
    flush() {
        return this.call("flush");
    }
    decode(codes) {
        return this.call("decode", codes);
    }
    drain() {
        return this.call("drain");
    }
    reset() {
        return this.call("reset");
    }
    close() {
        return this.call("close");
    }
    call(method, ...args) {
        return this.send({ stream: this.stream, method, args });
    }
}
/** A tokenizer in a worker: the methods of `Tokenizer`, with promises. The page stays responsive meanwhile. */
export class WorkerTokenizer {
    send;
    close;
    sampleRate;
    hopLength;
    frameRate;
    numCodebooks;
    codebookSize;
    fingerprint;
    decoderFingerprint;
    kind;
    streams = 0;
    /** @internal */
    constructor(send, 
    /** Stop the worker. Calls that are not answered yet are rejected. */
    close, info) {
        this.send = send;
        this.close = close;
        Object.assign(this, info);
    }
    /** Bits a second of codes of some codebooks; of all if the number is left out. */
    bitRate(numCodebooks = this.numCodebooks) {
        return numCodebooks * Math.log2(this.codebookSize) * this.frameRate;
    }
    encode(waveform, options = {}) {
        return this.call("encode", waveform, options);
    }
    decode(tokens, options = {}) {
        return this.call("decode", tokens, options);
    }
    resample(waveform, fromRate, toRate = this.sampleRate) {
        return this.call("resample", waveform, fromRate, toRate);
    }
    readTokens(bytes) {
        return this.call("readTokens", bytes);
    }
    writeTokens(tokens) {
        return this.call("writeTokens", tokens);
    }
    async stream(options = {}) {
        const stream = ++this.streams;
        await this.send({ stream, method: "open", args: [options] });
        return new WorkerStream(this.send, stream);
    }
    call(method, ...args) {
        return this.send({ method, args });
    }
}
/** A source as a worker can read it: URLs are relative to the page. */
async function sendable(source) {
    if (typeof source === "string")
        return isNode() ? source : new URL(source, location.href).href;
    if (source instanceof URL)
        return source.href;
    if (source instanceof Response)
        return readSource(source);
    if (isCheckpoint(source))
        return { config: await sendable(source.config), weights: await sendable(source.weights) };
    return source;
}
/** Load a tokenizer in a worker of its own. The arguments are those of `load`. */
export async function loadInWorker(...args) {
    const waiting = new Map();
    const failed = (error) => {
        for (const { reject } of waiting.values())
            reject(error);
        waiting.clear();
    };
    const receive = ({ id, value, error }) => {
        const call = waiting.get(id);
        waiting.delete(id);
        if (error)
            call?.reject(fromError(error));
        else
            call?.resolve(revive(value));
    };
    const answered = (id) => new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
    const ready = answered(0);
    const { post, stop } = isNode() ? await openThread(receive, failed) : openWorker(receive, failed);
    let closed = false;
    let calls = 0;
    const send = (request) => {
        if (closed)
            return Promise.reject(new SpeechtokError("bad-state", "this WorkerTokenizer was closed; load another one"));
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
        return new WorkerTokenizer(send, close, info);
    }
    catch (error) {
        stop();
        throw error;
    }
}
function openWorker(receive, failed) {
    const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    worker.onmessage = (event) => receive(event.data);
    worker.onerror = (event) => failed(new Error(event.message || "the worker cannot be loaded"));
    return { post: (request) => worker.postMessage(request), stop: () => worker.terminate() };
}
async function openThread(receive, failed) {
    const { Worker } = await import(/* webpackIgnore: true */ /* @vite-ignore */ "node:worker_threads");
    const worker = new Worker(new URL("./worker.js", import.meta.url));
    worker.on("message", receive);
    worker.on("error", failed);
    return { post: (request) => worker.postMessage(request), stop: () => void worker.terminate() };
}
