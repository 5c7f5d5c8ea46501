/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs a command through an agent: from the lab's machine in a guest of it.
 *
 *   lab-run SOCKET [-t SECONDS] -- CMD [ARG…]
 *
 * SOCKET is the unix socket that QEMU puts before the guest's port. Streams stdout and stderr, passes stdin unless it is a
 * terminal, and exits as the command did; 124 if the agent does not answer in time, 125 if the channel breaks.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "frame.h"

static int sock;

static void die(int code, const char *what)
{
	fprintf(stderr, "lab-run: %s\n", what);
	exit(code);
}

static void write_all(int fd, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			die(125, "write failed");
		p += n;
		len -= n;
	}
}

static void send_frame(uint32_t id, enum frame_type type, const void *data, uint32_t len)
{
	uint8_t head[FRAME_HEADER];

	frame_put32(head, id);
	frame_put32(head + 4, (uint32_t)type << 24 | len);
	write_all(sock, head, sizeof(head));
	write_all(sock, data, len);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static void connect_to(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof(addr.sun_path))
		die(2, "socket path too long");
	strcpy(addr.sun_path, path);
	sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (sock < 0 || connect(sock, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		die(125, strerror(errno));
}

/* Drops what an earlier caller left in the channel: reads up to the PONG that carries our nonce. */
static void synchronize(uint32_t id, double deadline)
{
	uint8_t want[FRAME_HEADER + 8], got[FRAME_HEADER + 8] = { 0 };
	double again = 0;

	frame_put32(want, id);
	frame_put32(want + 4, (uint32_t)FRAME_PONG << 24 | 8);
	if (getrandom(want + FRAME_HEADER, 8, 0) != 8)
		die(125, "no random numbers");
	do {
		struct pollfd pfd = { .fd = sock, .events = POLLIN };
		double t = now();

		if (t > deadline)
			die(124, "the agent does not answer");
		if (t > again) { /* an agent that was not up yet has lost the first one */
			send_frame(id, FRAME_PING, want + FRAME_HEADER, 8);
			again = t + 1;
		}
		if (poll(&pfd, 1, 200) <= 0)
			continue;
		memmove(got, got + 1, sizeof(got) - 1);
		if (read(sock, got + sizeof(got) - 1, 1) != 1)
			die(125, "the channel was closed");
	} while (memcmp(got, want, sizeof(want)));
}

static void start(uint32_t id, char **argv)
{
	static char buf[FRAME_MAX];
	size_t len = 0;
	const char *head[] = { "pipe", "/" };

	for (int i = 0; i < 2 || argv[i - 2]; i++) {
		const char *s = i < 2 ? head[i] : argv[i - 2];
		size_t n = strlen(s) + 1;

		if (len + n > sizeof(buf))
			die(2, "command line too long");
		memcpy(buf + len, s, n);
		len += n;
	}
	send_frame(id, FRAME_EXEC, buf, len);
}

static void read_all(uint8_t *p, size_t len)
{
	while (len) {
		ssize_t n = read(sock, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			die(125, "the channel was closed");
		p += n;
		len -= n;
	}
}

static void relay(uint32_t id)
{
	static uint8_t data[FRAME_MAX];
	struct pollfd pfds[2] = { { .fd = sock, .events = POLLIN }, { .fd = isatty(0) ? -1 : 0, .events = POLLIN } };

	if (pfds[1].fd < 0)
		send_frame(id, FRAME_INPUT, NULL, 0);
	for (;;) {
		uint8_t head[FRAME_HEADER];

		if (poll(pfds, 2, -1) < 0)
			continue;
		if (pfds[1].revents) {
			ssize_t n = read(0, data, 32768);

			send_frame(id, FRAME_INPUT, data, n > 0 ? n : 0);
			if (n <= 0)
				pfds[1].fd = -1;
		}
		if (!pfds[0].revents)
			continue;
		read_all(head, sizeof(head));
		uint32_t word = frame_get32(head + 4), len = word & 0xffffff;

		if (len > FRAME_MAX)
			die(125, "garbage in the channel");
		read_all(data, len);
		if (frame_get32(head) != id)
			continue;
		if (word >> 24 == FRAME_OUTPUT)
			write_all(1, data, len);
		else if (word >> 24 == FRAME_ERROR)
			write_all(2, data, len);
		else if (word >> 24 == FRAME_EXIT && len == 4)
			exit(frame_get32(data));
	}
}

int main(int argc, char **argv)
{
	uint32_t id = getpid();
	double wait = 10;
	int i = 2;

	if (argc > 4 && !strcmp(argv[2], "-t")) {
		wait = atof(argv[3]);
		i = 4;
	}
	if (argc < i + 2 || strcmp(argv[i], "--"))
		die(2, "usage: lab-run SOCKET [-t SECONDS] -- CMD [ARG...]");
	connect_to(argv[1]);
	synchronize(id, now() + wait);
	start(id, argv + i + 1);
	relay(id);
}
