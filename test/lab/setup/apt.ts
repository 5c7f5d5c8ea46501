// SPDX-License-Identifier: GPL-2.0-or-later
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { run, StepError } from './run.ts'

/**
 * The Debian mirror that this machine's apt is configured with.
 *
 * @throws Error if apt knows no source whose origin and label are Debian's
 */
export async function aptMirror(): Promise<string> {
  const targets = await run('apt-get', [
    'indextargets',
    '--format',
    '$(REPO_URI) $(CODENAME) $(ORIGIN)/$(LABEL)',
    'Created-By: Packages',
  ])
  for (const line of targets.split('\n')) {
    const [uri, , source] = line.split(' ')
    if (uri && source === 'Debian/Debian') return uri
  }
  throw new Error("this machine's apt has no Debian archive configured (or 'apt-get update' has never run)")
}

/** The packages of one release of Debian, whatever release this machine runs. */
export interface Archive {
  /** The version that apt would install; undefined if the release has no such package. */
  version: (name: string) => Promise<string | undefined>
  /** The names of packages and all that they need, as far as the names match. */
  closure: (names: string[], matching: RegExp) => Promise<string[]>
  /** Downloads packages into a folder; returns the files' paths. */
  download: (names: string[], dir: string) => Promise<string[]>
}

/**
 * Reads the package lists of a release into a folder of their own: this machine's apt keeps its own.
 *
 * @returns undefined if the mirror does not carry the release
 * @throws StepError if the mirror can't be reached
 */
export async function openArchive(release: string, dir: string): Promise<Archive | undefined> {
  for (const folder of ['lists/partial', 'cache/archives/partial', 'state'])
    await mkdir(join(dir, folder), { recursive: true })
  const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg'
  await writeFile(join(dir, 'sources.list'), `deb [signed-by=${keyring}] ${await aptMirror()} ${release} main\n`)
  const settings = {
    'Dir::Etc::sourcelist': join(dir, 'sources.list'),
    'Dir::Etc::sourceparts': '-',
    'Dir::State': join(dir, 'state'),
    'Dir::State::lists': join(dir, 'lists'),
    'Dir::State::status': '/dev/null',
    'Dir::Cache': join(dir, 'cache'),
    'Acquire::Languages': 'none',
    'Acquire::Retries': '3',
    'APT::Architecture': 'amd64',
    'APT::Sandbox::User': 'root',
  }
  const lines = Object.entries(settings).map(([key, value]) => `${key} "${value}";\n`)
  await writeFile(join(dir, 'apt.conf'), lines.join(''))
  const options = { cwd: dir, env: { APT_CONFIG: join(dir, 'apt.conf'), LC_ALL: 'C' } }

  try {
    await run('apt-get', ['update', '-qq', '--error-on=any'], options)
  } catch (error) {
    if (error instanceof StepError && /404 |does not have a Release file/.test(error.message)) return undefined
    throw error
  }
  return {
    version: async (name) => {
      const policy = await run('apt-cache', ['policy', name], options)
      const version = /Candidate: (\S+)/.exec(policy)?.[1]
      return version === '(none)' ? undefined : version
    },
    closure: async (names, matching) => {
      const kinds = ['recommends', 'suggests', 'conflicts', 'breaks', 'replaces', 'enhances']
      const tree = await run(
        'apt-cache',
        ['depends', '--recurse', ...kinds.map((kind) => `--no-${kind}`), ...names],
        options,
      )
      return [...new Set(tree.split('\n').filter((line) => /^[a-z0-9]/.test(line) && matching.test(line)))]
    },
    download: async (names, into) => {
      await mkdir(into, { recursive: true })
      await run('apt-get', ['download', '-qq', ...names], { ...options, cwd: into })
      return (await readdir(into)).filter((name) => name.endsWith('.deb')).map((name) => join(into, name))
    },
  }
}
