/* Sends mail as fast as a server takes it, or at a rate, and measures how long each 250 takes.
 *
 * One thread, epoll.  The result is one JSON object on standard output; what a server refused is
 * told on standard error.  benchmarks/load.py calls it; --help lists the options.
 *
 * Every message carries a token, PREFIX-NNNNNNNN, in its Subject and in its last line, and is
 * otherwise the same, so that whoever finds it stored can say whether it is all there.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTING, HANDSHAKE, GREETING, EHLO, STARTTLS, READY, MAIL, RCPT, DATA, CONTENT, QUIT, GONE };
enum { PLAIN, WITH_STARTTLS, IMPLICIT };

/* Connections of --idle that are being opened at the same time. */
#define OPENING 32
/* After so many the run is given up; the first ones are told. */
#define FAILURES 50
#define TOLD 5

static const char *host = "127.0.0.1", *to = "bench@example.com", *prefix = "token";
static int port = 25, sessions = 1, per_connection, tls, recipients = 1;
static long messages = 1, size = 10240;
static double rate, apart, seconds_limit, patience = 60;
static bool pipelined, dots, multipart, idle, print;

typedef struct {
    int fd, state, left_to_answer, done_here;
    bool writing;
    SSL *ssl;
    long number;          /* of the message */
    int64_t due, ended;   /* when it was to begin, when its last octet was handed to the kernel */
    char *out;            /* commands and, at its end, nothing else */
    size_t out_length, out_capacity;
    struct iovec parts[4]; /* what is still to be written */
    int part, part_count;
    char head[768], tail[96];
    char in[4096];
    size_t in_length;
} Session;

static Session *all;
static int poll_fd, timer_fd, ready_count, opened, opening, idle_ready, live;
static SSL_CTX *context;
static char *filler;
static size_t filler_length;
static long begun, acknowledged, failed, lost_count, due_count;
static double *latencies;
static long *lost;
static int64_t first, last;

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "generator: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    exit(2);
}

/* The message. */

/* Append `length` octets of lines that look like text, of 78 octets with their ends. */
static void lines(FILE *to_file, long length, bool with_dots) {
    uint32_t seed = 12345;
    char line[80];
    while (length > 0) {
        int n = length < 82 ? (int)length : 78;
        if (n < 2) n = 2;
        for (int i = 0; i < n - 2; i++) {
            seed = seed * 1664525u + 1013904223u;
            unsigned c = (seed >> 24) % 32;
            line[i] = c < 26 ? 'a' + c : i && i < n - 3 && line[i - 1] != ' ' ? ' ' : 'e';
        }
        if (with_dots && n > 4) line[0] = '.';
        memcpy(line + n - 2, "\r\n", 2);
        fwrite(line, 1, n, to_file);
        length -= n;
    }
}

static size_t make_head(char *buffer, size_t capacity, long number) {
    int n = snprintf(buffer, capacity,
        "From: Bench <sender@example.org>\r\nTo: <bench@example.com>\r\nSubject: %s-%08ld\r\n"
        "Message-ID: <%s-%08ld@example.org>\r\nDate: Mon, 01 Jan 2024 00:00:00 +0000\r\n"
        "MIME-Version: 1.0\r\nContent-Type: %s\r\n\r\n%s",
        prefix, number, prefix, number,
        multipart ? "multipart/alternative; boundary=\"=_bench\"" : "text/plain; charset=us-ascii",
        multipart ? "--=_bench\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n" : "");
    return n;
}

static size_t make_tail(char *buffer, size_t capacity, long number) {
    return snprintf(buffer, capacity, "%send %s-%08ld\r\n%s", multipart ? "<p>" : "", prefix, number,
                    multipart ? "--=_bench--\r\n" : "");
}

static void make_filler(void) {
    char buffer[1024];
    long rest = size - (long)make_head(buffer, sizeof buffer, 0) - (long)make_tail(buffer, sizeof buffer, 0);
    FILE *file = open_memstream(&filler, &filler_length);
    if (multipart) {
        static const char between[] = "--=_bench\r\nContent-Type: text/html; charset=us-ascii\r\n\r\n";
        rest -= sizeof between - 1;
        lines(file, rest / 2, dots);
        fputs(between, file);
        lines(file, rest - rest / 2, dots);
    } else if (rest > 0) {
        lines(file, rest, dots);
    }
    fclose(file);
    if (dots && !print) { /* as it goes over the wire */
        char *stuffed = malloc(filler_length + filler_length / 70 + 16), *at = stuffed;
        bool start = true;
        for (size_t i = 0; i < filler_length; i++) {
            if (start && filler[i] == '.') *at++ = '.';
            *at++ = filler[i];
            start = filler[i] == '\n';
        }
        free(filler);
        filler = stuffed;
        filler_length = at - stuffed;
    }
}

/* Writing. */

static void want(Session *s, bool writing) {
    if (s->writing == writing) return;
    struct epoll_event event = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.ptr = s};
    epoll_ctl(poll_fd, EPOLL_CTL_MOD, s->fd, &event);
    s->writing = writing;
}

static void say(Session *s, const char *format, ...) {
    if (s->out_capacity - s->out_length < 512) {
        s->out_capacity = s->out_capacity * 2 + 1024;
        s->out = realloc(s->out, s->out_capacity);
    }
    va_list arguments;
    va_start(arguments, format);
    s->out_length += vsnprintf(s->out + s->out_length, 512, format, arguments);
    va_end(arguments);
}

/* Hand the kernel what it takes; false: the connection is gone. */
static bool flush(Session *s) {
    while (s->part < s->part_count) {
        ssize_t n;
        if (s->ssl) {
            struct iovec *piece = &s->parts[s->part];
            int length = piece->iov_len > 1 << 20 ? 1 << 20 : (int)piece->iov_len;
            n = SSL_write(s->ssl, piece->iov_base, length);
            if (n <= 0) {
                int error = SSL_get_error(s->ssl, (int)n);
                if (error != SSL_ERROR_WANT_WRITE && error != SSL_ERROR_WANT_READ) return false;
                want(s, true);
                return true;
            }
        } else {
            n = writev(s->fd, s->parts + s->part, s->part_count - s->part);
            if (n < 0) {
                if (errno != EAGAIN) return false;
                want(s, true);
                return true;
            }
        }
        while (n > 0) {
            struct iovec *piece = &s->parts[s->part];
            size_t step = (size_t)n < piece->iov_len ? (size_t)n : piece->iov_len;
            piece->iov_base = (char *)piece->iov_base + step;
            piece->iov_len -= step;
            n -= step;
            if (!piece->iov_len) s->part++;
        }
    }
    want(s, false);
    s->out_length = 0;
    if (s->state == CONTENT && !s->ended) s->ended = now();
    return true;
}

static bool send_commands(Session *s) {
    s->parts[0] = (struct iovec){s->out, s->out_length};
    s->part = 0;
    s->part_count = 1;
    return flush(s);
}

static bool send_content(Session *s) {
    size_t head = make_head(s->head, sizeof s->head, s->number);
    size_t tail = make_tail(s->tail, sizeof s->tail, s->number);
    memcpy(s->tail + tail, ".\r\n", 3);
    s->parts[0] = (struct iovec){s->head, head};
    s->parts[1] = (struct iovec){filler, filler_length};
    s->parts[2] = (struct iovec){s->tail, tail + 3};
    s->part = 0;
    s->part_count = 3;
    s->ended = 0;
    return flush(s);
}

/* Connections. */

static void open_session(Session *s) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, host, &address.sin_addr);
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->fd < 0) die("socket: %s", strerror(errno));
    int yes = 1;
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    s->state = CONNECTING;
    s->in_length = s->out_length = 0;
    s->part = s->part_count = s->done_here = 0;
    s->number = -1;
    s->writing = true;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = s};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, s->fd, &event);
    if (connect(s->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
        die("connect: %s", strerror(errno));
    live++;
    opening++;
}

static void close_session(Session *s) {
    if (s->ssl) SSL_free(s->ssl);
    s->ssl = NULL;
    close(s->fd);
    s->state = GONE;
    live--;
}

static bool more(void) {
    if (seconds_limit > 0 && first && now() - first > seconds_limit * 1e9) return false;
    return begun < messages;
}

static void lose(Session *s, const char *why, int length) {
    if (failed < TOLD)
        fprintf(stderr, "generator: message %ld in state %d: %.*s\n", s->number, s->state, length, why);
    if (s->number >= 0) lost[lost_count++] = s->number;
    if (++failed >= FAILURES) die("too many failures");
    if (s->state == CONNECTING || s->state == GREETING) opening--;
    close_session(s);
    if (idle) die("an idle connection ended");
    if (more()) open_session(s);
}

static bool begin_tls(Session *s) {
    s->ssl = SSL_new(context);
    SSL_set_fd(s->ssl, s->fd);
    SSL_set_connect_state(s->ssl);
    s->state = HANDSHAKE;
    return true;
}

/* The dialogue. */

static bool hello(Session *s) {
    s->state = EHLO;
    say(s, "EHLO client.example.org\r\n");
    return send_commands(s);
}

static void say_recipient(Session *s, int index) {
    char address[256];
    const char *mark = strstr(to, "%u");
    if (mark)
        snprintf(address, sizeof address, "%.*s%d%s", (int)(mark - to), to, index, mark + 2);
    else
        snprintf(address, sizeof address, "%s", to);
    say(s, "RCPT TO:<%s>\r\n", address);
}

static bool begin_message(Session *s, int64_t due) {
    if (!first) first = now();
    s->number = begun++;
    s->due = due;
    s->left_to_answer = recipients;
    s->state = MAIL;
    say(s, "MAIL FROM:<sender@example.org>\r\n");
    if (pipelined) {
        for (int i = 0; i < recipients; i++) say_recipient(s, i);
        say(s, "DATA\r\n");
    }
    return send_commands(s);
}

static bool be_ready(Session *s) {
    s->state = READY;
    if (idle) {
        idle_ready++;
        opening--;
        return true;
    }
    if (rate > 0) { /* the clock hands out the messages */
        ready_count++;
        return true;
    }
    if (!more() || (per_connection && s->done_here >= per_connection)) {
        s->state = QUIT;
        say(s, "QUIT\r\n");
        return send_commands(s);
    }
    return begin_message(s, 0);
}

/* Take in one whole reply; false: the session has ended or was lost. */
static bool answered(Session *s, const char *line, int length) {
    int code = atoi(line), expected = 250;
    switch (s->state) {
    case GREETING:
    case STARTTLS: expected = 220; break;
    case DATA: expected = 354; break;
    case QUIT: expected = 221; break;
    default: break;
    }
    if (code != expected) {
        lose(s, line, length);
        return false;
    }
    switch (s->state) {
    case GREETING:
        if (!idle) opening--;
        return hello(s);
    case EHLO:
        if (tls == WITH_STARTTLS && !s->ssl) {
            s->state = STARTTLS;
            say(s, "STARTTLS\r\n");
            return send_commands(s);
        }
        return be_ready(s);
    case STARTTLS:
        return begin_tls(s);
    case MAIL:
        s->state = RCPT;
        if (!pipelined) {
            say_recipient(s, 0);
            return send_commands(s);
        }
        return true;
    case RCPT:
        if (--s->left_to_answer) {
            if (!pipelined) {
                say_recipient(s, recipients - s->left_to_answer);
                return send_commands(s);
            }
            return true;
        }
        s->state = DATA;
        if (!pipelined) {
            say(s, "DATA\r\n");
            return send_commands(s);
        }
        return true;
    case DATA:
        s->state = CONTENT;
        return send_content(s);
    case CONTENT:
        last = now();
        latencies[acknowledged++] = (double)(last - (s->due ? s->due : s->ended));
        s->done_here++;
        s->number = -1;
        return be_ready(s);
    default: /* QUIT */
        close_session(s);
        if (more()) open_session(s);
        return false;
    }
}

/* Read and answer; false: the session has ended. */
static bool receive(Session *s) {
    for (;;) {
        ssize_t n;
        if (s->ssl) {
            n = SSL_read(s->ssl, s->in + s->in_length, (int)(sizeof s->in - s->in_length));
            if (n <= 0) {
                int error = SSL_get_error(s->ssl, (int)n);
                if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return true;
                n = 0;
            }
        } else {
            n = recv(s->fd, s->in + s->in_length, sizeof s->in - s->in_length, 0);
            if (n < 0 && errno == EAGAIN) return true;
        }
        if (n <= 0) {
            if (s->state == QUIT) return answered(s, "221", 3);
            lose(s, "the connection ended", 20);
            return false;
        }
        s->in_length += n;
        char *start = s->in, *end;
        SSL *ssl = s->ssl;
        while ((end = memchr(start, '\n', s->in + s->in_length - start))) {
            char *line = start;
            start = end + 1;
            if (end - line > 3 && line[3] == '-') continue;
            int fd = s->fd;
            if (!answered(s, line, (int)(end - line))) return false;
            if (s->fd != fd) return true;
        }
        s->in_length -= start - s->in;
        memmove(s->in, start, s->in_length);
        if (s->in_length == sizeof s->in) die("a reply without end");
        if (s->ssl != ssl) return true; /* STARTTLS: the handshake comes next */
    }
}

/* Go on with the handshake; true: it is done, and the dialogue goes on. */
static bool shake_hands(Session *s) {
    int result = SSL_do_handshake(s->ssl);
    if (result != 1) {
        int error = SSL_get_error(s->ssl, result);
        if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
            want(s, error == SSL_ERROR_WANT_WRITE);
        else
            lose(s, "TLS handshake", 13);
        return false;
    }
    want(s, false);
    if (tls == IMPLICIT)
        s->state = GREETING;
    else if (!hello(s)) {
        lose(s, "write", 5);
        return false;
    }
    return true;
}

static void serve(Session *s, uint32_t events) {
    if (s->state == CONNECTING) {
        int error = 0;
        socklen_t length = sizeof error;
        getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &length);
        if (error) {
            lose(s, strerror(error), 40);
            return;
        }
        s->state = GREETING;
        want(s, false);
        if (tls == IMPLICIT) begin_tls(s);
    }
    if (s->state == HANDSHAKE && !shake_hands(s)) return;
    if ((events & EPOLLOUT) && s->writing && !flush(s)) {
        lose(s, "write", 5);
        return;
    }
    /* After STARTTLS it is the client that speaks first. */
    if (receive(s) && s->state == HANDSHAKE) shake_hands(s);
}

/* The clock of --rate. */

static void hand_out(int64_t start) {
    double elapsed = (double)(now() - start) / 1e9;
    long due = (long)(elapsed * rate) + 1;
    if (due > messages) due = messages;
    if (seconds_limit > 0 && elapsed > seconds_limit) due = due_count;
    if (due > due_count) due_count = due;
    for (int i = 0; i < sessions && begun < due_count && ready_count > 0; i++) {
        Session *s = &all[i];
        if (s->state != READY) continue;
        ready_count--;
        if (!begin_message(s, start + (int64_t)((double)begun / rate * 1e9))) lose(s, "write", 5);
    }
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(double q) {
    if (!acknowledged) return 0;
    long at = (long)(q * (double)acknowledged);
    return latencies[at < acknowledged ? at : acknowledged - 1] / 1e6;
}

static void report(void) {
    qsort(latencies, acknowledged, sizeof *latencies, by_size);
    printf("{\"acknowledged\": %ld, \"begun\": %ld, \"seconds\": %.6f, \"p50\": %.4f, \"p90\": %.4f,"
           " \"p99\": %.4f, \"p999\": %.4f, \"max\": %.4f, \"lost\": [",
           acknowledged, begun, (double)(last - first) / 1e9, quantile(.5), quantile(.9),
           quantile(.99), quantile(.999), quantile(1));
    for (long i = 0; i < lost_count; i++) printf("%s%ld", i ? ", " : "", lost[i]);
    printf("]}\n");
}

static void run(void) {
    struct epoll_event events[256];
    int64_t start = 0, next = 0, heard = now();
    bool told = false;
    static Session input, timer;
    if (idle) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &input};
        epoll_ctl(poll_fd, EPOLL_CTL_ADD, 0, &event);
    }
    if (rate > 0) {
        timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &timer};
        epoll_ctl(poll_fd, EPOLL_CTL_ADD, timer_fd, &event);
        int64_t every = rate > 5000 ? 200000 : (int64_t)(1e9 / rate);
        if (every > 1000000) every = 1000000;
        struct itimerspec spec = {{0, every}, {0, every}};
        timerfd_settime(timer_fd, 0, &spec, NULL);
    }
    for (;;) {
        while (opened < sessions && (!idle || opening < OPENING) && now() >= next) {
            open_session(&all[opened++]);
            next = now() + (int64_t)(apart * 1e6);
        }
        if (idle && !told && idle_ready == sessions) {
            printf("ready\n");
            fflush(stdout);
            told = true;
        }
        if (!idle && !live) return;
        int n = epoll_wait(poll_fd, events, 256, apart && opened < sessions ? 1 : 1000);
        if (n < 0 && errno != EINTR) die("epoll_wait: %s", strerror(errno));
        for (int i = 0; i < n; i++) {
            Session *s = events[i].data.ptr;
            if (s == &input) return;
            if (s == &timer) {
                uint64_t ticks;
                if (read(timer_fd, &ticks, sizeof ticks) < 0) continue;
                if (!start && ready_count == sessions) start = now();
                continue;
            }
            heard = now();
            if (s->state != GONE) serve(s, events[i].events);
        }
        if (start) {
            hand_out(start);
            bool over = due_count >= messages ||
                (seconds_limit > 0 && now() - start > seconds_limit * 1e9);
            if (over && begun >= due_count && ready_count == live) return;
        }
        if (!told && now() - heard > patience * 1e9) {
            fprintf(stderr, "generator: nothing heard for %.0f s\n", patience);
            failed++;
            for (int i = 0; i < opened; i++)
                if (all[i].state != GONE && all[i].number >= 0) lost[lost_count++] = all[i].number;
            return;
        }
    }
}

static const struct option options[] = {
    {"host", 1, 0, 'h'}, {"port", 1, 0, 'p'}, {"sessions", 1, 0, 's'}, {"messages", 1, 0, 'm'},
    {"size", 1, 0, 'z'}, {"per-connection", 1, 0, 'c'}, {"rate", 1, 0, 'r'},
    {"seconds", 1, 0, 't'}, {"tls", 1, 0, 'e'}, {"recipients", 1, 0, 'n'}, {"to", 1, 0, 'o'},
    {"prefix", 1, 0, 'x'}, {"patience", 1, 0, 'w'}, {"pipelined", 0, 0, 'P'}, {"dots", 0, 0, 'D'},
    {"multipart", 0, 0, 'M'}, {"apart", 1, 0, 'a'}, {"idle", 0, 0, 'I'}, {"print", 0, 0, 'O'}, {"help", 0, 0, '?'}, {0},
};

int main(int argc, char **argv) {
    int c;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case 'h': host = optarg; break;
        case 'p': port = atoi(optarg); break;
        case 's': sessions = atoi(optarg); break;
        case 'm': messages = atol(optarg); break;
        case 'z': size = atol(optarg); break;
        case 'c': per_connection = atoi(optarg); break;
        case 'r': rate = atof(optarg); break;
        case 't': seconds_limit = atof(optarg); break;
        case 'e': tls = !strcmp(optarg, "starttls") ? WITH_STARTTLS : !strcmp(optarg, "implicit") ? IMPLICIT : PLAIN; break;
        case 'n': recipients = atoi(optarg); break;
        case 'o': to = optarg; break;
        case 'x': prefix = optarg; break;
        case 'w': patience = atof(optarg); break;
        case 'P': pipelined = true; break;
        case 'D': dots = true; break;
        case 'M': multipart = true; break;
        case 'I': idle = true; break;
        case 'a': apart = atof(optarg); break;
        case 'O': print = true; break;
        default:
            fprintf(stderr,
                "generator --port PORT [--host ADDRESS] [--sessions N] [--messages N] [--size OCTETS]\n"
                "  --per-connection N  QUIT after so many messages; 0: keep the connection\n"
                "  --apart MS          from one session's connection to the next's\n"
                "  --pipelined         MAIL, RCPT and DATA in one write\n"
                "  --rate R            begin R messages a second; p50 to max are then from that moment\n"
                "  --seconds S         begin no message after so long\n"
                "  --tls starttls | implicit    (the certificate is not checked)\n"
                "  --recipients N, --to ADDRESS    of each message; %%u in it is a number\n"
                "  --prefix TEXT       of the tokens\n"
                "  --dots              every line of the body begins with a dot\n"
                "  --multipart         text and HTML\n"
                "  --patience S        give up when nothing was heard for so long\n"
                "  --idle              only connect and say EHLO; print 'ready'; end with the input\n"
                "  --print             print message 0 as it is to be stored\n");
            return c == '?' ? 2 : 0;
        }
    }
    signal(SIGPIPE, SIG_IGN);
    make_filler();
    if (print) {
        char buffer[1024];
        fwrite(buffer, 1, make_head(buffer, sizeof buffer, 0), stdout);
        fwrite(filler, 1, filler_length, stdout);
        fwrite(buffer, 1, make_tail(buffer, sizeof buffer, 0), stdout);
        return 0;
    }
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (tls) {
        context = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
        SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    }
    if (sessions > messages && !idle && rate <= 0) sessions = (int)messages;
    all = calloc(sessions, sizeof *all);
    latencies = malloc((messages + 1) * sizeof *latencies);
    lost = malloc((FAILURES + sessions) * sizeof *lost);
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    run();
    if (!idle) report();
    return failed ? 1 : 0;
}
