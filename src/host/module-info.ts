// SPDX-License-Identifier: GPL-2.0-or-later
import { readSection } from './elf.ts'
import { runTool } from './run-tool.ts'

/** What a module file says of itself. */
export interface ModuleInfo {
  name: string | undefined
  /** The kernel release that it was built for: the first word of vermagic, which the kernel compares at load. */
  kernel: string
  version: string | undefined
  /** A hash of the sources, by which a loaded module is known again. */
  srcversion: string | undefined
}

/**
 * Reads a module file: .ko by itself, a compressed one (.ko.xz, .ko.zst, .ko.gz) through modinfo.
 * @throws ElfError or an Error of node:fs for what is no readable module; VblkError HostLacks without modinfo
 */
export async function readModuleInfo(path: string): Promise<ModuleInfo> {
  const text = path.endsWith('.ko') ? (await readSection(path, '.modinfo')).toString('latin1') : await askModinfo(path)
  // Entries are key=value, each ended by a zero.
  const entries = new Map(
    text.split('\0').map((entry): [string, string] => {
      const equals = entry.indexOf('=')
      return [entry.slice(0, equals), entry.slice(equals + 1)]
    }),
  )
  return {
    name: entries.get('name'),
    kernel: entries.get('vermagic')?.split(' ')[0] ?? '',
    version: entries.get('version'),
    srcversion: entries.get('srcversion'),
  }
}

async function askModinfo(path: string): Promise<string> {
  const { stdout } = await runTool('modinfo', ['-0', path], { package: 'kmod' })
  // With -0 its entries are "key=value" ended by a zero as in the file, or "key:   value" in old versions.
  return stdout.replace(/(^|\0)(\w+):\s*/g, '$1$2=')
}
