// Serve the example: npm run example
import { fileURLToPath } from "node:url";
import { serve } from "./server.js";

const { url } = await serve(fileURLToPath(new URL("..", import.meta.url)), Number(process.env.PORT ?? 8000));
console.log(`${url}example/`);
