/** Speech to discrete tokens and back: the codes and the audio of the Python package speechtok, bit for bit. */
export { Codes, type SpeechTokens } from "./codes.js";
export { SpeechtokError, type ErrorCode } from "./errors.js";
export type { Source } from "./files.js";
export { load, pack, type Checkpoint, type LoadOptions } from "./load.js";
export { openMicrophone, type Microphone, type MicrophoneOptions } from "./microphone.js";
export type { Kind } from "./native.js";
export type { Resampler } from "./resampler.js";
export type { Stream } from "./stream.js";
export { concat, type DecodeOptions, type EncodeOptions, type Tokenizer, type TokenizerInfo } from "./tokenizer.js";
export { loadInWorker, type WorkerStream, type WorkerTokenizer } from "./remote.js";
