// SPDX-License-Identifier: GPL-2.0-or-later
// Storage in L1 that fails, fills up or hangs when it is told to.
import type { Lab } from '../lab/lab.ts'

const folder = '/var/lib/device-test'

/** Runs a shell script in L1, which must succeed; its arguments are `$1`, `$2`… */
const script = async (lab: Lab, text: string, ...args: string[]): Promise<string> =>
  (await lab.check(['sh', '-euc', text, 'sh', ...args])).trim()

/** A block device (device mapper on a loop device on a file) whose requests succeed, fail or wait. */
export class Switchable {
  readonly path: string
  readonly #lab: Lab
  readonly #name: string
  readonly #loop: string
  readonly #sectors: string

  private constructor(lab: Lab, name: string, loop: string, sectors: string) {
    this.#lab = lab
    this.#name = name
    this.#loop = loop
    this.#sectors = sectors
    this.path = `/dev/mapper/${name}`
  }

  static async make(lab: Lab, name: string, mebibytes = 64): Promise<Switchable> {
    await lab.check(['modprobe', '-a', 'loop', 'dm-mod'])
    const file = `${folder}/${name}.raw`
    await script(lab, 'install -d -m 0700 "$1"; truncate -s "$3M" "$2"', folder, file, String(mebibytes))
    const loop = await script(lab, 'losetup --find --show --direct-io=on "$1"', file)
    const device = new Switchable(lab, name, loop, await script(lab, 'blockdev --getsz "$1"', loop))
    await lab.check(['dmsetup', 'create', '--noudevsync', name], { stdin: device.#table('linear') })
    await lab.check(['dmsetup', 'mknodes', name])
    return device
  }

  #table(target: 'linear' | 'error'): string {
    return `0 ${this.#sectors} ${target} ${target === 'linear' ? `${this.#loop} 0` : ''}\n`
  }

  /** From now on every request fails with EIO, or none does. */
  async fail(failing: boolean): Promise<void> {
    await this.#lab.check(['dmsetup', 'load', this.#name], { stdin: this.#table(failing ? 'error' : 'linear') })
    await this.#lab.check(['dmsetup', 'resume', '--noudevsync', this.#name])
  }

  /** From now on requests wait. */
  async hang(): Promise<void> {
    await this.#lab.check(['dmsetup', 'suspend', '--nolockfs', '--noflush', this.#name])
  }

  /** What waits goes on. */
  async goOn(): Promise<void> {
    await this.#lab.check(['dmsetup', 'resume', '--noudevsync', this.#name])
  }

  async remove(): Promise<void> {
    await this.#lab.check(['dmsetup', 'remove', '--noudevsync', '--retry', this.#name])
    await this.#lab.exec(['dmsetup', 'mknodes'])
    await this.#lab.check(['losetup', '--detach', this.#loop])
  }
}

/** A sparse image on a file system with less room than the image's size. */
export class Crowded {
  readonly image: string
  readonly #lab: Lab
  readonly #mount: string

  private constructor(lab: Lab, mount: string) {
    this.#lab = lab
    this.#mount = mount
    this.image = `${mount}/image.raw`
  }

  /** There is room for a part of the image only, until `makeRoom`. */
  static async make(lab: Lab, name: string): Promise<Crowded> {
    const crowded = new Crowded(lab, `${folder}/${name}`)
    await script(
      lab,
      `mkdir -p "$1"; truncate -s 128M "$1.fs"; mkfs.ext4 -q -m 0 "$1.fs"; mount -o loop "$1.fs" "$1"
       truncate -s 64M "$1/image.raw"
       free=$(df --output=avail -B1 "$1" | tail -n 1)
       fallocate -l $((free - 12 * 1024 * 1024)) "$1/filler"`,
      crowded.#mount,
    )
    return crowded
  }

  async makeRoom(): Promise<void> {
    await this.#lab.check(['rm', `${this.#mount}/filler`])
  }

  async remove(): Promise<void> {
    await this.#lab.check(['umount', '-d', this.#mount])
    await this.#lab.check(['rm', `${this.#mount}.fs`])
  }
}
