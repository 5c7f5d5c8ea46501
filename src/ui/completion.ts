// SPDX-License-Identifier: GPL-2.0-or-later

/** What a shell must know of a command. */
export interface CompletedCommand {
  /** Like 'attach' or 'vm add'. */
  name: string
  summary: string
  args: { name: string; options: string[] }[]
  flags: { name: string; char: string | null; summary: string; takesValue: boolean; options: string[] }[]
}

export type Shell = 'bash' | 'zsh' | 'fish'

/** A script for a shell that completes commands, flags, their values, VM names and files. */
export function completionScript(shell: Shell, commands: CompletedCommand[]): string {
  if (shell === 'fish') return fishScript(commands)
  // zsh runs bash's with its own emulation.
  const head = shell === 'zsh' ? ['#compdef vblk', 'autoload -U +X bashcompinit && bashcompinit'] : []
  return [...head, bashFunction(commands), 'complete -F _vblk vblk'].join('\n')
}

const vmNames = 'vblk vm list --quiet 2>/dev/null | tail -n +2 | cut -d " " -f 1'
const isFileName = (name: string) => /^(file|dir|build-dir|qemu)$/.test(name)

const quote = (text: string) => `'${text.replaceAll("'", "'\\''")}'`

/** The words that can follow a beginning: commands, or topics like 'vm'. */
function nextWords(commands: CompletedCommand[], beginning: string): string[] {
  const prefix = beginning === '' ? '' : `${beginning} `
  const names = commands.map(({ name }) => name).filter((name) => name.startsWith(prefix))
  return [...new Set(names.map((name) => name.slice(prefix.length).split(' ')[0] ?? ''))]
}

function topics(commands: CompletedCommand[]): string[] {
  return [...new Set(commands.flatMap(({ name }) => (name.includes(' ') ? [name.split(' ')[0] ?? ''] : [])))]
}

function bashFunction(commands: CompletedCommand[]): string {
  const beginnings = [...new Set([...topics(commands), ...commands.map(({ name }) => name)])]
  const descend = beginnings.map((name) => {
    const [first = '', second] = name.split(' ')
    return `      ${quote(second === undefined ? `: ${first}` : `${first}: ${second}`)}) command=${quote(name)} ;;`
  })
  const spellings = ({ name, char }: CompletedCommand['flags'][number]) => [
    `--${name}`,
    ...(char === null ? [] : [`-${char}`]),
  ]
  const withValue = commands.flatMap(({ name, flags }) =>
    flags.filter(({ takesValue }) => takesValue).map((flag) => ({ command: name, flag })),
  )
  const skip = withValue.flatMap(({ command, flag }) => spellings(flag).map((text) => quote(`${command}: ${text}`)))
  const values = withValue.map(({ command, flag }) => {
    const patterns = spellings(flag).map((text) => quote(`${command}: ${text}`))
    return `    ${patterns.join('|')}) ${bashReply(flag.name, flag.options)}; return ;;`
  })
  const flagLists = commands.map(
    ({ name, flags }) => `      ${quote(name)}) list=${quote(flags.map((flag) => `--${flag.name}`).join(' '))} ;;`,
  )
  const positions = commands.flatMap(({ name, args }) =>
    args.map((arg, index) => `    ${quote(`${name}: ${index}`)}) ${bashReply(arg.name, arg.options)} ;;`),
  )
  const words = ['', ...topics(commands)].map(
    (name) =>
      `    ${quote(`${name}: 0`)}) COMPREPLY=($(compgen -W ${quote(nextWords(commands, name).join(' '))} -- "$cur")) ;;`,
  )
  return `_vblk() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} command= word= list= i=1 position=0
  COMPREPLY=()
  while [ "$i" -lt "$COMP_CWORD" ]; do
    word=\${COMP_WORDS[i]}
    i=$((i + 1))
    case "$command: $word" in
${descend.join('\n')}
      ${skip.join('|')}) i=$((i + 1)) ;;
      *': -'*) ;;
      *) position=$((position + 1)) ;;
    esac
  done
  case "$command: $prev" in
${values.join('\n')}
  esac
  if [[ $cur == -* ]]; then
    case $command in
${flagLists.join('\n')}
      *) list='--help --version' ;;
    esac
    COMPREPLY=($(compgen -W "$list --help" -- "$cur"))
    return
  fi
  case "$command: $position" in
${[...words, ...positions].join('\n')}
  esac
}`
}

function bashReply(name: string, options: string[]): string {
  if (options.length > 0) return `COMPREPLY=($(compgen -W ${quote(options.join(' '))} -- "$cur"))`
  if (name === 'vm' || name === 'from' || name === 'to') {
    return `COMPREPLY=($(compgen -W "$(${vmNames})" -- "$cur") $(compgen -f -- "$cur"))`
  }
  return isFileName(name) ? 'COMPREPLY=($(compgen -f -- "$cur"))' : ':'
}

function fishScript(commands: CompletedCommand[]): string {
  const lines = ['complete -c vblk -f']
  for (const beginning of ['', ...topics(commands)]) {
    const condition = beginning === '' ? '__fish_use_subcommand' : `__vblk_at ${beginning}`
    for (const word of nextWords(commands, beginning)) {
      const name = beginning === '' ? word : `${beginning} ${word}`
      const summary = commands.find((command) => command.name === name)?.summary ?? `${word} …`
      lines.push(`complete -c vblk -n ${fish(condition)} -a ${fish(word)} -d ${fish(summary)}`)
    }
  }
  for (const { name, args, flags } of commands) {
    const condition = fish(`__vblk_in ${name}`)
    for (const { name: flag, char, summary, takesValue, options } of flags) {
      const short = char === null ? '' : ` -s ${char}`
      const value = takesValue
        ? ` -r${options.length > 0 ? ` -a ${fish(options.join(' '))}` : isFileName(flag) ? ' -F' : ''}`
        : ''
      lines.push(`complete -c vblk -n ${condition} -l ${flag}${short}${value} -d ${fish(summary)}`)
    }
    if (args.some((arg) => isFileName(arg.name))) lines.push(`complete -c vblk -n ${condition} -F`)
    if (args.some((arg) => ['vm', 'from', 'to'].includes(arg.name))) {
      lines.push(`complete -c vblk -n ${condition} -F -a ${fish(`(${vmNames})`)}`)
    }
    const choices = args.flatMap(({ options }) => options)
    if (choices.length > 0) lines.push(`complete -c vblk -n ${condition} -a ${fish(choices.join(' '))}`)
  }
  return `function __vblk_words
  string match -v -- '-*' (commandline -opc)[2..-1]
end
function __vblk_at
  test (string join ' ' -- (__vblk_words)) = "$argv"
end
function __vblk_in
  set -l words (__vblk_words)
  test (count $words) -ge (count $argv); and test "$words[1..$(count $argv)]" = "$argv"
end
${lines.join('\n')}`
}

const fish = (text: string) => `'${text.replace(/[\\']/g, '\\$&')}'`
