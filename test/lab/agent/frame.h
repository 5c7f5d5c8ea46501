/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The frames between a caller and the lab's agent, over a virtio-serial port.
 *
 * A frame is an 8-byte header, little-endian, and a payload:
 *
 *   u32 session   chosen by the caller, unique among its running commands
 *   u32 word      type in the top 8 bits, payload length in the low 24 (at most FRAME_MAX)
 *
 * Caller to agent: EXEC starts a command, INPUT feeds its stdin (an empty one closes it), SIGNAL sends one byte's signal to its
 * process group, PING asks for a PONG with the same payload. Agent to caller: OUTPUT, ERROR, EXIT (i32: the exit code, or 128 +
 * signal), PONG.
 *
 * A port keeps bytes of an earlier caller. So a caller opens with a PING that carries a nonce and drops all it reads up to
 * the PONG with that nonce; the agent drops its state when the caller goes away.
 */
#ifndef VBLK_LAB_FRAME_H
#define VBLK_LAB_FRAME_H

#include <stdint.h>

#define FRAME_HEADER 8
#define FRAME_MAX 65536

enum frame_type {
	FRAME_EXEC = 'E',   /* NUL-terminated strings: "pipe" or "pty", the working directory, then argv */
	FRAME_INPUT = 'I',
	FRAME_SIGNAL = 'S',
	FRAME_PING = 'P',
	FRAME_OUTPUT = 'O',
	FRAME_ERROR = 'R',
	FRAME_EXIT = 'X',
	FRAME_PONG = 'p',
};

static inline void frame_put32(uint8_t *p, uint32_t v)
{
	p[0] = v;
	p[1] = v >> 8;
	p[2] = v >> 16;
	p[3] = v >> 24;
}

static inline uint32_t frame_get32(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

#endif
