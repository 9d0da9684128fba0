"""Trace files and what others do to them: scenarios 24 to 26 of the reliability table, and the first line of security.

In each program no line is damaged, no span is there twice, and the ledgers say how many there are.
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults.conftest import LIMIT_SECONDS, judge, start
from tests.faults.test_environments import GEVENT

if TYPE_CHECKING:
    from tests.faults.conftest import Run, Strace

# How often writers are killed: more, when somebody asks for it.
ROUNDS = int(os.environ.get("CLEW_KILL_ROUNDS", "15"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """For trace files."""
    folder = tmp_path / "traces"
    folder.mkdir()
    return folder


def count_spans(run: Run, folder: Path) -> int:
    """How many spans are in the files of a folder, all of them whole."""
    return int(run("print(len(found(sys.argv[1])))", folder))


# --- what takes its place --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["link", "dangling link", "pipe", "folder", "socket"])
def test_what_takes_the_place_of_the_file(run: Run, folder: Path, what: str) -> None:
    """Security 1: nothing is written through it, nobody waits for it, and the spans are counted as failed."""
    run(
        """
        import socket, stat
        log = quiet()
        folder, what = sys.argv[1:]
        path, target = Path(folder, "traces.jsonl"), Path(folder, "..", "target")
        tracer = Tracer("test", FileExporter(path))
        make(tracer, 2)
        assert tracer.flush(20)
        os.rename(path, path.with_suffix(".1"))
        if what == "link":
            target.write_bytes(b'{"torn')
        unix = socket.socket(socket.AF_UNIX)
        {
            "link": lambda: path.symlink_to(target),
            "dangling link": lambda: path.symlink_to(target),
            "pipe": lambda: os.mkfifo(path),
            "folder": path.mkdir,
            "socket": lambda: unix.bind(os.path.relpath(path)),
        }[what]()
        unix.close()
        before = os.lstat(path)
        for _ in range(3):
            make(tracer, 3)
            assert not tracer.flush(20)
        try:
            FileExporter(path)
        except ConfigurationError:
            pass
        else:
            raise AssertionError("it was opened")
        assert os.path.samestat(os.lstat(path), before)
        if what == "folder":
            path.rmdir()
        else:
            path.unlink()
        if what == "link":
            assert target.read_bytes() == b'{"torn'
        assert target.exists() == (what == "link")
        make(tracer, 4)
        assert tracer.flush(20)
        stats = balance(tracer, folder)
        assert (stats.exported, stats.failed) == (6, 9), stats
        assert log.getvalue().count("could not deliver") == 1, log.getvalue()
        """,
        folder,
        what,
    )


def test_a_folder_that_goes_away(run: Run, folder: Path) -> None:
    """It is made again, for its owner only; where that cannot be, spans are counted as failed until it is back."""
    run(
        """
        import shutil, stat
        quiet()
        folder = sys.argv[1] + "/in/folder"
        os.mkdir(sys.argv[1] + "/in")
        tracer = Tracer("test", FileExporter(folder + "/traces.jsonl", max_bytes=2000, compress=True))
        make(tracer, 2)
        assert tracer.flush(20)
        shutil.rmtree(folder)
        make(tracer, 3)
        assert tracer.flush(20)
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        assert len(found(folder)) == 3
        shutil.rmtree(sys.argv[1] + "/in")
        make(tracer, 4)
        assert not tracer.flush(20)
        Path(sys.argv[1], "in").write_text("a file")
        make(tracer, 5)
        assert not tracer.flush(20)
        os.unlink(sys.argv[1] + "/in")
        os.mkdir(sys.argv[1] + "/in")
        make(tracer, 6)
        assert tracer.flush(20)
        assert len(found(folder)) == 6
        stats = tracer.stats()
        assert (stats.exported, stats.failed, stats.queued) == (11, 9, 0), stats
        """,
        folder,
    )


@pytest.mark.parametrize("what", ["link", "pipe", "folder"])
def test_what_takes_the_place_of_a_file_that_was_put_aside(run: Run, folder: Path, what: str) -> None:
    """Security 1: no link is followed to be compressed or written to, and no pipe is waited for."""
    run(
        """
        log = quiet()
        folder, what = sys.argv[1:]
        target = Path(folder, "..", "target")
        target.write_bytes(b"secret" * 100)
        planted = Path(folder, "traces.2026-01-31T03-00-00.123456Z.jsonl")
        temporary = Path(folder, "traces.2026-01-31T03-00-00.123457Z.jsonl.gz.tmp")
        make_it = {"link": lambda path: path.symlink_to(target), "pipe": os.mkfifo, "folder": Path.mkdir}[what]
        make_it(planted)
        with Tracer("test", FileExporter(str(temporary).removesuffix(".gz.tmp"))) as tracer:
            make(tracer, 5)
        if what != "folder":
            make_it(temporary)
        exporter = FileExporter(folder + "/traces.jsonl", max_bytes=1, compress=True)
        with Tracer("test", exporter) as tracer:
            for _ in range(3):
                make(tracer, 1)
                assert tracer.flush(20)
                exporter._file._rotation.wait(20)
        assert target.read_bytes() == b"secret" * 100
        assert b"secret" * 100 not in b"".join(each.read_bytes() for each in Path(folder).iterdir() if each.is_file()
            and not each.is_symlink())
        assert os.path.lexists(planted) and not os.path.lexists(temporary)
        planted.rmdir() if what == "folder" else planted.unlink()
        assert sorted(found(folder)) == ["span"] * 8
        assert sum(name.endswith(".gz") for name in os.listdir(folder)) == 3, os.listdir(folder)
        assert "but" in log.getvalue(), log.getvalue()
        """,
        folder,
        what,
    )


# --- who may read them -----------------------------------------------------------------------------------------------


@pytest.mark.strace
@pytest.mark.parametrize("umask", [0, 0o077])
def test_private_from_the_first_moment(strace: Strace, tmp_path: Path, umask: int) -> None:
    """Security 1: each file is made with 0600 and its folder with 0700, and none is opened through a link."""
    folder = tmp_path / "traces"
    _, log = strace(
        """
        os.umask(int(sys.argv[2]))
        exporter = FileExporter(sys.argv[1] + "/traces.jsonl", max_bytes=1, compress=True, keep=2, fsync="batch")
        tracer = Tracer("test", exporter)
        for _ in range(4):
            make(tracer, 1)
            assert tracer.flush(20)
            exporter._file._rotation.wait(20)
        tracer.close(20)
        """,
        folder,
        umask,
        paths=(),
        trace="open,openat,openat2,creat,mkdir,mkdirat,chmod,fchmod,fchmodat",
    )
    log = [line for line in log if f'"{folder}' in line]
    opened = [line for line in log if "O_DIRECTORY" not in line and not line.startswith("mkdir")]
    assert all("O_NOFOLLOW" in line for line in opened)
    created = [line for line in opened if "O_CREAT" in line]
    assert all(", 0600) = " in line for line in created)
    assert [line for line in log if line.startswith("mkdir") and line.endswith("= 0")] == [
        f'mkdir("{folder}", 0700) = 0'
    ]
    assert not [line for line in log if "chmod" in line], "it was something else before"
    assert sum(".gz.tmp" in line for line in created) == 3
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()} == {0o600}
    assert len(list(folder.iterdir())) == 3


# --- others who move it ----------------------------------------------------------------------------------------------

WRITER = """
folder, more = sys.argv[1], eval(sys.argv[2])
tracer = Tracer("test", FileExporter(folder + "/traces.jsonl", **more), batch_spans=5)
def work(name):
    for number in range(40):
        make(tracer, 5, f"{name}-{number}" + "x" * (number % 7) * 999)
        assert tracer.flush(20), tracer.stats()
    stats = tracer.stats()
    assert stats.exported == stats.started == 200, stats
    os.write(1, b"200\\n")
def child():
    work("child")
    assert tracer.close(20)  # it would leave in the middle of compressing a file
children = [fork(child) for _ in range(2)]
work("parent")
join(*children)
assert tracer.close(20)
"""


def start_writers(folder: Path, more: dict[str, object]) -> list[subprocess.Popen[str]]:
    return [start(WRITER, folder, more) for _ in range(2)]


def totals(writers: list[subprocess.Popen[str]]) -> int:
    """What their ledgers and their children's say, together."""
    return sum(sum(map(int, judge(writer).split())) for writer in writers)


@pytest.mark.parametrize(
    "more",
    [{}, {"max_bytes": 30_000}, {"max_bytes": 30_000, "compress": True}, {"fsync": "batch", "max_bytes": 90_000}],
)
def test_several_processes_and_their_children(run: Run, folder: Path, more: dict[str, object]) -> None:
    """All on one path, forked and not, whoever puts it aside: no line damaged, none lost, none twice."""
    assert totals(start_writers(folder, more)) == 2 * 3 * 200 == count_spans(run, folder)
    assert not list(folder.glob("*.tmp"))
    assert (len(list(folder.iterdir())) > 3) == ("max_bytes" in more)


def test_a_stranger_who_renames_the_file(run: Run, folder: Path) -> None:
    """As logrotate does, while several processes write: none lost, none damaged, also where it makes the new file."""
    path = folder / "traces.jsonl"
    writers = start_writers(folder, {})
    number = 0
    while any(writer.poll() is None for writer in writers):
        if path.exists() and path.stat().st_size:
            path.rename(folder / f"old.{number}.jsonl")
            if number % 2:
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
            number += 1
        time.sleep(0.002)
    assert totals(writers) == 2 * 3 * 200 == count_spans(run, folder)
    assert number > 3


def test_a_stranger_who_empties_the_file(run: Run, folder: Path) -> None:
    """As logrotate's copytruncate does: what is in the file after it is whole; no ledger counts a failure."""
    path = folder / "traces.jsonl"
    writers = start_writers(folder, {"max_age": 1000})
    number = 0
    while any(writer.poll() is None for writer in writers):
        if path.exists() and path.stat().st_size:
            os.truncate(path, 0)
            number += 1
        time.sleep(0.002)
    assert totals(writers) == 2 * 3 * 200
    assert number > 3
    out = run(
        """
        with Tracer("test", FileExporter(sys.argv[1])) as tracer:
            make(tracer, 3, "last")
        lines = [line for line in Path(sys.argv[1]).read_bytes().splitlines() if line]
        from clew.otlp import decode_json
        print([record.name for line in lines for record in decode_json(line)].count("last"))
        """,
        path,
    )
    assert out == "3\n"


@pytest.mark.parametrize("order", ["patched first", "patched later"])
def test_a_file_under_gevent(run: Run, folder: Path, order: str) -> None:
    """What was put aside is compressed, and the file synced, though the worker never yields to a greenlet."""
    run(
        GEVENT
        + """
folder = sys.argv[2]
exporter = FileExporter(folder + "/traces.jsonl", max_bytes=1, compress=True, fsync="interval")
tracer = Tracer("test", exporter)
for _ in range(3):
    make(tracer, 1)
    assert tracer.flush(20)
while exporter._file._unsynced or sum(name.endswith(".jsonl.gz") for name in os.listdir(folder)) < 2:
    gevent.sleep(0.001)
assert tracer.close(20)
balance(tracer, folder)
""",
        order,
        folder,
    )


# --- writers that are killed -----------------------------------------------------------------------------------------


@pytest.mark.timeout(60 + 2 * ROUNDS)
def test_kill_at_any_moment(run: Run, folder: Path) -> None:
    """Scenario 26: two writers that also rotate and compress, killed again and again; what flush called delivered is
    there, every line is whole, and nothing half compressed stays."""
    run(
        """
        from random import Random
        folder, rounds, rng = sys.argv[1], int(sys.argv[2]), Random()
        more = {"max_bytes": 600_000, "compress": True}
        def victim(writing):
            tracer = Tracer("test", FileExporter(folder + "/traces.jsonl", **more), batch_spans=8)
            number = 0
            while True:
                name = f"{os.getpid()}-{number}-"
                make(tracer, 8, name + "x" * Random(number).choice((100, 3000, 60_000)))
                assert tracer.flush(20)
                os.write(writing, name.encode() + b" ")
                number += 1
        delivered = set()
        for round in range(rounds):
            victims = []
            for _ in range(2):
                reading, writing = os.pipe()
                victims.append((fork(lambda: victim(writing)), reading))
                os.close(writing)
            for pid, reading in rng.sample(victims, 2):
                begin = os.read(reading, 1 << 16) if round % 2 else b""  # at once, or when it has delivered something
                time.sleep(rng.random() * 0.04)
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                with open(reading, "rb") as file:
                    delivered.update((begin + file.read()).decode().split())
        # A new start mends what the last ones left behind.
        exporter = FileExporter(folder + "/traces.jsonl", **{**more, "max_bytes": 1})
        with Tracer("test", exporter) as tracer:
            for _ in range(2):
                make(tracer, 1, "0-0-")
                assert tracer.flush(20)
            exporter._file._rotation.wait(50)
        names = found(folder)
        assert not [name for name in os.listdir(folder) if name.endswith(".tmp")]
        whole = {name.rstrip("x") for name in names}
        assert delivered <= whole, delivered - whole
        assert len(delivered) >= rounds // 2
        """,
        folder,
        ROUNDS,
    )


def test_a_reader_that_comes_in_the_middle_of_a_line(folder: Path) -> None:
    """Scenario 26: `clew view -f` waits for its rest; one that is cut off and begun anew is read once, whole."""
    path = folder / "traces.jsonl"
    write = "with Tracer('test', FileExporter(sys.argv[1])) as tracer: make(tracer, 1, sys.argv[2])"
    judge(start(write, path, "first"))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:-5])  # of a writer that was killed
    command = [str(Path(sys.executable).with_name("clew")), "view", "-f", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as view:
        assert view.stdout is not None
        try:
            seen = read_until(view, "first")
            judge(start(write, path, "second" + "x" * 40))
            seen += read_until(view, "second")
            judge(start(write, path, "third"))
            seen += read_until(view, "third")
        finally:
            view.send_signal(signal.SIGINT)
            out, err = view.communicate(timeout=LIMIT_SECONDS)
    assert [(seen + out).count(f"━━ {name}") for name in ("first", "second", "third")] == [1, 1, 1]

    assert "line" not in err
    assert "truncated" not in err


def read_until(process: subprocess.Popen[str], word: str) -> str:
    assert process.stdout is not None
    seen = ""
    while word not in seen:
        line = process.stdout.readline()
        assert line, seen
        seen += line
    return seen


# --- writers that wait -----------------------------------------------------------------------------------------------

PIPE = """
import array, fcntl, termios
from clew.otlp import decode_json
def pipe_fill(descriptor):
    count = array.array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, count)
    return count[0]
path = sys.argv[1] + "/pipe"
os.mkfifo(path)
reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
writer = open(path, "wb", buffering=0)
size = fcntl.fcntl(reading, fcntl.F_GETPIPE_SZ)
def stuck():
    while pipe_fill(reading) < size:
        time.sleep(0.001)
def drain(done):
    os.set_blocking(reading, True)
    data = b""
    while not done() or pipe_fill(reading):
        if pipe_fill(reading):
            data += os.read(reading, 1 << 20)
    return [record.name.rstrip("x") for line in data.splitlines() for record in decode_json(line)]
"""


def test_spans_end_while_the_exporter_is_stuck(run: Run, folder: Path) -> None:
    """Scenario 13: a pipe that nobody reads is full, no batch is delivered, and spans go on ending; then all arrive."""
    run(
        PIPE
        + """
tracer = Tracer("test", WriterExporter(writer))
make(tracer, 10, "x" * 100_000)
tracer.flush(0)
stuck()
for count in range(4010, 20_011, 4000):
    make(tracer, 4000)
    stats = tracer.stats()
    assert (stats.ended, stats.exported, stats.failed) == (count, 0, 0), stats
    assert pipe_fill(reading) == size
assert len(drain(lambda: tracer.flush(0))) == tracer.stats().exported == 20_010
writer.close()
""",
        folder,
    )


def test_a_dump_by_a_signal_while_a_dump_is_written(run: Run, folder: Path) -> None:
    """The flight recorder's: whatever the worker is at, what had ended when the signal came arrives, once."""
    run(
        PIPE
        + """
recorder = FlightRecorder(WriterExporter(writer))
tracer = Tracer("test", recorder, batch_spans=10)
signal.signal(signal.SIGUSR2, lambda *_: recorder.dump())
make(tracer, 10, "first" + "x" * 100_000)
os.kill(os.getpid(), signal.SIGUSR2)
stuck()
for number in range(20):
    make(tracer, 50, "second")
    os.kill(os.getpid(), signal.SIGUSR2)
make(tracer, 100, "third")
names = drain(lambda: tracer.flush(0))
assert names == ["first"] * 10 + ["second"] * 1000, len(names)
stats = tracer.stats()
assert (stats.exported, stats.queued, stats.failed) == (1010, 100, 0), stats
writer.close()
""",
        folder,
    )


@pytest.mark.parametrize("worker", [True, False])
def test_another_process_that_was_stopped_with_the_lock(run: Run, folder: Path, worker: bool) -> None:
    """Spans end, flush returns, and the program ends in time; what waits is written as soon as the other goes on."""
    out = run(
        """
        import fcntl, logging
        path = sys.argv[1] + "/traces.jsonl"
        reading, writing = os.pipe()
        if (pid := os.fork()) == 0:
            for descriptor in (0, 1, 2):
                os.close(descriptor)
            fcntl.flock(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), fcntl.LOCK_EX)
            os.write(writing, b"locked")
            os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(1000)
        os.read(reading, 6)
        print(pid)
        logging.getLogger("clew").addHandler(logging.StreamHandler(sys.stdout))
        tracer = Tracer("test", FileExporter(path), batch_spans=1, close_timeout=float(sys.argv[3]))
        if sys.argv[2] == "True":
            make(tracer, 1000)
            assert not tracer.flush(0.05)
            assert (tracer.stats().ended, tracer.stats().exported) == (1000, 0)
        else:
            span = tracer.start_span("open")  # there is no worker before the end
        """,
        folder,
        worker,
        0.3 if worker else 2.0,
    )
    pid, *log = out.splitlines()
    os.kill(int(pid), signal.SIGKILL)
    if not worker:
        assert len(log) == 1
        assert "another process keeps it locked" in log[0]
