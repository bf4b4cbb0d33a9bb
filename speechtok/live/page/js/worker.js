/** The program of the worker: see remote.ts. */
import { toError, buffersOf, revive } from "./protocol.js";
import { isNode } from "./files.js";
import { load } from "./load.js";
let tokenizer;
const streams = new Map();
async function answer(request) {
    const args = revive(request.args);
    if (request.stream === undefined) {
        if (request.method !== "load")
            return tokenizer[request.method](...args);
        tokenizer = await load(...args);
        const { sampleRate, hopLength, frameRate, numCodebooks, codebookSize, fingerprint, decoderFingerprint, kind } = tokenizer;
        return { sampleRate, hopLength, frameRate, numCodebooks, codebookSize, fingerprint, decoderFingerprint, kind };
    }
    if (request.method === "open") {
        streams.set(request.stream, tokenizer.stream(...args));
        return;
    }
    const stream = streams.get(request.stream);
    if (request.method === "close")
        streams.delete(request.stream);
    return stream[request.method](...args);
}
async function endpoint() {
    if (isNode()) {
        const { parentPort } = await import(/* webpackIgnore: true */ /* @vite-ignore */ "node:worker_threads");
        return {
            post: (message, transfer) => parentPort.postMessage(message, transfer),
            listen: (receive) => parentPort.on("message", receive),
        };
    }
    return {
        post: (message, transfer) => postMessage(message, { transfer }),
        listen: (receive) => addEventListener("message", (event) => receive(event.data)),
    };
}
const port = await endpoint();
let last = Promise.resolve();
port.listen((request) => {
    // one after the other: the tokenizer is there before its methods are called
    last = last.then(async () => {
        try {
            const value = await answer(request);
            port.post({ id: request.id, value }, buffersOf(value));
        }
        catch (error) {
            port.post({ id: request.id, error: toError(error) }, []);
        }
    });
});
port.post({ id: 0 }, []); // ready: messages that come earlier are lost in browsers
