"""A socket's bytes and when they came, noted where no Python code can delay it.

A Python thread that returns from `recv` has to wait for the interpreter before it can look at a clock, and while it
waits it receives nothing. Behind one other thread that computes, its times are late by 5 ms at the median and by 50 ms
now and then (benchmarks/bench_control.py). `Receiver.run` is the body of a thread that needs the interpreter only to
begin and to end.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from clew._hot.clock cimport wall_ns


cdef extern from "<sys/socket.h>" nogil:
    ssize_t recv(int fd, void* buffer, size_t size, int flags)
    int setsockopt(int fd, int level, int option, const void* value, unsigned int size)


cdef extern from "<netinet/in.h>" nogil:
    int IPPROTO_TCP


cdef extern from "<netinet/tcp.h>" nogil:
    int TCP_QUICKACK


cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    int pthread_mutex_init(pthread_mutex_t* mutex, const void* attributes)
    int pthread_mutex_destroy(pthread_mutex_t* mutex)
    int pthread_mutex_lock(pthread_mutex_t* mutex)
    int pthread_mutex_unlock(pthread_mutex_t* mutex)
    int pthread_cond_init(pthread_cond_t* condition, const void* attributes)
    int pthread_cond_destroy(pthread_cond_t* condition)
    int pthread_cond_wait(pthread_cond_t* condition, pthread_mutex_t* mutex)
    int pthread_cond_broadcast(pthread_cond_t* condition)


cdef enum:
    RECEIVE_BYTES = 65536


cdef struct Chunk:
    Chunk* next
    int64_t time_ns
    size_t size
    # the bytes follow


@cython.final
cdef class Receiver:
    """Takes what a socket receives, with the wall-clock time of each piece, until `take` asks for it.

    Args:
        fd: of a connected socket in blocking mode, which stays open until `run` has returned.
        max_bytes: that wait for `take`; past them nothing is received, and the other side has to wait.
    """

    cdef int _fd
    cdef size_t _max_bytes
    cdef pthread_mutex_t _lock  # guards all below
    cdef pthread_cond_t _changed
    cdef Chunk* _first
    cdef Chunk* _last
    cdef size_t _bytes
    cdef bint _ended

    def __cinit__(self, int fd, size_t max_bytes):
        self._fd = fd
        self._max_bytes = max_bytes
        self._first = self._last = NULL
        self._bytes = 0
        self._ended = False
        pthread_mutex_init(&self._lock, NULL)
        pthread_cond_init(&self._changed, NULL)

    def __dealloc__(self):
        cdef Chunk* chunk = self._first
        while chunk != NULL:
            self._first = chunk.next
            free(chunk)
            chunk = self._first
        pthread_cond_destroy(&self._changed)
        pthread_mutex_destroy(&self._lock)

    def run(self):
        """Receive until the connection is over, however it ends, or `stop` is called.

        Thread: one of its own; blocks without the interpreter. To wake it, shut the socket down.
        """
        cdef char* buffer = <char*> malloc(RECEIVE_BYTES)
        if buffer == NULL:
            self.stop()
            raise MemoryError
        with nogil:
            while self._receive(buffer):
                pass
        free(buffer)
        self.stop()

    def take(self):
        """The next piece and when it came, in wall-clock nanoseconds; None if nothing will come any more.

        Thread: one, another than `run`'s; blocks without the interpreter.
        """
        cdef Chunk* chunk
        with nogil:
            pthread_mutex_lock(&self._lock)
            while self._first == NULL and not self._ended:
                pthread_cond_wait(&self._changed, &self._lock)
            chunk = self._first
            if chunk != NULL:
                self._first = chunk.next
                if self._first == NULL:
                    self._last = NULL
                self._bytes -= chunk.size
                pthread_cond_broadcast(&self._changed)
            pthread_mutex_unlock(&self._lock)
        if chunk == NULL:
            return None
        try:
            return PyBytes_FromStringAndSize(<char*> (chunk + 1), chunk.size), chunk.time_ns
        finally:
            free(chunk)

    def stop(self):
        """Receive no more; what was received can still be taken. Any thread."""
        pthread_mutex_lock(&self._lock)
        self._ended = True
        pthread_cond_broadcast(&self._changed)
        pthread_mutex_unlock(&self._lock)

    cdef bint _receive(self, char* buffer) noexcept nogil:
        """Receive one piece; whether there is more to come."""
        cdef Chunk* chunk
        cdef ssize_t count = recv(self._fd, buffer, RECEIVE_BYTES, 0)
        cdef int64_t time_ns = wall_ns()  # before anything else: this is when it came
        cdef int on = 1
        if count <= 0:
            return count < 0 and errno == EINTR
        # A peer without TCP_NODELAY, as tor is, holds back a small packet until the one before is acknowledged; the
        # kernel delays that by 40 ms unless it is told not to, again each time. (Unix sockets refuse it.)
        setsockopt(self._fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on))
        chunk = <Chunk*> malloc(sizeof(Chunk) + <size_t> count)
        if chunk == NULL:
            return False
        chunk.next = NULL
        chunk.time_ns = time_ns
        chunk.size = count
        memcpy(chunk + 1, buffer, count)
        pthread_mutex_lock(&self._lock)
        while self._bytes >= self._max_bytes and not self._ended:
            pthread_cond_wait(&self._changed, &self._lock)
        if self._ended:
            pthread_mutex_unlock(&self._lock)
            free(chunk)
            return False
        if self._last == NULL:
            self._first = chunk
        else:
            self._last.next = chunk
        self._last = chunk
        self._bytes += chunk.size
        pthread_cond_broadcast(&self._changed)
        pthread_mutex_unlock(&self._lock)
        return True
