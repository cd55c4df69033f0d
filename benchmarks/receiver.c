/* Takes HTTP POSTs, answers 204, and keeps what was posted.
 *
 *   receiver PORT FILE    appends each body to FILE, with its length (4 octets, big endian) before
 *                         it; GET says how many bodies there were, and that FILE holds them all.
 *
 * One thread, epoll, keep-alive; bodies need Content-Length.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct {
    int fd;
    char *data;
    size_t length, capacity;
    bool continued;
} Peer;

static FILE *kept;
static unsigned long bodies;

static void answer(Peer *peer, const char *text) {
    if (send(peer->fd, text, strlen(text), MSG_NOSIGNAL) < 0) perror("receiver: send");
}

/* Return the octets of one whole request at the start of the data, or 0; answers it. */
static size_t take(Peer *peer) {
    char *end = memmem(peer->data, peer->length, "\r\n\r\n", 4);
    if (!end) return 0;
    size_t head = end + 4 - peer->data, body = 0;
    bool expects = false;
    for (char *line = peer->data; line < end;) {
        char *next = memmem(line, end + 2 - line, "\r\n", 2);
        if (!strncasecmp(line, "content-length:", 15)) body = strtoul(line + 15, NULL, 10);
        if (!strncasecmp(line, "expect:", 7)) expects = true;
        if (!strncasecmp(line, "transfer-encoding:", 18)) {
            answer(peer, "HTTP/1.1 411 Length Required\r\nContent-Length: 0\r\n\r\n");
            return peer->length;
        }
        line = next + 2;
    }
    if (peer->length < head + body) {
        if (expects && !peer->continued) answer(peer, "HTTP/1.1 100 Continue\r\n\r\n");
        peer->continued = true;
        return 0;
    }
    peer->continued = false;
    if (!strncmp(peer->data, "GET", 3)) {
        char count[32], text[128];
        fflush(kept);
        int length = snprintf(count, sizeof count, "%lu\n", bodies);
        snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", length, count);
        answer(peer, text);
    } else {
        uint32_t length = htonl((uint32_t)body);
        fwrite(&length, 4, 1, kept);
        fwrite(peer->data + head, 1, body, kept);
        bodies++;
        answer(peer, "HTTP/1.1 204 No Content\r\n\r\n");
    }
    return head + body;
}

static bool serve(Peer *peer) {
    for (;;) {
        if (peer->capacity - peer->length < 65536) {
            peer->capacity = peer->capacity * 2 + 131072;
            peer->data = realloc(peer->data, peer->capacity);
        }
        ssize_t n = recv(peer->fd, peer->data + peer->length, peer->capacity - peer->length, 0);
        if (n < 0 && errno == EAGAIN) return true;
        if (n <= 0) return false;
        peer->length += n;
        size_t used;
        while (peer->length && (used = take(peer))) {
            peer->length -= used;
            memmove(peer->data, peer->data + used, peer->length);
        }
    }
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    signal(SIGPIPE, SIG_IGN);
    kept = fopen(argv[2], "wb");
    int door = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), yes = 1;
    setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (!kept || bind(door, (struct sockaddr *)&address, sizeof address) || listen(door, 1024)) {
        perror("receiver");
        return 1;
    }
    setvbuf(kept, NULL, _IOFBF, 1 << 20);
    int poll_fd = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, events[64];
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, door, &event);
    for (;;) {
        int n = epoll_wait(poll_fd, events, 64, -1);
        for (int i = 0; i < n; i++) {
            Peer *peer = events[i].data.ptr;
            if (!peer) {
                int fd = accept4(door, NULL, NULL, SOCK_NONBLOCK);
                if (fd < 0) continue;
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
                peer = calloc(1, sizeof *peer);
                peer->fd = fd;
                event.data.ptr = peer;
                epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event);
            } else if (!serve(peer)) {
                close(peer->fd);
                free(peer->data);
                free(peer);
            }
        }
    }
}
