/** The program of the worker: see remote.ts. */
import { toError, buffersOf, revive, type Endpoint, type Request } from "./protocol.js";
import { isNode } from "./files.js";
import { load } from "./load.js";
import type { Stream } from "./stream.js";
import type { Tokenizer } from "./tokenizer.js";

type Methods = Record<string, (...args: unknown[]) => unknown>;

let tokenizer: Tokenizer;
const streams = new Map<number, Stream>();

async function answer(request: Request): Promise<unknown> {
  const args = revive(request.args) as unknown[];
  if (request.stream === undefined) {
    if (request.method !== "load") return (tokenizer as unknown as Methods)[request.method]!(...args);
    tokenizer = await load(...(args as Parameters<typeof load>));
    const { sampleRate, hopLength, frameRate, numCodebooks, codebookSize, fingerprint, decoderFingerprint, kind } =
      tokenizer;
    return { sampleRate, hopLength, frameRate, numCodebooks, codebookSize, fingerprint, decoderFingerprint, kind };
  }
  if (request.method === "open") {
    streams.set(request.stream, tokenizer.stream(...(args as Parameters<Tokenizer["stream"]>)));
    return;
  }
  const stream = streams.get(request.stream)!;
  if (request.method === "close") streams.delete(request.stream);
  return (stream as unknown as Methods)[request.method]!(...args);
}

async function endpoint(): Promise<Endpoint> {
  if (isNode()) {
    const { parentPort } = await import(/* webpackIgnore: true */ /* @vite-ignore */ "node:worker_threads");
    return {
      post: (message, transfer) => parentPort!.postMessage(message, transfer),
      listen: (receive) => parentPort!.on("message", receive),
    };
  }
  return {
    post: (message, transfer) => postMessage(message, { transfer }),
    listen: (receive) => addEventListener("message", (event) => receive(event.data)),
  };
}

const port = await endpoint();
let last: Promise<void> = Promise.resolve();
port.listen((request) => {
  // one after the other: the tokenizer is there before its methods are called
  last = last.then(async () => {
    try {
      const value = await answer(request);
      port.post({ id: request.id, value }, buffersOf(value));
    } catch (error) {
      port.post({ id: request.id, error: toError(error) }, []);
    }
  });
});
port.post({ id: 0 }, []); // ready: messages that come earlier are lost in browsers
