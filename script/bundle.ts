// SPDX-License-Identifier: GPL-2.0-or-later
// Bundles the built commands and what they import into dist/vblk.cjs, which bin/load-bundle.js evaluates, and the help,
// which is rarely wanted, into dist/help.cjs: what is installed needs no package beside it.
//
//   node --import tsx script/bundle.ts
import { createHash } from 'node:crypto'
import { readdirSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type BuildOptions, build } from 'esbuild'

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
export const run = (root, help, onCommand) => main(() => bundledCommands(root, loaders, help, onCommand))
`
}

const common: BuildOptions & { write: false } = {
  bundle: true,
  write: false,
  platform: 'node',
  target: 'node20.19',
  format: 'cjs',
  charset: 'ascii',
  legalComments: 'external',
  define: { 'import.meta.dirname': '__dirname', 'import.meta.url': 'bundleUrl' },
  inject: [join(import.meta.dirname, 'bundle-url.js')],
  logLevel: 'warning',
}

const program = await build({
  ...common,
  stdin: { contents: entry(), resolveDir: src, sourcefile: 'bundle.js', loader: 'js' },
  outfile: join(top, 'dist/vblk.cjs'),
  // What Node's own loader gives a CommonJS module.
  banner: { js: '(function (exports, require, module, __filename, __dirname) {' },
  footer: { js: '})' },
})
for (const { path, text } of program.outputFiles) {
  const hash = createHash('sha256').update(text).digest('hex').slice(0, 16)
  await writeFile(path, path.endsWith('.cjs') ? `// ${hash}\n${text}` : text)
}

const help = await build({
  ...common,
  entryPoints: [join(src, 'ui/oclif-commands.ts')],
  outfile: join(top, 'dist/help.cjs'),
})
for (const { path, text } of help.outputFiles) await writeFile(path, text)
