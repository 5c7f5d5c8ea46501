/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The lab's agent: runs commands for a caller outside the machine, several at a time, and streams what they print.
 *
 *   agent /dev/virtio-ports/NAME
 *
 * Commands run in sessions of their own. When the caller goes away they are hung up; what should outlive it calls setsid.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "frame.h"

#define MAX_SESSIONS 32
#define MAX_ARGS 1024

struct session {
	bool used;
	uint32_t id;
	pid_t pid;
	int in, out, err; /* our ends; -1 when closed */
	bool exited;
	int status;
};

static struct session sessions[MAX_SESSIONS];
static uint8_t inbuf[FRAME_HEADER + FRAME_MAX];
static size_t inlen;
static int port;

static void write_all(int fd, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0) {
			struct pollfd pfd = { .fd = fd, .events = POLLOUT };

			if (errno == EAGAIN) {
				poll(&pfd, 1, 100);
				if (pfd.revents & (POLLHUP | POLLERR))
					return;
				continue;
			}
			if (errno == EINTR)
				continue;
			return;
		}
		p += n;
		len -= n;
	}
}

static void send_frame(uint32_t id, enum frame_type type, const void *data, uint32_t len)
{
	uint8_t head[FRAME_HEADER];

	frame_put32(head, id);
	frame_put32(head + 4, (uint32_t)type << 24 | len);
	write_all(port, head, sizeof(head));
	write_all(port, data, len);
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void send_exit(uint32_t id, int code)
{
	uint8_t word[4];

	frame_put32(word, code);
	send_frame(id, FRAME_EXIT, word, sizeof(word));
}

static struct session *find(uint32_t id)
{
	for (int i = 0; i < MAX_SESSIONS; i++)
		if (sessions[i].used && sessions[i].id == id)
			return &sessions[i];
	return NULL;
}

static void child_exec(char **argv, const char *cwd)
{
	signal(SIGPIPE, SIG_DFL);
	if (chdir(cwd) < 0) {
		dprintf(2, "agent: %s: %s\n", cwd, strerror(errno));
		_exit(126);
	}
	execvp(argv[0], argv);
	dprintf(2, "agent: %s: %s\n", argv[0], strerror(errno));
	_exit(errno == ENOENT ? 127 : 126);
}

static bool start_pty(struct session *s, char **argv, const char *cwd)
{
	int master;

	s->pid = forkpty(&master, NULL, NULL, NULL);
	if (s->pid < 0)
		return false;
	if (s->pid == 0) {
		setenv("TERM", "xterm", 1);
		child_exec(argv, cwd);
	}
	fcntl(master, F_SETFD, FD_CLOEXEC);
	s->out = master;
	s->in = fcntl(master, F_DUPFD_CLOEXEC, 0);
	return true;
}

static bool start_pipe(struct session *s, char **argv, const char *cwd)
{
	int p[3][2] = { { -1, -1 }, { -1, -1 }, { -1, -1 } };

	for (int i = 0; i < 3; i++)
		if (pipe2(p[i], O_CLOEXEC) < 0)
			goto fail;
	s->pid = fork();
	if (s->pid < 0)
		goto fail;
	if (s->pid == 0) {
		setsid();
		dup2(p[0][0], 0);
		dup2(p[1][1], 1);
		dup2(p[2][1], 2);
		child_exec(argv, cwd);
	}
	close(p[0][0]);
	close(p[1][1]);
	close(p[2][1]);
	s->in = p[0][1];
	s->out = p[1][0];
	s->err = p[2][0];
	return true;
fail:
	for (int i = 0; i < 3; i++)
		for (int j = 0; j < 2; j++)
			close_fd(&p[i][j]);
	return false;
}

static void start(uint32_t id, char *data, uint32_t len)
{
	char *argv[MAX_ARGS + 1], *mode = NULL, *cwd = NULL;
	struct session *s = NULL;
	int argc = 0;
	char *p = data;

	while (p < data + len && argc < MAX_ARGS) {
		char *end = memchr(p, 0, data + len - p);

		if (!end)
			break;
		if (!mode)
			mode = p;
		else if (!cwd)
			cwd = p;
		else
			argv[argc++] = p;
		p = end + 1;
	}
	argv[argc] = NULL;
	for (int i = 0; i < MAX_SESSIONS && !s; i++)
		if (!sessions[i].used)
			s = &sessions[i];
	if (!argc || !s || find(id)) {
		send_exit(id, 125);
		return;
	}
	*s = (struct session){ .used = true, .id = id, .in = -1, .out = -1, .err = -1 };
	if (!(strcmp(mode, "pty") ? start_pipe : start_pty)(s, argv, cwd)) {
		s->used = false;
		send_exit(id, 125);
		return;
	}
	fcntl(s->in, F_SETFL, O_NONBLOCK);
}

static void feed(struct session *s, const uint8_t *data, uint32_t len)
{
	if (s->in < 0)
		return;
	if (!len)
		close_fd(&s->in);
	else
		write_all(s->in, data, len);
}

static void dispatch(uint32_t id, uint8_t type, uint8_t *data, uint32_t len)
{
	struct session *s = find(id);

	switch (type) {
	case FRAME_EXEC:
		start(id, (char *)data, len);
		break;
	case FRAME_INPUT:
		if (s)
			feed(s, data, len);
		break;
	case FRAME_SIGNAL:
		if (s && !s->exited && len == 1)
			kill(-s->pid, data[0]);
		break;
	case FRAME_PING:
		send_frame(id, FRAME_PONG, data, len);
		break;
	}
}

static void hang_up(void)
{
	for (int i = 0; i < MAX_SESSIONS; i++) {
		struct session *s = &sessions[i];

		if (!s->used)
			continue;
		if (!s->exited)
			kill(-s->pid, SIGHUP);
		close_fd(&s->in);
		close_fd(&s->out);
		close_fd(&s->err);
		s->used = false;
	}
	inlen = 0;
	while (read(port, inbuf, sizeof(inbuf)) > 0)
		;
}

static void receive(void)
{
	ssize_t n = read(port, inbuf + inlen, sizeof(inbuf) - inlen);
	size_t used = 0;

	if (n <= 0)
		return;
	inlen += n;
	while (inlen - used >= FRAME_HEADER) {
		uint32_t word = frame_get32(inbuf + used + 4), len = word & 0xffffff;

		if (len > FRAME_MAX) {
			inlen = 0;
			return;
		}
		if (inlen - used < FRAME_HEADER + len)
			break;
		dispatch(frame_get32(inbuf + used), word >> 24, inbuf + used + FRAME_HEADER, len);
		used += FRAME_HEADER + len;
	}
	memmove(inbuf, inbuf + used, inlen - used);
	inlen -= used;
}

static void forward(struct session *s, int *fd, enum frame_type type)
{
	static uint8_t buf[32768];
	ssize_t n = read(*fd, buf, sizeof(buf));

	if (n > 0)
		send_frame(s->id, type, buf, n);
	else if (n == 0 || (errno != EINTR && errno != EAGAIN))
		close_fd(fd);
}

/* What is left in a pipe after the command's end; a child of it that still holds the pipe is not waited for. */
static void flush_output(struct session *s, int *fd, enum frame_type type)
{
	if (*fd < 0)
		return;
	fcntl(*fd, F_SETFL, O_NONBLOCK);
	for (;;) {
		struct pollfd pfd = { .fd = *fd, .events = POLLIN };

		if (poll(&pfd, 1, 0) <= 0 || !(pfd.revents & POLLIN))
			break;
		forward(s, fd, type);
		if (*fd < 0)
			return;
	}
	close_fd(fd);
}

static void reap(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (int i = 0; i < MAX_SESSIONS; i++) {
			struct session *s = &sessions[i];

			if (!s->used || s->exited || s->pid != pid)
				continue;
			s->exited = true;
			flush_output(s, &s->out, FRAME_OUTPUT);
			flush_output(s, &s->err, FRAME_ERROR);
			close_fd(&s->in);
			send_exit(s->id, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
			s->used = false;
		}
}

static void wake(int sig)
{
	(void)sig;
}

/* A port without a caller polls as hung up all the time; the driver tells by SIGIO when one comes. */
static bool has_caller(void)
{
	struct pollfd pfd = { .fd = port, .events = POLLIN };

	return poll(&pfd, 1, 0) <= 0 || !(pfd.revents & POLLHUP);
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = wake };
	sigset_t blocked, open_mask;

	if (argc != 2) {
		fprintf(stderr, "usage: agent PORT\n");
		return 2;
	}
	port = open(argv[1], O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (port < 0) {
		perror(argv[1]);
		return 1;
	}
	signal(SIGPIPE, SIG_IGN);
	sigaction(SIGCHLD, &sa, NULL);
	sigaction(SIGIO, &sa, NULL);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGCHLD);
	sigaddset(&blocked, SIGIO);
	sigprocmask(SIG_BLOCK, &blocked, &open_mask);
	fcntl(port, F_SETOWN, getpid());
	fcntl(port, F_SETFL, O_NONBLOCK | O_ASYNC);

	for (;;) {
		struct pollfd pfds[1 + 2 * MAX_SESSIONS] = { { .fd = has_caller() ? port : -1, .events = POLLIN } };
		struct timespec alone = { .tv_sec = 2 };
		int *owner[1 + 2 * MAX_SESSIONS] = { 0 };
		struct session *of[1 + 2 * MAX_SESSIONS] = { 0 };
		int n = 1;

		for (int i = 0; i < MAX_SESSIONS; i++) {
			struct session *s = &sessions[i];
			int *fds[] = { &s->out, &s->err };

			for (int j = 0; s->used && j < 2; j++)
				if (*fds[j] >= 0) {
					of[n] = s;
					owner[n] = fds[j];
					pfds[n++] = (struct pollfd){ .fd = *fds[j], .events = POLLIN };
				}
		}
		if (pfds[0].fd < 0)
			hang_up();
		/* The signals are open only here, so that none is missed between a check and the wait. */
		int ready = ppoll(pfds, pfds[0].fd < 0 ? 0 : n, pfds[0].fd < 0 ? &alone : NULL, &open_mask);

		reap();
		if (ready <= 0 || pfds[0].revents & POLLHUP)
			continue;
		if (pfds[0].revents & POLLIN)
			receive();
		for (int i = 1; i < n; i++)
			if (pfds[i].revents && of[i]->used && *owner[i] == pfds[i].fd)
				forward(of[i], owner[i], owner[i] == &of[i]->out ? FRAME_OUTPUT : FRAME_ERROR);
	}
}
