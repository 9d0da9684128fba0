"""When the first byte of the destination came to a program's own socket, noted where no Python code can delay it.

Nothing is read and nothing is copied: the kernel counts what a connection has received (TCP_INFO), and wakes us up when
that grows (epoll, edge-triggered). A connection is watched from its SOCKS handshake on until more has come than the
handshake's replies; that is three wake-ups. How late the times are: benchmarks/bench_join.py.

The program may close its socket at any moment, and its number may be another connection's by then. So the near port is
compared before anything is believed, and what is in doubt is given up.

Source: tcp(7), TCP_INFO; epoll(7), "Will closing a file descriptor cause it to be removed from all epoll interest lists?"
"""

cimport cython
from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from posix.unistd cimport close, write

from clew._hot.clock cimport wall_ns


cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t
    cdef struct sockaddr:
        unsigned short sa_family
    cdef struct sockaddr_storage:
        unsigned short ss_family
    int AF_INET
    int AF_INET6
    int getsockname(int fd, sockaddr* address, socklen_t* size)
    int getsockopt(int fd, int level, int option, void* value, socklen_t* size)


cdef extern from "<netinet/in.h>" nogil:
    int IPPROTO_TCP
    cdef struct sockaddr_in:
        uint16_t sin_port
    cdef struct sockaddr_in6:
        uint16_t sin6_port
    uint16_t ntohs(uint16_t port)


cdef extern from "<linux/tcp.h>" nogil:
    cdef struct tcp_info:
        unsigned char tcpi_state
        uint64_t tcpi_bytes_received
    int TCP_INFO


cdef extern from "<stddef.h>" nogil:
    """
    #define CLEW_BYTES_RECEIVED_END \
        (offsetof(struct tcp_info, tcpi_bytes_received) + sizeof(((struct tcp_info *) 0)->tcpi_bytes_received))
    """
    socklen_t CLEW_BYTES_RECEIVED_END


cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        uint64_t u64
    cdef struct epoll_event:
        uint32_t events
        epoll_data_t data
    int EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL
    uint32_t EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLHUP, EPOLLERR, EPOLLET
    int epoll_create1(int flags)
    int epoll_ctl(int epoll, int operation, int fd, epoll_event* event)
    int epoll_wait(int epoll, epoll_event* events, int size, int timeout)


cdef extern from "<sys/eventfd.h>" nogil:
    int EFD_CLOEXEC
    int eventfd(unsigned int value, int flags)


cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t* mutex, const void* attributes)
    int pthread_mutex_destroy(pthread_mutex_t* mutex)
    int pthread_mutex_lock(pthread_mutex_t* mutex)
    int pthread_mutex_unlock(pthread_mutex_t* mutex)


cdef enum:
    EVENTS_AT_ONCE = 64
    # States of a TCP connection in which the other side's end was received (Linux' include/net/tcp_states.h).
    TCP_TIME_WAIT = 6
    TCP_CLOSE = 7
    TCP_CLOSE_WAIT = 8
    TCP_LAST_ACK = 9
    TCP_CLOSING = 11

cdef enum State:
    FREE
    WATCHED
    SEEN
    GIVEN_UP

# In the place of a ticket: the end of `run`.
cdef uint64_t STOP = <uint64_t> -1


cdef struct Watch:
    int fd
    uint16_t port  # of its near end
    State state
    uint32_t generation  # of this place in the table: one that was freed and taken again has another ticket
    uint32_t next_free
    uint64_t handshake_bytes
    int64_t time_ns


cdef bint ask(int fd, tcp_info* info) noexcept nogil:
    """Ask the kernel about a TCP connection; whether it answered."""
    cdef socklen_t size = sizeof(tcp_info)
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &size) == 0 and size >= CLEW_BYTES_RECEIVED_END


cdef int64_t received(int fd) noexcept nogil:
    """Bytes that a TCP connection has received, without its end; -1 if that is not known.

    The kernel counts the end as a byte, and reads the state before it reads the count: the end may come in between. So
    a count is believed if the state that was read after it knows of no end.
    """
    cdef tcp_info first, second
    if not ask(fd, &first) or not ask(fd, &second):
        return -1
    if second.tcpi_state in (TCP_TIME_WAIT, TCP_CLOSE, TCP_CLOSE_WAIT, TCP_LAST_ACK, TCP_CLOSING):
        return <int64_t> second.tcpi_bytes_received - 1
    return <int64_t> first.tcpi_bytes_received


cdef int near_port(int fd) noexcept nogil:
    """The port of a socket's near end; -1 if it has none."""
    cdef sockaddr_storage address
    cdef socklen_t size = sizeof(address)
    if getsockname(fd, <sockaddr*> &address, &size) != 0:
        return -1
    if address.ss_family == AF_INET:
        return ntohs((<sockaddr_in*> &address).sin_port)
    if address.ss_family == AF_INET6:
        return ntohs((<sockaddr_in6*> &address).sin6_port)
    return -1


@cython.final
cdef class FirstBytes:
    """Watches connections for the first byte after their handshakes.

    Args:
        max_watched: at once; further ones are not watched.

    Raises: OSError: the system has no more files.
    Thread: `run` has one of its own, all else is for any.
    """

    cdef Watch* _watches
    cdef uint32_t _size
    cdef uint32_t _first_free  # _size: none
    cdef int _epoll
    cdef int _wake
    cdef pthread_mutex_t _lock  # guards the table
    cdef readonly uint64_t noted  # first bytes so far
    cdef readonly uint64_t wakeups  # of `run` by connections that are watched

    def __cinit__(self, uint32_t max_watched):
        cdef epoll_event event
        cdef uint32_t i
        self._epoll = self._wake = -1
        pthread_mutex_init(&self._lock, NULL)
        self._size = max_watched
        self._watches = <Watch*> calloc(max_watched, sizeof(Watch))
        if self._watches == NULL:
            raise MemoryError
        for i in range(max_watched):
            self._watches[i].next_free = i + 1
        self._epoll = epoll_create1(EPOLL_CLOEXEC)
        self._wake = eventfd(0, EFD_CLOEXEC)
        event.events = EPOLLIN
        event.data.u64 = STOP
        if self._epoll < 0 or self._wake < 0 or epoll_ctl(self._epoll, EPOLL_CTL_ADD, self._wake, &event) != 0:
            raise OSError(errno, "no file for watching connections")

    def __dealloc__(self):
        if self._wake >= 0:
            close(self._wake)
        if self._epoll >= 0:
            close(self._epoll)
        free(self._watches)
        pthread_mutex_destroy(&self._lock)

    def watch(self, int fd, uint16_t port, dict handshakes):
        """Begin to watch a connection.

        Args:
            fd: of a socket; if it was closed in the meantime, and is another connection's by now, the port tells.
            port: of its near end.
            handshakes: bytes that it may have received by now, and how many it will have received before the
                destination's first byte. If it has received another number of bytes it is not watched.

        Returns: a ticket, to be given to `take` once; None if it is not watched.
        """
        cdef epoll_event event
        cdef Watch* watch
        cdef uint32_t index
        cdef bint is_watched = False
        # As long as the interpreter is held, the program closes nothing.
        handshake_bytes = handshakes.get(received(fd)) if near_port(fd) == port else None
        if handshake_bytes is None:
            return None
        pthread_mutex_lock(&self._lock)
        index = self._first_free
        if index < self._size:
            watch = &self._watches[index]
            # Writable too, which it is as good as always: of readable alone we are not told where the program has read
            # before we get to run, because epoll looks again before it tells.
            event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET
            event.data.u64 = (<uint64_t> watch.generation << 32) | index
            # Whoever it wakes up waits for the lock.
            is_watched = epoll_ctl(self._epoll, EPOLL_CTL_ADD, fd, &event) == 0
            if is_watched:
                watch.fd = fd
                watch.port = port
                watch.handshake_bytes = handshake_bytes
                watch.state = WATCHED
                self._first_free = watch.next_free
        pthread_mutex_unlock(&self._lock)
        return event.data.u64 if is_watched else None

    def take(self, uint64_t ticket):
        """End watching a connection.

        Returns: when its first byte came, in wall-clock nanoseconds; None if none did, or it was not seen.
        """
        cdef uint32_t index = <uint32_t> ticket
        cdef Watch* watch
        cdef int64_t time_ns = 0
        pthread_mutex_lock(&self._lock)
        if index < self._size:
            watch = &self._watches[index]
            if watch.state != FREE and watch.generation == ticket >> 32:
                if watch.state == SEEN:
                    time_ns = watch.time_ns
                elif watch.state == WATCHED:
                    self._leave(watch, GIVEN_UP)
                watch.state = FREE
                watch.generation += 1
                watch.next_free = self._first_free
                self._first_free = index
        pthread_mutex_unlock(&self._lock)
        return time_ns if time_ns else None

    def run(self):
        """Note first bytes until `stop` is called.

        Thread: one of its own; blocks without the interpreter.
        """
        with nogil:
            while self._wait():
                pass

    def stop(self):
        """End `run`, now or as soon as it begins."""
        cdef uint64_t one = 1
        write(self._wake, &one, sizeof(one))

    cdef bint _wait(self) noexcept nogil:
        """Wait until something has come somewhere; whether to go on."""
        cdef epoll_event events[EVENTS_AT_ONCE]
        cdef int count = epoll_wait(self._epoll, events, EVENTS_AT_ONCE, -1)
        cdef int64_t time_ns = wall_ns()  # before anything else: this is when it came
        cdef int i
        if count < 0:
            return errno == EINTR
        for i in range(count):
            if events[i].data.u64 == STOP:
                return False
            self._look(events[i].data.u64, events[i].events, time_ns)
        return True

    cdef void _look(self, uint64_t ticket, uint32_t events, int64_t time_ns) noexcept nogil:
        cdef Watch* watch = &self._watches[<uint32_t> ticket]
        pthread_mutex_lock(&self._lock)
        self.wakeups += 1
        if watch.state == WATCHED and watch.generation == ticket >> 32:
            if near_port(watch.fd) != watch.port:
                watch.state = GIVEN_UP  # closed; and if the number is another's by now, that one is not to be touched
            elif received(watch.fd) > <int64_t> watch.handshake_bytes:
                watch.time_ns = time_ns
                self.noted += 1
                self._leave(watch, SEEN)
            elif events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR):
                self._leave(watch, GIVEN_UP)
        pthread_mutex_unlock(&self._lock)

    cdef void _leave(self, Watch* watch, State state) noexcept nogil:
        """With the lock: be woken up by it no more."""
        cdef epoll_event unused
        if near_port(watch.fd) == watch.port:
            epoll_ctl(self._epoll, EPOLL_CTL_DEL, watch.fd, &unused)
        watch.state = state
