// SPDX-License-Identifier: GPL-2.0-or-later
// Bundles the built commands and what they import into dist/vblk.cjs, which bin/load-bundle.js evaluates.
//
//   node --import tsx script/bundle.ts
import { createHash } from 'node:crypto'
import { readdirSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { build } from 'esbuild'

const top = join(import.meta.dirname, '..')
const src = join(top, 'src')

/** The bundle's own module: every command by its id, loaded when it is run. */
function entry(): string {
  const files = readdirSync(join(src, 'commands'), { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.ts'),
  )
  const loaders = files
    .sort()
    .map((name) => `  '${name.slice(0, -3).replaceAll('/', ':')}': () => import('./commands/${name}'),`)
  return `import { bundledCommands } from './ui/bundled-commands.ts'
import { main } from './ui/main.ts'
const loaders = {
${loaders.join('\n')}
}
export const run = (root, help) => main(() => bundledCommands(root, loaders, help))
`
}

const result = await build({
  stdin: { contents: entry(), resolveDir: src, sourcefile: 'bundle.js', loader: 'js' },
  bundle: true,
  write: false,
  outfile: join(top, 'dist/vblk.cjs'),
  platform: 'node',
  target: 'node20.19',
  format: 'cjs',
  charset: 'ascii',
  legalComments: 'external',
  // What Node's own loader gives a CommonJS module.
  banner: { js: '(function (exports, require, module, __filename, __dirname) {' },
  footer: { js: '})' },
  define: { 'import.meta.dirname': '__dirname', 'import.meta.url': 'bundleUrl' },
  inject: [join(import.meta.dirname, 'bundle-url.js')],
  logLevel: 'warning',
})
for (const { path, text } of result.outputFiles) {
  const hash = createHash('sha256').update(text).digest('hex').slice(0, 16)
  await writeFile(path, path.endsWith('.cjs') ? `// ${hash}\n${text}` : text)
}
