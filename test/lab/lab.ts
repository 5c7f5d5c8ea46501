// SPDX-License-Identifier: GPL-2.0-or-later
import { randomBytes } from 'node:crypto'
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { AgentClient, type RunningCommand } from './agent-client.ts'
import { saveGuest } from './guest.ts'
import { kernelFaults } from './kernel-log.ts'
import {
  defaultOptions,
  kill,
  type MachineOptions,
  type MachinePaths,
  machinePaths,
  machinePid,
  startMachine,
} from './machine.ts'
import { hostKernels } from './setup/kernels.ts'
import { runDir } from './setup/paths.ts'
import { TimeoutError } from './timeout-error.ts'

export interface ExecResult {
  /** The command's exit code, or 128 + signal. */
  exitCode: number
  stdout: string
  stderr: string
}

export interface ExecOptions {
  /** Milliseconds until the command is killed and the call rejects; 120 s unless given. */
  timeoutMs?: number
  /** Working directory in L1; `/root` unless given. */
  cwd?: string
  /** Fed to the command; its stdin is empty otherwise. */
  stdin?: string | Buffer
}

/** What goes into L1's saved state beside the booted machine: a booted guest, where guests are to be had. */
async function furnish(agent: AgentClient, paths: MachinePaths, options: MachineOptions): Promise<void> {
  if (options.icount || options.smp > 1 || options.append || options.kernel) return
  const lab = new Lab(paths, agent)
  await lab.check(mountProject)
  await saveGuest(lab)
  await lab.check(['umount', '/opt/vblk'])
}

const mountProject = ['mount', '-o', 'ro', '/dev/vdb', '/opt/vblk']

/** The nested host L1, running, with the project installed in it at /opt/vblk. */
export class Lab {
  readonly paths: MachinePaths
  readonly #agent: AgentClient
  /** How much of the console `kernelWarnings` has already looked at, in characters. */
  #consoleSeen = 0

  constructor(paths: MachinePaths, agent: AgentClient) {
    this.paths = paths
    this.#agent = agent
  }

  /** Where the lab of that name keeps its sockets and logs. */
  static paths(name: string): MachinePaths {
    return machinePaths(join(runDir, name))
  }

  /**
   * Starts a machine of its own name, or one that `connect` finds if a name is given.
   *
   * @throws Error with the machine's last words if it does not come up
   */
  static async start(
    options: Partial<MachineOptions> & { name?: string; report?: (line: string) => void } = {},
  ): Promise<Lab> {
    const { name = `test-${randomBytes(4).toString('hex')}`, report = () => {}, ...machine } = options
    const paths = Lab.paths(name)
    try {
      const lab = new Lab(paths, await startMachine({ ...defaultOptions, ...machine }, paths, report, furnish))
      await lab.#install(machine.kernel)
      return lab
    } catch (error) {
      const console = await readFile(paths.console, 'utf8').catch(() => '')
      await kill(paths)
      throw new Error(
        `the lab did not start: ${(error as Error).message}\n${console.split('\n').slice(-20).join('\n')}`,
      )
    }
  }

  /** The running lab of that name; undefined if it is down. */
  static async connect(name: string): Promise<Lab | undefined> {
    const paths = Lab.paths(name)
    if ((await machinePid(paths)) === undefined) return undefined
    return new Lab(paths, await AgentClient.connect(paths.agent, 10_000))
  }

  /** Mounts the project's disk and installs the module, unless an earlier caller of this machine did. */
  async #install(kernel: string | undefined): Promise<void> {
    await this.check(mountProject)
    if (kernel === undefined || !(kernel in hostKernels)) {
      await this.check(['/opt/vblk/lab/install'])
      return
    }
    const mounted = '/run/vblk-modules'
    await this.check(['mkdir', '-p', mounted])
    await this.check(['mount', '-o', 'ro', '/dev/vdc', mounted])
    await this.check(['/opt/vblk/lab/install', mounted])
    await this.check(['umount', mounted])
  }

  /**
   * Runs a command in L1 as root and waits for its end.
   *
   * @throws TimeoutError if it takes longer than the time-out
   * @throws Error if the machine dies
   */
  async exec(argv: string[], options: ExecOptions = {}): Promise<ExecResult> {
    const { timeoutMs = 120_000, cwd = '/root', stdin = '' } = options
    const output: Buffer[] = []
    const errors: Buffer[] = []
    const command = this.#agent.start(argv, {
      cwd,
      onOutput: (data) => output.push(Buffer.from(data)),
      onError: (data) => errors.push(Buffer.from(data)),
    })
    if (stdin.length) command.input(Buffer.from(stdin))
    command.input(Buffer.alloc(0))
    const text = (chunks: Buffer[]) => Buffer.concat(chunks).toString()
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => {
        command.kill(9)
        const said = `${text(output)}${text(errors)}`.split('\n').slice(-10).join('\n')
        reject(new TimeoutError(`in L1: ${argv.join(' ')}: no end within ${timeoutMs} ms\n${said}`))
      }, timeoutMs)
    })
    try {
      const exitCode = await Promise.race([command.exited, late])
      return { exitCode, stdout: text(output), stderr: text(errors) }
    } finally {
      clearTimeout(timer)
    }
  }

  /**
   * Runs a command that must succeed.
   *
   * @returns its standard output
   * @throws Error with what it printed if it fails
   */
  async check(argv: string[], options: ExecOptions = {}): Promise<string> {
    const { exitCode, stdout, stderr } = await this.exec(argv, options)
    if (exitCode !== 0) throw new Error(`in L1: ${argv.join(' ')}: exit ${exitCode}\n${stdout}${stderr}`)
    return stdout
  }

  /** Starts a command whose streams the caller handles, with a terminal if `pty`. */
  spawn(argv: string[], options: Parameters<AgentClient['start']>[1]): RunningCommand {
    return this.#agent.start(argv, options)
  }

  /** L1's kernel log so far. */
  async kernelLog(): Promise<string> {
    return await readFile(this.paths.console, 'utf8')
  }

  /** The lines with which L1's kernel reported a fault since the last call. */
  async kernelWarnings(): Promise<string[]> {
    const log = await this.kernelLog()
    const news = log.slice(this.#consoleSeen)
    this.#consoleSeen = log.length
    return kernelFaults(news)
  }

  /** Ends the connection; the machine runs on. */
  disconnect(): void {
    this.#agent.close()
  }

  /** Ends the machine and removes what it leaves, its logs included. */
  async stop(): Promise<void> {
    this.#agent.close()
    await kill(this.paths)
    await rm(this.paths.dir, { recursive: true, force: true })
  }
}
