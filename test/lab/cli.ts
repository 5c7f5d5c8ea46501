// SPDX-License-Identifier: GPL-2.0-or-later
import { readFile } from 'node:fs/promises'
import { constants } from 'node:os'
import { parseArgs } from 'node:util'
import { Lab } from './lab.ts'
import { kill, machinePid } from './machine.ts'
import { hostKernels } from './setup/kernels.ts'
import { pairNames, TwoHosts } from './two-hosts.ts'

const usage = `usage: script/lab up|status|down|logs|shell [OPTIONS]
       script/lab exec [OPTIONS] -- CMD [ARG…]

The lab is an emulated machine with KVM in which the project is built and installed as on a user's host.

  up       start it (exec and shell do so by themselves)
  exec     run a command in it; its output and its exit status are the command's
  shell    an interactive shell in it
  status   whether it runs, and since when
  logs     the machine's kernel log
  down     stop it; what was written in it is gone

  --name NAME    which lab (default: default)
  --icount       instruction-counted time: repeatable measurements
  --smp N        virtual CPUs (default 1; more is unstable once guests run under emulation)
  --memory MIB   (default 2560)
  --kernel NAME  boot this kernel instead of the distribution's: ${Object.keys(hostKernels).join(', ')}, or a kernel image
  --append TEXT  more of the kernel's command line
  --pair         with up, status and down: two labs, NAME-one and NAME-two, with a network between them, ssh, and a disk that
                 both see`

const options = {
  name: { type: 'string', default: 'default' },
  icount: { type: 'boolean', default: false },
  smp: { type: 'string', default: '1' },
  memory: { type: 'string', default: '2560' },
  kernel: { type: 'string' },
  append: { type: 'string' },
  pair: { type: 'boolean', default: false },
  help: { type: 'boolean', short: 'h', default: false },
} as const

class UsageError extends Error {}

function parse(argv: string[]) {
  const separator = argv.indexOf('--')
  const own = separator < 0 ? argv : argv.slice(0, separator)
  try {
    const { values, positionals } = parseArgs({ args: own, options, allowPositionals: true })
    const count = (name: 'smp' | 'memory') => {
      const n = Number(values[name])
      if (!Number.isInteger(n) || n < 1)
        throw new UsageError(`--${name}: '${values[name]}' is not a whole number above 0`)
      return n
    }
    if (values.pair && !['up', 'status', 'down'].includes(positionals[0] ?? ''))
      throw new UsageError('--pair goes with up, status and down')
    if (!/^[\w.-]+$/.test(values.name))
      throw new UsageError(`--name: '${values.name}' may hold letters, digits, - and .`)
    const verb = values.help ? 'help' : positionals[0]
    if (positionals.length > 1) throw new UsageError(`unexpected '${positionals[1]}' (a command goes after --)`)
    return {
      verb,
      command: separator < 0 ? [] : argv.slice(separator + 1),
      name: values.name,
      pair: values.pair,
      machine: {
        icount: values.icount,
        smp: count('smp'),
        memory: count('memory'),
        kernel: values.kernel,
        append: values.append,
      },
    }
  } catch (error) {
    throw error instanceof UsageError ? error : new UsageError((error as Error).message)
  }
}

type Request = ReturnType<typeof parse>

const report = (line: string) => process.stderr.write(`${line}\n`)

async function running(request: Request): Promise<Lab> {
  const up = await Lab.connect(request.name)
  if (up) return up
  const lab = await Lab.start({ name: request.name, keep: true, report, ...request.machine })
  // As on a host whose modules-load.d names it.
  if (!request.machine.kernel || request.machine.kernel in hostKernels) await lab.check(['modprobe', 'vhost_blk'])
  return lab
}

async function upPair({ name }: Request): Promise<void> {
  const up = await Promise.all(pairNames(name).map((each) => Lab.connect(each)))
  for (const lab of up) lab?.disconnect()
  if (!up.includes(undefined)) return
  // One alone is no pair.
  for (const each of pairNames(name)) await kill(Lab.paths(each))
  const pair = await TwoHosts.start({ name, keep: true, report })
  for (const lab of [pair.one, pair.two]) {
    await lab.check(['modprobe', 'vhost_blk'])
    lab.disconnect()
  }
  process.stdout.write(`${pairNames(name).join(' and ')}: the disk of both is ${pair.disk}\n`)
}

async function exec(request: Request, pty: boolean): Promise<number> {
  const argv = pty ? ['bash', '-l'] : request.command
  if (!argv.length) throw new UsageError('exec: no command given; it goes after --')
  const lab = await running(request)
  const command = lab.spawn(argv, {
    cwd: '/root',
    pty,
    onOutput: (data) => process.stdout.write(data),
    onError: (data) => process.stderr.write(data),
  })
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(signal, () => command.kill(constants.signals[signal]))
  // A terminal goes to the command only with `shell`: otherwise a command in a pipeline would wait for keys.
  if (pty || !process.stdin.isTTY) {
    if (pty && process.stdin.isTTY) process.stdin.setRawMode(true)
    process.stdin.on('data', (data) => command.input(data))
    process.stdin.on('end', () => command.input(Buffer.alloc(0)))
  } else command.input(Buffer.alloc(0))
  try {
    return await command.exited
  } finally {
    if (pty && process.stdin.isTTY) process.stdin.setRawMode(false)
    lab.disconnect()
  }
}

async function main(argv: string[]): Promise<number> {
  const request = parse(argv)
  const each = request.pair ? pairNames(request.name) : [request.name]
  const paths = Lab.paths(request.name)
  switch (request.verb) {
    case 'up':
      if (request.pair) await upPair(request)
      else (await running(request)).disconnect()
      return 0
    case 'exec':
      return await exec(request, false)
    case 'shell':
      return await exec(request, true)
    case 'status':
      for (const name of each) {
        const pid = await machinePid(Lab.paths(name))
        process.stdout.write(pid === undefined ? `lab ${name}: down\n` : `lab ${name}: running (process ${pid})\n`)
      }
      return 0
    case 'logs':
      process.stdout.write(await readFile(paths.console, 'utf8').catch(() => ''))
      return 0
    case 'down':
      for (const name of each) await kill(Lab.paths(name))
      return 0
    case 'help':
      process.stdout.write(`${usage}\n`)
      return 0
    default:
      throw new UsageError(request.verb ? `unknown verb '${request.verb}'` : 'what to do?')
  }
}

try {
  process.exitCode = await main(process.argv.slice(2))
} catch (error) {
  report(`lab: ${(error as Error).message}`)
  if (error instanceof UsageError) report(usage)
  process.exitCode = error instanceof UsageError ? 2 : 1
}
process.stdin.destroy()
