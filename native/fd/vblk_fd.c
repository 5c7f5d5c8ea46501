/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * System calls on file descriptors that Node has no function for.
 *
 * Like the kernel's own entry points, every function returns a result of zero or more, or a negative errno: src/host/fd.ts
 * makes errors of them. Exceptions are for callers that pass the wrong kind of argument.
 */
#define _GNU_SOURCE
#define NAPI_VERSION 8

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/ioctl.h>
#include <node_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

/* SCM_MAX_FD of the kernel's include/net/scm.h: more make sendmsg fail. */
#define MAX_FDS 253

/* Reads the arguments; false, with an exception pending, unless there are exactly as many as wanted. */
static bool get_args(napi_env env, napi_callback_info info, size_t wanted, napi_value *args)
{
    size_t count = wanted;

    if (napi_get_cb_info(env, info, &count, args, NULL, NULL) != napi_ok) {
        return false;
    }
    if (count != wanted) {
        napi_throw_type_error(env, NULL, "wrong number of arguments");
        return false;
    }
    return true;
}

static bool get_integer(napi_env env, napi_value value, int64_t min, int64_t max, int64_t *result)
{
    double number;

    if (napi_get_value_double(env, value, &number) != napi_ok) {
        napi_throw_type_error(env, NULL, "expected a number");
        return false;
    }
    /* Not a number compares false. */
    if (!(number >= (double)min && number <= (double)max) || number != (double)(int64_t)number) {
        napi_throw_range_error(env, NULL, "the number is not an integer in range");
        return false;
    }
    *result = (int64_t)number;
    return true;
}

static bool get_fd(napi_env env, napi_value value, int *fd)
{
    int64_t number;

    if (!get_integer(env, value, 0, INT_MAX, &number)) {
        return false;
    }
    *fd = (int)number;
    return true;
}

/* A path that does not fit, or that has a zero inside, must not be used cut short. */
static bool get_path(napi_env env, napi_value value, char *path, size_t size)
{
    size_t length;

    if (napi_get_value_string_utf8(env, value, NULL, 0, &length) != napi_ok) {
        napi_throw_type_error(env, NULL, "expected a path");
        return false;
    }
    if (length >= size) {
        napi_throw_range_error(env, NULL, "the path is too long");
        return false;
    }
    if (napi_get_value_string_utf8(env, value, path, size, &length) != napi_ok) {
        return false;
    }
    if (strlen(path) != length) {
        napi_throw_range_error(env, NULL, "the path contains a zero byte");
        return false;
    }
    return true;
}

static napi_value number(napi_env env, int64_t value)
{
    napi_value result = NULL;

    napi_create_int64(env, value, &result);
    return result;
}

static napi_value result_or_errno(napi_env env, int64_t result)
{
    return number(env, result < 0 ? -errno : result);
}

/* open(path, flags, mode): a descriptor, closed on exec */
static napi_value fd_open(napi_env env, napi_callback_info info)
{
    napi_value args[3];
    char path[PATH_MAX];
    int64_t flags, mode;

    if (!get_args(env, info, 3, args) || !get_path(env, args[0], path, sizeof(path)) ||
        !get_integer(env, args[1], 0, INT_MAX, &flags) || !get_integer(env, args[2], 0, 07777, &mode)) {
        return NULL;
    }
    return result_or_errno(env, open(path, (int)flags | O_CLOEXEC, (mode_t)mode));
}

/* close(fd). Not repeated on EINTR: Linux has released the descriptor by then. */
static napi_value fd_close(napi_env env, napi_callback_info info)
{
    napi_value args[1];
    int fd;

    if (!get_args(env, info, 1, args) || !get_fd(env, args[0], &fd)) {
        return NULL;
    }
    return result_or_errno(env, close(fd));
}

/* ioctl(fd, request, buffer | undefined): what the ioctl returned */
static napi_value fd_ioctl(napi_env env, napi_callback_info info)
{
    napi_value args[3];
    napi_valuetype type;
    int64_t request;
    void *data = NULL;
    size_t length = 0;
    int fd;

    if (!get_args(env, info, 3, args) || !get_fd(env, args[0], &fd) ||
        !get_integer(env, args[1], 0, UINT32_MAX, &request) || napi_typeof(env, args[2], &type) != napi_ok) {
        return NULL;
    }
    if (type != napi_undefined && napi_get_buffer_info(env, args[2], &data, &length) != napi_ok) {
        napi_throw_type_error(env, NULL, "expected a buffer");
        return NULL;
    }
    /* The kernel copies as many bytes as the number says. Without a size in it, nobody knows how many. */
    if (_IOC_SIZE((unsigned int)request) > length || (data && _IOC_SIZE((unsigned int)request) == 0)) {
        napi_throw_range_error(env, NULL, "the buffer does not fit the size in the ioctl's number");
        return NULL;
    }
    return result_or_errno(env, ioctl(fd, (unsigned long)request, data));
}

/* connect(path): a descriptor of a non-blocking unix stream socket, closed on exec */
static napi_value fd_connect(napi_env env, napi_callback_info info)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    napi_value args[1];
    int fd, error;

    if (!get_args(env, info, 1, args) || !get_path(env, args[0], address.sun_path, sizeof(address.sun_path))) {
        return NULL;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return result_or_errno(env, fd);
    }
    /* Never EINPROGRESS: a unix socket is connected at once, or there is EAGAIN because the listener's queue is full. */
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        error = errno;
        close(fd);
        return number(env, -error);
    }
    return number(env, fd);
}

/* sendFds(socket, fds): 1, the byte that went with them. A space, which a JSON reader skips. */
static napi_value fd_send_fds(napi_env env, napi_callback_info info)
{
    union {
        char bytes[CMSG_SPACE(MAX_FDS * sizeof(int))];
        struct cmsghdr align;
    } control;
    int fds[MAX_FDS];
    char space = ' ';
    struct iovec iov = { .iov_base = &space, .iov_len = 1 };
    struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes };
    struct cmsghdr *header;
    napi_value args[2], item;
    uint32_t count, i;
    ssize_t sent;
    int socket_fd;

    if (!get_args(env, info, 2, args) || !get_fd(env, args[0], &socket_fd)) {
        return NULL;
    }
    if (napi_get_array_length(env, args[1], &count) != napi_ok) {
        napi_throw_type_error(env, NULL, "expected an array of descriptors");
        return NULL;
    }
    if (count < 1 || count > MAX_FDS) {
        napi_throw_range_error(env, NULL, "1 to 253 descriptors can be sent at a time");
        return NULL;
    }
    for (i = 0; i < count; i++) {
        if (napi_get_element(env, args[1], i, &item) != napi_ok || !get_fd(env, item, &fds[i])) {
            return NULL;
        }
    }

    memset(&control, 0, sizeof(control));
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(header), fds, count * sizeof(int));

    do {
        sent = sendmsg(socket_fd, &message, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return result_or_errno(env, sent);
}

static bool set_number(napi_env env, napi_value object, const char *name, int64_t value)
{
    return napi_set_named_property(env, object, name, number(env, value)) == napi_ok;
}

/* peerCredentials(socket): { pid, uid, gid } of the process that connected, or listened */
static napi_value fd_peer_credentials(napi_env env, napi_callback_info info)
{
    struct ucred peer;
    socklen_t length = sizeof(peer);
    napi_value args[1], result;
    int fd;

    if (!get_args(env, info, 1, args) || !get_fd(env, args[0], &fd)) {
        return NULL;
    }
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0) {
        return result_or_errno(env, -1);
    }
    if (napi_create_object(env, &result) != napi_ok || !set_number(env, result, "pid", peer.pid) ||
        !set_number(env, result, "uid", peer.uid) || !set_number(env, result, "gid", peer.gid)) {
        return NULL;
    }
    return result;
}

/*
 * copyFd(pid, fd): a descriptor of the same open file as that of another process, closed on exec. It takes the right to trace
 * the process (pidfd_getfd(2), Linux 5.6). System calls by number: the C library has them from 2.36 on.
 */
static napi_value fd_copy(napi_env env, napi_callback_info info)
{
    napi_value args[2];
    int64_t pid;
    int fd, process, error;
    long copy;

    if (!get_args(env, info, 2, args) || !get_integer(env, args[0], 1, INT_MAX, &pid) || !get_fd(env, args[1], &fd)) {
        return NULL;
    }
    process = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
    if (process < 0) {
        return result_or_errno(env, process);
    }
    copy = syscall(SYS_pidfd_getfd, process, fd, 0);
    error = errno;
    close(process);
    errno = error;
    return result_or_errno(env, copy);
}

/* tryLock(fd, exclusive): 0. Without waiting: a wait here would stop the whole program, its signal handlers included. */
static napi_value fd_try_lock(napi_env env, napi_callback_info info)
{
    napi_value args[2];
    bool exclusive;
    int fd;

    if (!get_args(env, info, 2, args) || !get_fd(env, args[0], &fd)) {
        return NULL;
    }
    if (napi_get_value_bool(env, args[1], &exclusive) != napi_ok) {
        napi_throw_type_error(env, NULL, "expected a boolean");
        return NULL;
    }
    return result_or_errno(env, flock(fd, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB));
}

NAPI_MODULE_INIT()
{
    static const struct {
        const char *name;
        napi_callback function;
    } functions[] = {
        { "open", fd_open },
        { "close", fd_close },
        { "ioctl", fd_ioctl },
        { "connect", fd_connect },
        { "sendFds", fd_send_fds },
        { "peerCredentials", fd_peer_credentials },
        { "copyFd", fd_copy },
        { "tryLock", fd_try_lock },
    };
    napi_value function;
    size_t i;

    for (i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
        if (napi_create_function(env, functions[i].name, NAPI_AUTO_LENGTH, functions[i].function, NULL, &function) !=
                napi_ok ||
            napi_set_named_property(env, exports, functions[i].name, function) != napi_ok) {
            return NULL;
        }
    }
    return exports;
}
