/** Messages between a page and the worker that computes for it. */
import { Codes, type SpeechTokens } from "./codes.js";
import { SpeechtokError, type ErrorCode } from "./errors.js";

/** A call of a method: of the tokenizer if `stream` is left out. */
export interface Request {
  id: number;
  stream?: number;
  method: string;
  args: unknown[];
}

export interface Reply {
  id: number;
  value?: unknown;
  error?: { code?: ErrorCode; message: string };
}

/** The worker's side: a thread of a browser, or of Node.js. */
export interface Endpoint {
  post(reply: Reply, transfer: ArrayBuffer[]): void;
  listen(receive: (request: Request) => void): void;
}

/** Codes lose their class on the way; this is what they become. */
interface PlainCodes {
  data: Uint16Array;
  numCodebooks: number;
  numFrames: number;
}

/** A value that was sent, with its classes again. */
export function revive(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(revive);
  if (isPlainCodes(value)) return new Codes(value.data, value.numCodebooks, value.numFrames);
  if (isTokens(value)) return { ...value, codes: revive(value.codes) };
  return value;
}

/** Buffers of a result, which the worker needs no longer. */
export function buffersOf(value: unknown): ArrayBuffer[] {
  if (Array.isArray(value)) return value.flatMap(buffersOf);
  if (value instanceof Codes) return [value.data.buffer as ArrayBuffer];
  if (value instanceof Float32Array || value instanceof Uint8Array) return [value.buffer as ArrayBuffer];
  return isTokens(value) ? buffersOf(value.codes) : [];
}

export function toError(error: unknown): NonNullable<Reply["error"]> {
  if (error instanceof SpeechtokError) return { code: error.code, message: error.message };
  return { message: error instanceof Error ? error.message : String(error) };
}

export function fromError({ code, message }: NonNullable<Reply["error"]>): Error {
  return code ? new SpeechtokError(code, message) : new Error(message);
}

function isPlainCodes(value: unknown): value is PlainCodes {
  return typeof value === "object" && value !== null && "data" in value && "numFrames" in value;
}

function isTokens(value: unknown): value is SpeechTokens {
  return typeof value === "object" && value !== null && "codes" in value && "fingerprint" in value;
}
