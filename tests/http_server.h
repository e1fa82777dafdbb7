/* An HTTP server for tests, on 127.0.0.1 and a free port: a thread a connection, and a function of the test's that
 * answers each request, as well or as badly as it likes. */
#ifndef SEMOLLM_TESTS_HTTP_SERVER_H
#define SEMOLLM_TESTS_HTTP_SERVER_H

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SERVER_REQUEST_MOST = 1 << 20 };

typedef struct ServerRequest {
    int socket;
    char method[8], path[1024];
    const char *head; /* the request's line and headers */
    const char *body; /* a null after it */
    size_t body_bytes;
    int64_t first_byte, last_byte; /* of a Range header; -1: none, no end */
    const atomic_bool *stop;       /* set when the server ends: let no answer wait longer */
} ServerRequest;

/* Answers through request->socket; false closes the connection. Called by several threads. */
typedef bool ServerAnswer(void *context, const ServerRequest *request);

typedef struct Server {
    int port, listener;
    ServerAnswer *answer;
    void *context;
    pthread_t thread;
    atomic_int connections; /* open ones, each with a thread */
    atomic_bool stop;
} Server;

typedef struct ServerConnection {
    Server *server;
    int socket;
} ServerConnection;

static inline bool server_send(int socket, const void *data, size_t size) {
    for (const char *at = data; size;) {
        ssize_t sent = send(socket, at, size, MSG_NOSIGNAL);
        if (sent <= 0) return false;
        at += sent;
        size -= (size_t)sent;
    }
    return true;
}

/* `headers`: further lines, each with its "\r\n"; null: none. */
static inline bool server_reply(int socket, int status, const char *headers, const void *body, size_t size) {
    char head[1024];
    int length = snprintf(head, sizeof head, "HTTP/1.1 %d Tested\r\nContent-Length: %zu\r\n%s\r\n", status, size,
                          headers ? headers : "");
    return server_send(socket, head, (size_t)length) && server_send(socket, body, size);
}

/* The value of a header, or null; it ends at the line's end. */
static inline const char *server_header(const char *head, const char *name) {
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n")) {
        size_t length = strlen(name);
        if (strncasecmp(line + 2, name, length) == 0 && line[2 + length] == ':')
            return line + 3 + length + strspn(line + 3 + length, " ");
    }
    return NULL;
}

/* Waits in slices, so that a server that ends is not held up. */
static inline void server_sleep(const atomic_bool *stop, double seconds) {
    for (double slept = 0; slept < seconds && !atomic_load(stop); slept += 0.01) usleep(10000);
}

/* Sends nothing for so long, or until the peer has had enough. */
static inline void server_stall(const ServerRequest *request, double seconds) {
    struct pollfd one = {.fd = request->socket, .events = POLLRDHUP};
    for (double slept = 0; slept < seconds && !atomic_load(request->stop); slept += 0.02)
        if (poll(&one, 1, 20) > 0) return;
}

/* More bytes into the buffer; false: the peer or the server has ended. */
static inline bool server_receive(Server *server, int socket, char *buffer, size_t *held) {
    while (!atomic_load(&server->stop)) {
        struct pollfd one = {.fd = socket, .events = POLLIN};
        if (poll(&one, 1, 50) == 0) continue;
        ssize_t got = recv(socket, buffer + *held, SERVER_REQUEST_MOST - *held, 0);
        if (got <= 0) return false;
        *held += (size_t)got;
        buffer[*held] = '\0';
        return true;
    }
    return false;
}

static inline void server_parse(ServerRequest *request, char *head) {
    request->head = head;
    request->first_byte = request->last_byte = -1;
    if (sscanf(head, "%7s %1023s", request->method, request->path) != 2) request->path[0] = '\0';
    const char *range = server_header(head, "Range"), *length = server_header(head, "Content-Length");
    if (range) sscanf(range, "bytes=%" SCNd64 "-%" SCNd64, &request->first_byte, &request->last_byte);
    request->body_bytes = length ? strtoull(length, NULL, 10) : 0;
}

/* One request after another on a connection; what comes after a request's end is the next one's. */
static inline void *server_serve(void *argument) {
    ServerConnection *connection = argument;
    Server *server = connection->server;
    char *buffer = calloc(SERVER_REQUEST_MOST + 1, 1);
    size_t held = 0;
    for (bool go_on = buffer != NULL; go_on;) {
        char *end;
        while (go_on && !(end = strstr(buffer, "\r\n\r\n")))
            go_on = server_receive(server, connection->socket, buffer, &held);
        if (!go_on) break;
        ServerRequest request = {.socket = connection->socket, .body = end + 4, .stop = &server->stop};
        end[2] = '\0';
        server_parse(&request, buffer);
        size_t whole = (size_t)(end + 4 - buffer) + request.body_bytes;
        if (whole > SERVER_REQUEST_MOST) break;
        while (go_on && held < whole) go_on = server_receive(server, connection->socket, buffer, &held);
        char after = buffer[whole];
        buffer[whole] = '\0';
        go_on = go_on && server->answer(server->context, &request);
        buffer[whole] = after;
        memmove(buffer, buffer + whole, held - whole + 1);
        held -= whole;
    }
    free(buffer);
    close(connection->socket);
    free(connection);
    atomic_fetch_sub(&server->connections, 1);
    return NULL;
}

static inline void *server_listen(void *argument) {
    Server *server = argument;
    while (!atomic_load(&server->stop)) {
        struct pollfd one = {.fd = server->listener, .events = POLLIN};
        if (poll(&one, 1, 50) <= 0) continue;
        int socket = accept(server->listener, NULL, NULL), yes = 1;
        ServerConnection *connection = malloc(sizeof *connection);
        pthread_t thread;
        if (socket < 0 || !connection) abort();
        setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        *connection = (ServerConnection){server, socket};
        atomic_fetch_add(&server->connections, 1);
        if (pthread_create(&thread, NULL, server_serve, connection) || pthread_detach(thread)) abort();
    }
    return NULL;
}

static inline void server_start(Server *server, ServerAnswer *answer, void *context) {
    *server = (Server){.answer = answer, .context = context};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(server->listener, (struct sockaddr *)&address, length) || listen(server->listener, 128) ||
        getsockname(server->listener, (struct sockaddr *)&address, &length) ||
        pthread_create(&server->thread, NULL, server_listen, server))
        abort();
    server->port = ntohs(address.sin_port);
    setenv("no_proxy", "127.0.0.1", 1); /* whatever the machine's environment says */
}

static inline void server_end(Server *server) {
    atomic_store(&server->stop, true);
    pthread_join(server->thread, NULL);
    while (atomic_load(&server->connections)) usleep(1000);
    close(server->listener);
}

#endif
