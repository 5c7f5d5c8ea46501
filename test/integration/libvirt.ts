// SPDX-License-Identifier: GPL-2.0-or-later
// A host of libvirt: Debian's libvirtd on the lab's root, in namespaces of its own, without systemd. What it starts ends with it.

import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, copyFile, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { builtObject } from '../device/root-qemu.ts'
import { libvirtStage, libvirtTree } from '../lab/setup/libvirt.ts'
import { top } from '../lab/setup/paths.ts'
import { ensure } from '../lab/setup/stage.ts'
import type { Envelope } from '../lab/vblk.ts'
import { program } from './program.ts'

/** What the packages' scripts would have made, Debian's settings but for what this machine may lack, and an init that reaps. */
const init = `
echo 'libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin' >>/etc/passwd
printf 'libvirt-qemu:x:64055:\\nkvm:x:64056:\\n' >>/etc/group
mkdir -p /run/libvirt /usr/local/bin
mount -t tmpfs -o mode=755 libvirt /run/libvirt
# A KVM that root may use and libvirt's QEMU may not has libvirt probe QEMU anew all the time, for seconds.
install -m 000 /dev/null /run/libvirt/no-kvm
[ ! -e /dev/kvm ] || mount --bind /run/libvirt/no-kvm /dev/kvm
ip link set lo up
ln -sf "$2" /usr/local/bin/vblk
cp "$1"/etc/* /etc/libvirt/
[ ! -d "$1/hooks" ] || cp "$1"/hooks/* /etc/libvirt/hooks/
libvirtd --daemon
echo up
while :; do sleep 1 & wait $!; done
`

const settings = {
  'qemu.conf': 'cgroup_controllers = []\nnamespaces = []\nsecurity_driver = "none"\nstdio_handler = "file"\n',
  'libvirtd.conf': 'auth_unix_rw = "none"\n',
}

const path = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

export interface Finished {
  exitCode: number | null
  stdout: string
  stderr: string
}

export interface DomainOptions {
  /** Arguments for QEMU beside the vhost-blk device's. */
  args?: string[]
  /** The device's file; the built one unless given. */
  object?: string
}

/** A domain without a guest's system, run by emulation, with three ports for hot-plug. */
export async function domainXml(name: string, { args = [], object }: DomainOptions = {}): Promise<string> {
  const words = [
    ...['-plugin', `file=${object ?? (await builtObject())}`],
    // QEMU itself removes a device: there is no guest that would.
    ...['-global', 'ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off'],
    ...args,
  ]
  return `<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>${name}</name>
  <memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <features><acpi/></features>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='pci' model='pcie-root'/>
    <controller type='pci' model='pcie-root-port'/>
    <controller type='pci' model='pcie-root-port'/>
    <controller type='pci' model='pcie-root-port'/>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    <audio id='1' type='none'/>
  </devices>
  <qemu:commandline>${words.map((word) => `<qemu:arg value='${word}'/>`).join('')}</qemu:commandline>
</domain>
`
}

export class LibvirtHost {
  readonly #dir: string
  readonly #process: ChildProcess
  readonly #enter: readonly string[]

  private constructor(dir: string, process: ChildProcess, pid: number) {
    this.#dir = dir
    this.#process = process
    const variables = [`PATH=${path}`, 'HOME=/root', 'LC_ALL=C.UTF-8']
    this.#enter = ['-t', String(pid), '-m', '-p', '-n', '-r', 'env', '-i', '-C', dir, ...variables]
  }

  /**
   * Starts one. The first time ever it fetches the packages.
   *
   * @param dir - for its files; the same path inside
   * @param hook - a file to be libvirt's hook for its QEMU driver
   */
  static async start(dir: string, hook?: string): Promise<LibvirtHost> {
    await ensure([libvirtStage], (line) => process.stderr.write(`${line}\n`))
    const files = join(dir, 'host')
    await mkdir(join(files, 'etc'), { recursive: true })
    for (const [name, text] of Object.entries(settings)) await writeFile(join(files, 'etc', name), text)
    if (hook !== undefined) {
      await mkdir(join(files, 'hooks'))
      await copyFile(hook, join(files, 'hooks/qemu'))
      await chmod(join(files, 'hooks/qemu'), 0o755)
    }
    const namespaces = ['--net', '--pid', '--fork', '--kill-child', '--mount', '--mount-proc']
    const command = [...namespaces, join(top, 'script/in-root'), 'sh', '-euc', init, 'sh', files, program]
    const child = spawn('unshare', command, {
      env: { ...process.env, VBLK_OVERLAY: libvirtTree },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let said = ''
    child.stderr.on('data', (chunk) => {
      said += chunk
    })
    await Promise.race([
      once(child.stdout, 'data'),
      once(child, 'close').then(() => Promise.reject(new Error(`libvirt did not start: ${said}`))),
    ])
    const children = await readFile(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8')
    return new LibvirtHost(dir, child, Number(children))
  }

  /** Runs a program there to its end, whatever comes of it. */
  run(...argv: string[]): Promise<Finished> {
    return new Promise((resolve, reject) => {
      execFile('nsenter', [...this.#enter, ...argv], { timeout: 100_000 }, (error, stdout, stderr) => {
        if (error && typeof error.code !== 'number') reject(error)
        else resolve({ exitCode: typeof error?.code === 'number' ? error.code : 0, stdout, stderr })
      })
    })
  }

  /** The same for what must succeed; returns its output. */
  async check(...argv: string[]): Promise<string> {
    const { exitCode, stdout, stderr } = await this.run(...argv)
    if (exitCode !== 0) throw new Error(`${argv.join(' ')}: exit ${exitCode}: ${stderr}`)
    return stdout
  }

  /** Defines a domain and starts it, its processors standing still. */
  async startDomain(name: string, options: DomainOptions = {}): Promise<void> {
    await this.defineDomain(name, options)
    await this.check('virsh', 'start', '--paused', name)
  }

  async defineDomain(name: string, options: DomainOptions = {}): Promise<void> {
    const file = join(this.#dir, 'domain.xml')
    await writeFile(file, await domainXml(name, options))
    await this.check('virsh', 'define', file)
  }

  /** Runs vblk there, with --json. */
  async vblk<T = unknown>(...argv: string[]): Promise<Finished & { envelope: Envelope<T> }> {
    const finished = await this.run('vblk', ...argv, '--quiet', '--json')
    return { ...finished, envelope: JSON.parse(finished.stdout) as Envelope<T> }
  }

  /** Starts vblk there as a user would, in a process group of its own. */
  spawnVblk(...argv: string[]): ChildProcess {
    return spawn('nsenter', [...this.#enter, 'vblk', ...argv], {
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    })
  }

  async stop(): Promise<void> {
    if (this.#process.exitCode !== null) return
    this.#process.kill('SIGKILL')
    await once(this.#process, 'close')
  }
}
