// Builds the Deck page from src/web to dist/web, with a content hash in file names. No polyfill and no inline code: the page's content
// security policy (src/http/routes/web-app.ts) forbids both.
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vite'

export default defineConfig({
  root: fileURLToPath(new URL('src/web', import.meta.url)),
  publicDir: false,
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  build: {
    outDir: fileURLToPath(new URL('dist/web', import.meta.url)),
    emptyOutDir: true,
    target: 'es2022',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    // A slow machine is no fault of a plugin.
    rolldownOptions: { checks: { pluginTimings: false } },
  },
})
