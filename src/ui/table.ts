// SPDX-License-Identifier: GPL-2.0-or-later
import { printable } from './printable.ts'

export interface Column<Row> {
  header: string
  value(row: Row): string | number
  align?: 'left' | 'right'
}

/** Rows as aligned columns under their headers, without a trailing newline. Cells are made printable. */
export function table<Row>(rows: readonly Row[], columns: ReadonlyArray<Column<Row>>): string {
  const lines = [
    columns.map((column) => column.header),
    ...rows.map((row) => columns.map((column) => printable(String(column.value(row))))),
  ]
  const widths = columns.map((_, index) => Math.max(...lines.map((cells) => width(cells[index] ?? ''))))
  return lines
    .map((cells) =>
      columns
        .map((column, i) => pad(cells[i] ?? '', widths[i] ?? 0, column.align))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

/** Names and values, one pair a line, the values in one column. */
export function pairs(entries: ReadonlyArray<readonly [name: string, value: string | number]>): string {
  const widest = Math.max(0, ...entries.map(([name]) => width(name)))
  return entries.map(([name, value]) => `${pad(name, widest)}  ${printable(String(value))}`.trimEnd()).join('\n')
}

function width(text: string): number {
  return [...text].length
}

function pad(text: string, columns: number, align: 'left' | 'right' = 'left'): string {
  const fill = ' '.repeat(Math.max(0, columns - width(text)))
  return align === 'right' ? fill + text : text + fill
}
