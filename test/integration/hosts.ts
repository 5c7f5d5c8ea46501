// SPDX-License-Identifier: GPL-2.0-or-later
// Two hosts on one machine, for vblk: each with a machine id and a journal of its own, and an ssh between them that can break. The
// QEMUs are this machine's; real hosts and a real ssh are in test/migrate/hosts.test.ts.

import { randomUUID } from 'node:crypto'
import { chmod, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import type { MigrationRecord } from '../../src/migration/journal/record.ts'
import { FileStore } from '../../src/migration/journal/store.ts'
import type { Envelope } from '../lab/vblk.ts'
import { program } from './program.ts'

export type HostName = 'one' | 'two'

/** Runs a program as on a host: host NAME PROGRAM [ARG…]. */
const hostScript = (dir: string) => `#!/bin/sh
host=$1
shift
export VBLK_STATE_DIR=${dir}/state-$host PATH=${dir}:$PATH
exec unshare --mount --propagation private \\
  sh -euc 'mount --bind "$1" /etc/machine-id; mount --bind "$2" /proc/sys/kernel/random/boot_id; shift 2; exec "$@"' \\
  sh "${dir}/id-$host" "${dir}/boot-$host" "$@"
`

/** Stands for ssh: runs the agent as on the other host, or passes on the connections to a socket. */
const sshScript = (dir: string) => `#!/bin/sh
forward=
while [ "$1" != -- ]; do
  [ "$1" != -L ] || forward=$2
  shift
done
host=$2
[ ! -e "${dir}/down-$host" ] || { echo "ssh: connect to host $host port 22: No route to host" >&2; exit 255; }
echo $$ >>"${dir}/links"
[ -n "$forward" ] || exec "${dir}/host" "$host" "${process.execPath}" "${program}" host-agent
exec "${process.execPath}" "${dir}/forward.mjs" "\${forward%%:*}" "\${forward#*:}"
`

const forwardScript = `import net from 'node:net'
const [local, remote] = process.argv.slice(2)
const server = net.createServer((here) => {
  const there = net.connect(remote)
  here.pipe(there).pipe(here)
  for (const [a, b] of [[here, there], [there, here]]) {
    a.on('error', () => b.destroy())
    a.on('close', () => b.destroy())
  }
})
server.listen(local)
`

/** Two hosts with their journals in a folder. */
export class FakeHosts {
  readonly #dir: string

  private constructor(dir: string) {
    this.#dir = dir
  }

  static async create(dir: string): Promise<FakeHosts> {
    const put = async (name: string, text: string) => {
      await writeFile(join(dir, name), text)
      await chmod(join(dir, name), 0o755)
    }
    await put('host', hostScript(dir))
    await put('ssh', sshScript(dir))
    await put('forward.mjs', forwardScript)
    await symlink(program, join(dir, 'vblk'))
    await put('id-one', `${'1'.repeat(32)}\n`)
    await put('id-two', `${'2'.repeat(32)}\n`)
    const hosts = new FakeHosts(dir)
    for (const host of ['one', 'two'] as const) await hosts.reboot(host)
    return hosts
  }

  /** Starts vblk on a host; it is killed with the process that runs it. */
  start<T>(host: HostName, argv: string[]) {
    const child = execa(join(this.#dir, 'host'), [host, process.execPath, program, ...argv, '--quiet', '--json'], {
      reject: false,
      stdin: 'ignore',
    })
    const outcome = child.then(({ exitCode, stdout, stderr }) => {
      const envelope: Partial<Envelope<T>> = stdout === '' ? {} : JSON.parse(stdout)
      return { ...envelope, exitCode, stderr }
    })
    return { kill: () => child.kill('SIGKILL'), outcome }
  }

  /** Runs vblk on a host to its end. */
  vblk<T>(host: HostName, ...argv: string[]) {
    return this.start<T>(host, argv).outcome
  }

  /** Runs a shell script on a host, where `vblk` is this one. */
  async script(host: HostName, text: string) {
    return await execa(join(this.#dir, 'host'), [host, 'sh', '-c', text], { reject: false, stdin: 'ignore' })
  }

  /** What a host's journal says of its newest migration. */
  async newest(host: HostName): Promise<MigrationRecord | undefined> {
    return (await new FileStore(join(this.#dir, `state-${host}`, 'migrations')).list()).at(-1)
  }

  /** A host can't be reached any more, and whoever was connected is cut off. */
  async takeDown(host: HostName): Promise<void> {
    await writeFile(join(this.#dir, `down-${host}`), '')
    const links = (await readFile(join(this.#dir, 'links'), 'utf8')).trim().split('\n')
    for (const pid of links) await execa('kill', ['-KILL', pid], { reject: false })
    await writeFile(join(this.#dir, 'links'), '')
  }

  /** The way of a VM's memory is cut, and nothing else. */
  async cutStream(): Promise<void> {
    for (const pid of (await readFile(join(this.#dir, 'links'), 'utf8')).trim().split('\n')) {
      const arguments_ = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
      if (arguments_.includes('/migrate.sock\0')) await execa('kill', ['-KILL', pid])
    }
  }

  /** No process that a host knew of lives there any more, as far as it can tell. */
  async reboot(host: HostName): Promise<void> {
    await writeFile(join(this.#dir, `boot-${host}`), `${randomUUID()}\n`)
  }

  async bringUp(host: HostName): Promise<void> {
    await rm(join(this.#dir, `down-${host}`))
  }
}
