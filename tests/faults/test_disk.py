"""Disks that are full, or fail: scenarios 25 and 27 of the reliability table.

The disks are small ones (a tmpfs that no other process sees), and good ones whose system calls strace has fail. In each
program the ledger must balance, and say as many spans as there are in the files, no line of which is damaged.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.conftest import SmallDisk, Strace


# --- full ------------------------------------------------------------------------------------------------------------


def test_a_full_disk(small_disk: SmallDisk) -> None:
    """Scenario 25: pieces are cut off, spans counted as failed; what comes when there is room again is whole."""
    small_disk(
        """
        log = quiet()
        folder = sys.argv[1]
        other = Path(folder, "other.gz")  # somebody else's
        other.write_bytes(__import__("gzip").compress(b"", 0) + bytes(120_000))
        tracer = Tracer("test", FileExporter(folder + "/traces.jsonl"), batch_spans=7)
        for round in range(3):
            while not tracer.stats().failed > 50 * round:
                make(tracer, 50, "x" * 321)
                tracer.flush(20)
            balance(tracer, folder)
            os.truncate(other, other.stat().st_size - 40_000)
            make(tracer, 7, f"room {round}")
            assert tracer.flush(20)
        stats = balance(tracer, folder)
        assert stats.failed > 100, stats
        assert [found(folder).count(f"room {round}") for round in range(3)] == [7] * 3
        assert "No space left on device" in log.getvalue()
        assert log.getvalue().count("\\n") == 1, "one sentence a minute is enough"
        """,
        size="256k",
    )


def test_a_disk_that_fills_while_it_rotates_and_compresses(small_disk: SmallDisk) -> None:
    """Scenario 25: nothing half compressed is left, and every file is whole."""
    small_disk(
        """
        log = quiet()
        folder = sys.argv[1]
        exporter = FileExporter(folder + "/traces.jsonl", max_bytes=20_000, compress=True, fsync="batch")
        tracer = Tracer("test", exporter, batch_spans=20)
        rng = __import__("random").Random(1)
        while tracer.stats().failed < 300:
            for _ in range(20):
                with tracer.start_span("a") as span:
                    span.set_attribute("noise", rng.randbytes(100).hex())
            tracer.flush(20)
            exporter._file._rotation.wait(20)
        tracer.close(20)
        stats = balance(tracer, folder)
        names = os.listdir(folder)
        assert sum(name.endswith(".jsonl.gz") for name in names) > 3, names
        assert all(name.endswith((".jsonl", ".jsonl.gz")) for name in names), names
        assert "No space left" in log.getvalue()
        """,
        size="200k",
    )


@pytest.mark.parametrize("mode", ["raw", "buffered", "text", "stdout"])
def test_somebody_elses_file_on_a_full_disk(small_disk: SmallDisk, mode: str) -> None:
    """Scenario 25: what cannot be cut off there costs no other line: what comes when there is room is whole."""
    small_disk(
        """
        from clew.otlp import decode_json
        quiet()
        folder, mode = sys.argv[1:]
        path, filler = folder + "/traces.jsonl", Path(folder, "filler")
        filler.write_bytes(bytes(40_000))
        stdout = os.dup(1)
        if mode == "stdout":
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
            exporter = StdoutExporter()
        else:
            file = {
                "raw": lambda: open(path, "ab", buffering=0),
                "buffered": lambda: open(path, "ab"),
                "text": lambda: open(path, "a"),
            }[mode]()
            exporter = WriterExporter(file)
        tracer = Tracer("test", exporter, batch_spans=7)
        while tracer.stats().failed < 20:
            make(tracer, 7, "x" * 321)
            tracer.flush(20)
        filler.unlink()
        for _ in range(5):
            make(tracer, 1, "room")
            assert tracer.flush(20)
        names, damaged = [], 0
        for line in Path(path).read_bytes().splitlines():  # as any reader does; clew's own finds more
            try:
                names += [record.name for record in decode_json(line)] if line else []
            except DecodeError:
                damaged += 1
        assert names.count("room") == 5, names
        assert len(names) >= tracer.stats().exported, (len(names), tracer.stats())
        assert damaged <= 3, damaged
        tracer.close(20)
        if mode != "stdout":
            file.close()
        """,
        mode,
        size="100k",
    )


@pytest.mark.parametrize("keeping", ["FlightRecorder", "TailSample"])
def test_what_is_kept_on_a_full_disk(small_disk: SmallDisk, keeping: str) -> None:
    """Nothing is lost without a word: what was kept and did not fit is failed, the rest is not kept."""
    small_disk(
        """
        quiet()
        folder = sys.argv[1]
        exporter, sampler = FileExporter(folder + "/traces.jsonl"), None
        if sys.argv[2] == "FlightRecorder":
            exporter = FlightRecorder(exporter, max_bytes=30_000)
        else:
            sampler = TailSample(probability=0.5)
        tracer = Tracer("test", exporter, sampler, batch_spans=10)
        for number in range(60):
            with tracer.start_span(f"root {number}", parent=None):
                make(tracer, 29, "x" * 100)
            if number % 5 == 0 and sys.argv[2] == "FlightRecorder":
                exporter.dump()
            tracer.flush(20)
            balance(tracer, folder)
        tracer.close(20)
        stats = balance(tracer, folder)
        assert stats.queued == 0
        assert min(stats.exported, stats.failed, stats.dropped["not_kept"]) > 100, stats
        """,
        keeping,
        size="100k",
    )


def test_a_temporary_file_that_does_not_fit(small_disk: SmallDisk) -> None:
    """What is read from a pipe is copied to a temporary file; where there is no room, one sentence says so."""
    small_disk(
        """
        import subprocess
        code = "import sys; from clew.cli.main import main; sys.exit(main(['view', '-']))"
        line = b'{"resourceSpans":[]}\\n'
        environment = {**os.environ, "TMPDIR": sys.argv[1]}
        done = subprocess.run([sys.executable, "-W", "error", "-c", code], input=line * 20_000, env=environment,
            capture_output=True)
        assert (done.returncode, done.stdout) == (1, b""), done
        sentence = f"clew: -: No space left on device, for the copy of it in {sys.argv[1]}\\n"
        assert done.stderr.decode() == sentence, done
        assert os.listdir(sys.argv[1]) == []
        """,
        size="64k",
    )


# --- failing ---------------------------------------------------------------------------------------------------------

# Ten batches of ten spans, each flushed; a new file before each second batch or so. What cannot be written fails, whole
# batches at a time.
PROGRAM = """
log = quiet()
folder = sys.argv[1]
more = eval(sys.argv[2])
tracer = Tracer("test", FileExporter(folder + "/traces.jsonl", **more), batch_spans=10)
for _ in range(10):
    make(tracer, 10)
    tracer.flush(20)
told = log.getvalue()
tracer.close(20)
stats = balance(tracer, folder + "/../traces")  # by another name, so that this is not made to fail
assert stats.failed % 10 == 0
print(stats.failed)
print(told)
"""
ROTATED = {"max_bytes": 4000, "compress": True, "fsync": "batch"}


@pytest.mark.strace
@pytest.mark.parametrize(
    ("inject", "arguments", "failed", "words"),
    [
        ("write:error=ENOSPC:when=2+3", {}, 30, "No space left on device"),
        ("write:error=EIO:when=2+3", {"fsync": "batch"}, 30, "Input/output error"),
        ("write:error=EDQUOT:when=10", {}, 10, "Disk quota exceeded"),
        ("write:error=EINTR:when=1+2", {}, 0, ""),
        ("write:retval=0:when=3", {}, 10, "nothing can be written"),
        ("write:delay_exit=10000", {}, 0, ""),
        ("fdatasync:error=EIO:when=2+3", {"fsync": "batch"}, 30, "Input/output error"),
        ("fdatasync:error=EINTR:when=1+2", {"fsync": "batch"}, 0, ""),
        ("flock:error=EINTR:when=2+2", {}, 0, ""),
        ("flock:error=ENOLCK", {}, 0, ""),
        ("rename:error=EACCES:when=1", ROTATED, 0, "FileExporter has a problem: ExportError: the spans are in "),
        ("rename:error=ENOSPC:when=1+2", ROTATED, 0, "could not be put aside (No space left on device)"),
        ("openat:error=EMFILE:when=2", ROTATED, 10, "Too many open files"),
    ],
)
def test_calls_that_fail(
    strace: Strace, tmp_path: Path, inject: str, arguments: dict[str, object], failed: int, words: str
) -> None:
    """Scenario 25: what failed is not in the file and counted, what is in the file is whole; the log says why."""
    folder = tmp_path / "traces"
    out, _ = strace(PROGRAM, folder, arguments, paths=(folder / "traces.jsonl",), inject=(inject,))
    counts, log = out.split("\n", 1)
    assert counts == str(failed)
    assert words in log
    assert bool(words) == bool(log.strip())


@pytest.mark.strace
def test_a_folder_that_cannot_be_synced(strace: Strace, tmp_path: Path) -> None:
    """It is said at construction, where it can be mended; later the batch fails. No descriptor is left either way."""
    folder = tmp_path / "traces"
    folder.mkdir()
    strace(
        """
        log = quiet()
        folder = sys.argv[1]
        open_files = len(os.listdir("/proc/self/fd"))
        try:
            FileExporter(folder + "/traces.jsonl", fsync="batch")
        except ConfigurationError as error:
            assert "Input/output error" in str(error), error
        else:
            raise AssertionError("it promised what it cannot keep")
        assert len(os.listdir("/proc/self/fd")) == open_files
        tracer = Tracer("test", FileExporter(folder + "/traces.jsonl", fsync="batch", max_bytes=1))
        for _ in range(4):
            make(tracer, 1)
            tracer.flush(20)
            assert len(os.listdir("/proc/self/fd")) == open_files + 1
        tracer.close(20)
        assert balance(tracer, folder).failed == 1
        """,
        folder,
        paths=(folder,),
        inject=("fsync:error=EIO:when=1",),
    )


@pytest.mark.strace
def test_a_piece_that_cannot_be_cut_off(strace: Strace, tmp_path: Path) -> None:
    """Scenario 25: where a full disk does not even let it be cut, the next batch does, or ends it."""
    folder = tmp_path / "traces"
    strace(
        """
        import resource
        log = quiet()
        folder = sys.argv[1]
        path = Path(folder, "traces.jsonl")
        tracer = Tracer("test", FileExporter(path), batch_spans=10)
        make(tracer, 10)
        assert tracer.flush(20)
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 500, hard))
        make(tracer, 10)
        assert not tracer.flush(20)
        assert not path.read_bytes().endswith(b"\\n")
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        make(tracer, 10)
        assert tracer.flush(20)
        assert balance(tracer, folder).failed == 10
        assert "File too large" in log.getvalue()
        """,
        folder,
        paths=(folder / "traces.jsonl",),
        inject=("ftruncate:error=EIO:when=1",),
    )


@pytest.mark.strace
@pytest.mark.parametrize("call", ["openat", "fsync", "rename", "unlink", "write"])
def test_a_file_that_cannot_be_compressed(strace: Strace, tmp_path: Path, call: str) -> None:
    """It stays as it is, and is there once; the others are compressed. The log says why, stderr does not."""
    folder = tmp_path / "traces"
    folder.mkdir()
    aside = folder / "traces.2026-01-31T03-00-00.123456Z.jsonl"
    packed = aside.with_suffix(".jsonl.gz")
    paths = {"openat": aside, "unlink": aside, "rename": packed.with_suffix(".gz.tmp")}
    strace(
        """
        log = quiet()
        folder, aside = sys.argv[1], Path(sys.argv[2])
        first = Tracer("test", FileExporter(folder + "/first.jsonl"))
        make(first, 5)
        first.close(20)
        os.rename(folder + "/first.jsonl", aside)
        exporter = FileExporter(folder + "/traces.jsonl", max_bytes=1, compress=True)
        tracer = Tracer("test", exporter)
        for _ in range(3):
            make(tracer, 1)
            assert tracer.flush(20)
            exporter._file._rotation.wait(20)
        tracer.close(20)
        assert tracer.stats().exported == 3
        assert len(found(folder + "/../traces")) == 8
        assert aside.exists()
        assert sorted(name[-8:] for name in os.listdir(folder)) == ["6Z.jsonl", "es.jsonl", "jsonl.gz", "jsonl.gz"]
        assert "but [Errno 5] Input/output error" in log.getvalue(), log.getvalue()
        """,
        folder,
        aside,
        call,
        paths=(paths.get(call, packed.with_suffix(".gz.tmp")),),
        inject=(f"{call}:error=EIO:when=1",),
    )


@pytest.mark.strace
def test_a_folder_that_cannot_be_listed(strace: Strace, tmp_path: Path) -> None:
    """What was put aside stays as it is, which the log says; stderr does not, and no span is lost."""
    folder = tmp_path / "traces"
    strace(
        """
        log = quiet()
        folder = sys.argv[1]
        exporter = FileExporter(folder + "/traces.jsonl", max_bytes=1, keep=0)
        tracer = Tracer("test", exporter)
        for _ in range(3):
            make(tracer, 1)
            assert tracer.flush(20)
            exporter._file._rotation.wait(20)
        assert "Input/output error" in log.getvalue(), log.getvalue()
        try:
            os.listdir(folder)
        except OSError:
            pass  # each thread's first fails
        assert tracer.stats().exported == len(found(folder)) == 3
        """,
        folder,
        paths=(folder,),
        inject=("getdents64:error=EIO:when=1",),
    )


# --- synced ----------------------------------------------------------------------------------------------------------

SYNCED = """
tracer = Tracer("test", FileExporter(sys.argv[1], fsync=sys.argv[2], max_bytes=1000), batch_spans=4)
for _ in range(4):
    make(tracer, 4)
    assert tracer.flush(20)
if sys.argv[3]:
    while tracer._pipeline.exporter._file._unsynced:
        time.sleep(0.01)
    with tracer._pipeline.exporter._file._alone():
        pass  # whoever syncs it has done so
    os.access(sys.argv[1], os.F_OK)  # for the log
assert tracer.close(20)
"""


def calls_of(strace: Strace, path: Path, fsync: str, pause: str = "") -> str:
    """What was done: c(reated), w(ritten), r(enamed), s(ynced), f(older synced), C(losed), e(nd after a pause)."""
    _, log = strace(SYNCED, path, fsync, pause, paths=(), trace="openat,write,rename,fdatasync,fsync,close,access")
    told = ""
    for line in log:
        if str(path.parent) not in line:
            continue
        if "O_CREAT" in line:
            told += "c"
        elif line.startswith("fsync"):
            told += "f"
        elif line.startswith("access"):
            told += "e"
        elif line.startswith("close") and "jsonl" in line:
            told += "C"
        elif line.startswith(("write", "rename", "fdatasync")):
            told += {"w": "w", "r": "r", "f": "s"}[line[0]]
    return told


@pytest.mark.strace
@pytest.mark.parametrize(
    ("fsync", "expected"),
    [
        ("none", "c" + "w" + "r" + "cC" + "w" + "r" + "cC" + "w" + "r" + "cC" + "w" + "C"),
        # Whatever is written is synced before anything else; the folder when a file is made, or renamed and made.
        ("batch", "cf" + "ws" + "r" + "cfC" + "ws" + "r" + "cfC" + "ws" + "r" + "cfC" + "ws" + "C"),
    ],
)
def test_what_is_synced(strace: Strace, tmp_path: Path, fsync: str, expected: str) -> None:
    """Scenario 27: nothing, or every batch; a file that is put aside too."""
    assert calls_of(strace, tmp_path / "traces.jsonl", fsync) == expected


@pytest.mark.strace
def test_what_is_synced_within_a_second(strace: Strace, tmp_path: Path) -> None:
    """Scenario 27: a second after it was written, without another batch or the end; at the latest when it is left."""
    told = calls_of(strace, tmp_path / "traces.jsonl", "interval", pause="e")
    assert told.replace("s", "") == "cf" + "w" + "r" + "cfC" + "w" + "r" + "cfC" + "w" + "r" + "cfC" + "w" + "eC"
    assert all("s" in left for left in re.findall("w[^C]*C", told)), told
    assert told.endswith("wseC"), told


@pytest.mark.strace
def test_a_new_folder_is_synced_into_its_own(strace: Strace, tmp_path: Path) -> None:
    """Scenario 27: else the folder may be gone with all that is in it."""
    folder = tmp_path / "new"
    _, log = strace(SYNCED, folder / "traces.jsonl", "batch", "", paths=(), trace="fsync")
    assert sum(line.startswith("fsync") and f"<{tmp_path}>" in line for line in log) == 1
